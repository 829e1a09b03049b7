//! Layers: built-in defaults < the file < `RECURD__SECTION__KEY` in the environment < `*_file` for secrets.

use std::collections::BTreeMap;
use std::path::Path;

use config::{File, FileFormat, Value, ValueKind};

use super::ConfigError;
use super::raw::RawConfig;
use crate::nearest::nearest;

/// Keys whose value may be read from a file: `KEY_file` (systemd credentials, Kubernetes secrets).
const SECRETS: [(&str, &str); 4] =
    [("database", "url"), ("stripe", "secret_key"), ("stripe", "webhook_secrets"), ("mail", "password")];

/// Reads all layers into the raw form. `env` is the process environment (tests pass their own).
pub(super) fn load(path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<RawConfig, ConfigError> {
    let file = path.map(|path| path.display().to_string()).unwrap_or_else(|| "the environment".to_owned());
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?,
        None => String::new(),
    };
    let defaults = File::from_str(include_str!("defaults.toml"), FileFormat::Toml);
    let merged = config::Config::builder()
        .add_source(defaults)
        .add_source(File::from_str(&text, FileFormat::Toml))
        .build()
        .map_err(|error| ConfigError::Syntax { file: file.clone(), message: error.to_string() })?;
    let mut tree = merged
        .cache
        .into_table()
        .map_err(|error| ConfigError::Syntax { file: file.clone(), message: error.to_string() })?;
    overlay_environment(&mut tree, env)?;
    read_secret_files(&mut tree)?;
    let json = to_json(Value::new(None, ValueKind::Table(tree)));
    serde_path_to_error::deserialize(json).map_err(|error| {
        let key = error.path().to_string();
        let message = friendly(&error.into_inner().to_string());
        let (file, line) = place(path, env, &key, &message);
        ConfigError::Key { file, line, key, message }
    })
}

/// Where a key was given: a variable in the environment, or the file and its line.
pub(super) fn place(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
    key: &str,
    message: &str,
) -> (String, Option<usize>) {
    let variable = format!("RECURD__{}", key.replace('.', "__").to_uppercase());
    let variable =
        [variable.clone(), format!("{variable}_FILE")].into_iter().find(|name| env.contains_key(name));
    match (variable, path) {
        (Some(variable), _) => (variable, None),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            (path.display().to_string(), line_of(&text, key, message))
        }
        (None, None) => ("the environment".to_owned(), None),
    }
}

/// `RECURD__STRIPE__API_BASE=...` sets `stripe.api_base`. The kind follows the value it replaces.
fn overlay_environment(
    tree: &mut config::Map<String, Value>,
    env: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for (name, text) in env {
        let Some(rest) = name.strip_prefix("RECURD__") else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let mut table = &mut *tree;
        let (last, sections) = path.split_last().ok_or_else(|| ConfigError::Environment(name.clone()))?;
        for section in sections {
            let entry = table
                .entry(section.clone())
                .or_insert_with(|| Value::new(None, ValueKind::Table(config::Map::new())));
            let ValueKind::Table(inner) = &mut entry.kind else {
                return Err(ConfigError::Environment(name.clone()));
            };
            table = inner;
        }
        let kind = match table.get(last).map(|value| &value.kind) {
            Some(ValueKind::I64(_)) => {
                ValueKind::I64(text.trim().parse().map_err(|_| ConfigError::Environment(name.clone()))?)
            }
            Some(ValueKind::Boolean(_)) => {
                ValueKind::Boolean(text.trim().parse().map_err(|_| ConfigError::Environment(name.clone()))?)
            }
            _ => ValueKind::String(text.clone()),
        };
        table.insert(last.clone(), Value::new(None, kind));
    }
    Ok(())
}

fn read_secret_files(tree: &mut config::Map<String, Value>) -> Result<(), ConfigError> {
    for (section, key) in SECRETS {
        let Some(ValueKind::Table(table)) = tree.get_mut(section).map(|value| &mut value.kind) else {
            continue;
        };
        let Some(path) = table.remove(&format!("{key}_file")) else { continue };
        let path = path.to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Unreadable { path: path.clone().into(), source })?;
        let kind = ValueKind::String(text.trim().to_owned());
        table.insert(key.to_owned(), Value::new(None, kind));
    }
    Ok(())
}

/// Keeps numbers numbers and text text, so that `price = 29.00` is refused instead of becoming "29".
fn to_json(value: Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value.kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(value) => value.into(),
        ValueKind::I64(value) => value.into(),
        ValueKind::I128(value) => value.to_string().into(),
        ValueKind::U64(value) => value.into(),
        ValueKind::U128(value) => value.to_string().into(),
        ValueKind::Float(value) => value.into(),
        ValueKind::String(value) => value.into(),
        ValueKind::Table(table) => table.into_iter().map(|(key, value)| (key, to_json(value))).collect(),
        ValueKind::Array(values) => values.into_iter().map(to_json).collect(),
    }
}

/// Turns serde's sentences into ours, with the nearest known word.
fn friendly(message: &str) -> String {
    let mut words = message.split('`');
    let (kind, wrong) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let known: Vec<&str> = words.skip(1).step_by(2).collect();
    if kind.starts_with("unknown field") || kind.starts_with("unknown variant") {
        let hint = nearest(wrong, &known, 0.6).map(|near| format!("; did you mean `{near}`?"));
        let what = if kind.contains("field") { "is not a key here" } else { "is not a value here" };
        return format!(
            "`{wrong}` {what}{}",
            hint.unwrap_or_else(|| format!("; known: {}", known.join(", ")))
        );
    }
    if message.starts_with("invalid type: floating point") && message.contains("expected a string") {
        return "numbers with a point are not exact; write the amount as text, such as \"29.00 USD\""
            .to_owned();
    }
    message.to_owned()
}

/// The line on which a dotted key (or the unknown word of a message) stands, counted from 1.
fn line_of(text: &str, key: &str, message: &str) -> Option<usize> {
    let key = key.split('[').next().unwrap_or_default();
    let unknown = message.strip_prefix('`').and_then(|rest| rest.split('`').next());
    let mut section = String::new();
    let mut section_line = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            name.clone_into(&mut section);
            if section == key || section.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')) {
                section_line.get_or_insert(index + 1);
            }
            continue;
        }
        let name = line.split('=').next().unwrap_or_default().trim().trim_matches('"');
        let inside = !section.is_empty() && key.starts_with(&section);
        let is_word = |word: &str| {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            inside && words.into_iter().any(|one| one == word)
        };
        let exact = if section.is_empty() { name == key } else { format!("{section}.{name}") == key };
        match unknown {
            Some(word) if is_word(word) => return Some(index + 1),
            None if exact => return Some(index + 1),
            Some(_) | None => {}
        }
    }
    section_line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_one() {
        let text = friendly("unknown field `retires`, expected one of `after`, `retry`, `mail`");
        assert_eq!(text, "`retires` is not a key here; did you mean `retry`?");
    }

    #[test]
    fn lines_are_found() {
        let text = "[stripe]\nmode = \"test\"\n\n[plans.pro]\nprice = 29.00\n";
        assert_eq!(line_of(text, "plans.pro.price", ""), Some(5));
        assert_eq!(line_of(text, "plans.pro", "missing field"), Some(4));
        assert_eq!(line_of("[http]\nlissen = \"\"\n", "http", "`lissen` is not a key here"), Some(2));
    }
}
