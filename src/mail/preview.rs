//! Every mail with sample data, as files to look at.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use super::context::Brand;
use super::format;
use super::letter::{self, AlarmContext, Letter, MailContext, MailName};
use crate::billing::money::Money;
use crate::template::{FALLBACK_LOCALE, TemplateError, Templates, samples};

/// Why the previews could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file.
    #[error("the preview could not be written: {0}")]
    File(#[from] io::Error),
    /// The sample data do not fit the mails.
    #[error("the sample data cannot be read: {0}")]
    Samples(#[from] serde_json::Error),
}

/// Every mail with every sample in one language: name, number of the sample, letter.
///
/// # Errors
/// [`PreviewError`] from templates and samples.
pub fn letters(
    templates: &Templates,
    locale: &str,
) -> Result<Vec<(&'static str, usize, Letter)>, PreviewError> {
    let mut written = Vec::new();
    for name in MailName::ALL {
        for (at, context) in contexts(templates, name, locale)?.into_iter().enumerate() {
            written.push((name.as_str(), at + 1, letter::write(templates, name, &context)?));
        }
    }
    for (at, sample) in samples("mail", "operator_alarm").into_iter().enumerate() {
        let context: AlarmContext = serde_json::from_value(sample)?;
        if locale == FALLBACK_LOCALE {
            written.push(("operator_alarm", at + 1, letter::write_alarm(templates, &context)?));
        }
    }
    Ok(written)
}

/// One mail with its first sample, from this merchant.
///
/// # Errors
/// [`PreviewError`] from templates and samples.
pub fn letter(
    templates: &Templates,
    name: MailName,
    locale: &str,
    brand: &Brand,
) -> Result<Option<Letter>, PreviewError> {
    let Some(context) = contexts(templates, name, locale)?.into_iter().next() else { return Ok(None) };
    let context = MailContext { brand: brand.clone(), ..context };
    Ok(Some(letter::write(templates, name, &context)?))
}

fn contexts(templates: &Templates, name: MailName, locale: &str) -> Result<Vec<MailContext>, PreviewError> {
    let locale = letter::regional_locale(templates, name, locale);
    let samples = samples("mail", name.as_str()).into_iter();
    let read = |sample| {
        let context: MailContext = serde_json::from_value(localized(sample, &locale))?;
        Ok(MailContext { locale: locale.clone(), ..context })
    };
    samples.map(read).collect()
}

/// Samples have amounts and dates as in `29.00 USD` and `2025-11-21`; here they get the form people read.
#[must_use]
pub fn localized(sample: Json, locale: &str) -> Json {
    match sample {
        Json::String(text) => Json::String(for_people(text, locale)),
        Json::Array(list) => list.into_iter().map(|one| localized(one, locale)).collect(),
        Json::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, localized(value, locale))).collect()
        }
        other => other,
    }
}

fn for_people(text: String, locale: &str) -> String {
    if let Ok(money) = text.parse::<Money>() {
        return format::amount(money, locale);
    }
    let day = text.parse::<jiff::civil::Date>().and_then(|day| day.to_zoned(TimeZone::UTC));
    day.map_or(text, |day| format::date(day.timestamp(), &TimeZone::UTC, locale))
}

/// Every language that has mails.
#[must_use]
pub fn locales(templates: &Templates) -> Vec<String> {
    templates.locales("mail", "words.txt")
}

/// Writes every mail with sample data into `dir`, as `{language}-{mail}-{sample}.txt` and `.html`, beside an
/// `index.html`, and returns the files.
///
/// # Errors
/// [`PreviewError`].
pub fn write_all(
    dir: &Path,
    templates: &Templates,
    locales: &[String],
) -> Result<Vec<PathBuf>, PreviewError> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    let mut index = String::from(INDEX);
    for locale in locales {
        let _ = write!(index, "<h2>{locale}</h2>\n<ul>\n");
        for (name, number, letter) in letters(templates, locale)? {
            let stem = format!("{locale}-{name}-{number}");
            let text = dir.join(format!("{stem}.txt"));
            fs::write(&text, format!("Subject: {}\n\n{}", letter.subject, letter.text))?;
            files.push(text);
            let _ = write!(index, "<li>{name} {number}: <a href=\"{stem}.txt\">text</a>");
            if let Some(html) = letter.html {
                let page = dir.join(format!("{stem}.html"));
                fs::write(&page, html)?;
                files.push(page);
                let _ = write!(index, " <a href=\"{stem}.html\">HTML</a>");
            }
            index.push_str("</li>\n");
        }
        index.push_str("</ul>\n");
    }
    let path = dir.join("index.html");
    fs::write(&path, index)?;
    files.push(path);
    Ok(files)
}

const INDEX: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Mails</title>\n\
    <style>body { font-family: sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em }</style>\n<h1>Mails</h1>\n";
