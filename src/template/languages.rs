//! From files to the engine's templates: one layout for all languages, and the words of each.
//!
//! ```text
//! mail/base.html + mail/de/receipt.mail -> mail/de/receipt.html, likewise .txt and .subject
//! pages/pay.html + pages/de/words.html  -> pages/de/pay.html
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::overrides::split;
use super::{FALLBACK_LOCALE, SHARED_STEMS, Sources, TemplateError};

/// What a mail is made of.
pub(super) const PARTS: [&str; 3] = ["subject", "txt", "html"];

/// One template of the engine.
pub(super) struct Made {
    /// Its text.
    pub text: Cow<'static, str>,
    /// The file it was made of.
    pub source: String,
}

/// All templates of the engine. What a file says by its full name goes before what would be made.
pub(super) fn expand(sources: &Sources) -> Result<BTreeMap<String, Made>, TemplateError> {
    let mut made = BTreeMap::new();
    for (name, source) in sources {
        for (part, layout) in parts(name) {
            made.insert(part, with_layout(&layout, &source.text, name));
        }
    }
    for locale in locales(sources, "pages") {
        for (name, file) in sources.keys().filter_map(|name| Some((name, neutral_page(name)?))) {
            made.insert(format!("pages/{locale}/{file}"), with_layout(name, "", name));
        }
    }
    for (name, source) in sources.iter().filter(|(name, _)| !name.ends_with(".mail")) {
        made.insert(name.clone(), Made { text: source.text.clone(), source: name.clone() });
    }
    for (family, file) in [("mail", "words.txt"), ("pages", "words.html")] {
        for locale in locales(sources, family) {
            let words = words_of(sources, family, &locale, file)?;
            let text = sources[&words].text.clone();
            made.insert(format!("{family}/{locale}/{file}"), Made { text, source: words });
        }
    }
    Ok(made)
}

/// Stands on the first line, so that the lines of the file keep their numbers.
fn with_layout(layout: &str, text: &str, source: &str) -> Made {
    let text = Cow::Owned(format!("{{% extends \"{layout}\" %}}{text}"));
    Made { text, source: source.to_owned() }
}

/// The templates a file of words becomes, each with its layout.
pub(super) fn parts(name: &str) -> Vec<(String, String)> {
    let Some(stem) = name.strip_suffix(".mail") else { return Vec::new() };
    PARTS.iter().map(|part| (format!("{stem}.{part}"), format!("mail/base.{part}"))).collect()
}

/// `pay.html` of `pages/pay.html`, a page in whatever language.
pub(super) fn neutral_page(name: &str) -> Option<&str> {
    let file = name.strip_prefix("pages/").filter(|file| !file.contains('/'))?;
    let stem = file.split('.').next()?;
    (!SHARED_STEMS.contains(&stem)).then_some(file)
}

/// Every language that has a file.
fn locales(sources: &Sources, family: &str) -> Vec<String> {
    let of = |name: &String| split(name).filter(|found| found.0 == family).map(|found| found.1.to_owned());
    let mut locales: Vec<String> = sources.keys().filter_map(of).collect();
    locales.dedup();
    locales
}

/// `de-AT` may speak with the words of `de`; a language without words is a mistake.
fn words_of(sources: &Sources, family: &str, locale: &str, file: &str) -> Result<String, TemplateError> {
    let mut tag = locale;
    loop {
        let name = format!("{family}/{tag}/{file}");
        if sources.contains_key(&name) {
            return Ok(name);
        }
        let Some(cut) = tag.rfind('-') else { break };
        tag = &tag[..cut];
    }
    let of_locale = format!("{family}/{locale}/");
    let present = sources.keys().find(|name| name.starts_with(&of_locale)).cloned().unwrap_or(of_locale);
    debug_assert_ne!(tag, FALLBACK_LOCALE, "built in");
    Err(TemplateError::Incomplete { present, missing: format!("{family}/{tag}/{file}") })
}
