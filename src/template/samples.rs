//! Sample data: what templates are tried with when they are loaded, and what `recurd mail preview` shows.
//!
//! The data stand beside the templates as JSON, one list for each mail or page (`*` for those that have none),
//! so that this module needs to know nothing about mails or pages. Tests check that the typed contexts of
//! those modules write exactly this shape.

use std::collections::BTreeSet;

use minijinja::Value;
use minijinja::value::Serde;
use serde_json::Value as Json;

use super::overrides::split;
use super::{FALLBACK_LOCALE, Loaded, SHARED_STEMS, TemplateError, broken};
use crate::nearest::nearest;

const SAMPLES: &[(&str, &str)] = &[
    ("mail", include_str!("../mail/templates/samples.json")),
    ("pages", include_str!("../http/pages/samples.json")),
];

/// Words of the engine itself and the layouts that are no values of ours.
const ENGINE_WORDS: [&str; 8] = ["words", "loop", "self", "super", "caller", "range", "dict", "namespace"];

/// The sample contexts of one mail or page, such as `("mail", "receipt")`.
#[must_use]
pub fn samples(family: &str, stem: &str) -> Vec<Json> {
    let text = SAMPLES.iter().find(|(name, _)| *name == family).map_or("{}", |(_, text)| text);
    let all: Json = serde_json::from_str(text).unwrap_or_default();
    let list = all.get(stem).or_else(|| all.get("*"));
    list.and_then(Json::as_array).cloned().unwrap_or_default()
}

/// Renders every mail and page with each of its samples, and looks for names no sample has.
pub(super) fn try_all(loaded: &Loaded) -> Result<(), TemplateError> {
    for name in loaded.made_of.keys() {
        let Some((family, stem)) = family_and_stem(name) else { continue };
        // The general samples too, when they are of the same shape: they take other branches.
        let own = samples(family, stem);
        let general = samples(family, "*").into_iter().filter(|general| same_keys(general, &own));
        let locale = split(name).map(|(_, locale, _)| locale);
        let localized = |context| in_language(context, locale.unwrap_or(FALLBACK_LOCALE));
        let contexts: Vec<Json> = general.chain(own.iter().cloned()).map(localized).collect();
        check_names(loaded, name, &contexts)?;
        if SHARED_STEMS.contains(&stem) || locale.is_none() {
            continue;
        }
        for context in &contexts {
            loaded.render(name, Value::from(Serde(context)))?;
        }
    }
    Ok(())
}

fn in_language(mut context: Json, locale: &str) -> Json {
    if let Some(tag) = context.get_mut("locale") {
        *tag = locale.into();
    }
    context
}

fn same_keys(general: &Json, own: &[Json]) -> bool {
    let keys = |json: &Json| json.as_object().map(|object| object.keys().cloned().collect::<BTreeSet<_>>());
    own.first().is_none_or(|own| keys(own) == keys(general))
}

fn family_and_stem(name: &str) -> Option<(&str, &str)> {
    let (family, rest) = name.split_once('/')?;
    let stem = rest.rsplit('/').next()?.split('.').next()?;
    Some((family, stem))
}

/// Also finds the misspelt name in a branch that no sample takes.
fn check_names(loaded: &Loaded, name: &str, contexts: &[Json]) -> Result<(), TemplateError> {
    let template = loaded
        .engine
        .get_template(name)
        .map_err(|error| broken(&loaded.sources, &loaded.made_of, name, &error))?;
    let asked: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    let known: BTreeSet<String> = contexts.iter().flat_map(|context| paths(context, "")).collect();
    for path in asked {
        let first = path.split('.').next().unwrap_or(&path);
        if ENGINE_WORDS.contains(&first) || known.contains(&path) {
            continue;
        }
        return Err(unknown_name(loaded, name, &path, &known));
    }
    Ok(())
}

fn unknown_name(loaded: &Loaded, name: &str, path: &str, known: &BTreeSet<String>) -> TemplateError {
    let name = loaded.made_of.get(name).map_or(name, String::as_str);
    let source = &loaded.sources[name];
    let file = match &source.path {
        Some(file) => file.display().to_string(),
        None => format!("built-in {name}"),
    };
    let line = source.text.lines().position(|line| line.contains(path)).map_or(0, |at| at + 1);
    let hint =
        nearest(path, known, 0.0).map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
    TemplateError::Broken { file, line, detail: format!("`{path}` is not known here{hint}") }
}

/// Every dotted name in a JSON object: `customer`, `customer.name`.
fn paths(json: &Json, prefix: &str) -> Vec<String> {
    let Some(object) = json.as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in object {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        found.extend(paths(value, &path));
        found.push(path);
    }
    found
}
