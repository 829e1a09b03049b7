//! The operator's own templates: files named like the built-in ones, and further languages.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use super::languages::{PARTS, neutral_page, parts};
use super::{FALLBACK_LOCALE, SHARED_STEMS, Source, Sources, TemplateError, built_in};
use crate::nearest::nearest;

/// Limit: a template is a page of text; larger files are something else.
const TEMPLATE_BYTES_MAX: u64 = 256 * 1024;
/// Limit: `family/locale/file` is three levels; links in circles end here.
const DIR_LEVELS_MAX: usize = 3;

/// Reads every file below `dir` into `sources`.
pub(super) fn read(dir: &Path, sources: &mut Sources) -> Result<(), TemplateError> {
    let mut files = Vec::new();
    walk(dir, "", DIR_LEVELS_MAX, &mut files)?;
    for (name, path) in files {
        check_name(&name, &path)?;
        let text = Cow::Owned(read_file(&path)?);
        sources.insert(name, Source { text, path: Some(path) });
    }
    check_complete(sources)
}

fn walk(
    dir: &Path,
    prefix: &str,
    levels: usize,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), TemplateError> {
    let unreadable = |source| TemplateError::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let file_name = entry.file_name().to_string_lossy().into_owned();
        // Kubernetes mounts a ConfigMap through hidden directories, and editors leave hidden files.
        if file_name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{file_name}");
        // Follows links, since a mounted ConfigMap consists of them.
        let facts = fs::metadata(&path);
        if facts.map_err(|source| TemplateError::Read { path: path.clone(), source })?.is_dir() {
            if levels == 0 {
                return Err(TemplateError::UnknownName { hint: suggestion(&name), path });
            }
            walk(&path, &format!("{name}/"), levels - 1, files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<String, TemplateError> {
    let unreadable = |source| TemplateError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::TooLarge { path: path.to_owned(), limit: TEMPLATE_BYTES_MAX });
    }
    fs::read_to_string(path).map_err(unreadable)
}

/// A name is known when it is built in, or would be in another language.
fn check_name(name: &str, path: &Path) -> Result<(), TemplateError> {
    let known = match split(name) {
        Some((family, locale, file)) => {
            let canonical = canonical_locale(locale).is_some_and(|canonical| canonical == locale);
            canonical && is_built_in(&format!("{family}/{FALLBACK_LOCALE}/{file}"))
        }
        None => is_built_in(name),
    };
    if known {
        return Ok(());
    }
    Err(TemplateError::UnknownName { hint: suggestion(name), path: path.to_owned() })
}

pub(super) fn split(name: &str) -> Option<(&str, &str, &str)> {
    let (family, rest) = name.split_once('/')?;
    let (locale, file) = rest.split_once('/')?;
    Some((family, locale, file))
}

/// Every name a file may have, in English.
fn names() -> impl Iterator<Item = String> {
    built_in::TEMPLATES.iter().flat_map(|(name, _)| {
        let page = neutral_page(name).map(|file| format!("pages/{FALLBACK_LOCALE}/{file}"));
        let parts = parts(name).into_iter().map(|(part, _)| part);
        std::iter::once((*name).to_owned()).chain(page).chain(parts)
    })
}

fn is_built_in(name: &str) -> bool {
    names().any(|known| known == name)
}

fn suggestion(name: &str) -> String {
    let english = |name: &String| split(name).is_none_or(|(_, locale, _)| locale == FALLBACK_LOCALE);
    match nearest(name, names().filter(english), 0.8) {
        Some(known) => format!("; did you mean {known}?"),
        None => "; names look like mail/en/receipt.mail or pages/en/words.html".to_owned(),
    }
}

/// A mail is a file of words, or a subject, a text and an HTML part: all in one language or none.
fn check_complete(sources: &Sources) -> Result<(), TemplateError> {
    for name in sources.keys().filter(|name| name.starts_with("mail/")) {
        let Some((family, locale, file)) = split(name) else { continue };
        let Some((stem, _)) = file.rsplit_once('.') else { continue };
        let words = format!("{family}/{locale}/{stem}.mail");
        if SHARED_STEMS.contains(&stem) || sources.contains_key(&words) {
            continue;
        }
        for part in PARTS {
            let missing = format!("{family}/{locale}/{stem}.{part}");
            let is_a_part = is_built_in(&format!("{family}/{FALLBACK_LOCALE}/{stem}.{part}"));
            if is_a_part && !sources.contains_key(&missing) {
                return Err(TemplateError::Incomplete { present: name.clone(), missing });
            }
        }
    }
    Ok(())
}

/// `DE_at` is `de-AT`: language small, region large, script with a capital. `None` for what is no tag.
pub(super) fn canonical_locale(wanted: &str) -> Option<String> {
    let mut parts = wanted.split(['-', '_']);
    let language = parts.next().unwrap_or("").to_ascii_lowercase();
    if !(2..=3).contains(&language.len()) || !language.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let rest = parts.filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    Some(rest.fold(language, |tag, part| match part.len() {
        2 => format!("{tag}-{}", part.to_ascii_uppercase()),
        4 => format!("{tag}-{}{}", part[..1].to_ascii_uppercase(), part[1..].to_ascii_lowercase()),
        _ => format!("{tag}-{}", part.to_ascii_lowercase()),
    }))
}
