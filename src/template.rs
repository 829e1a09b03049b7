//! Templates of mails and pages. The only place that knows the template engine.
//!
//! Layouts are one for all languages; each language has its words, a file for each mail and one for all pages.
//!
//! Every template is built in and can be replaced by a file of the same name in a directory of the
//! operator's. With such a file all of them are tried with sample data when they are loaded, so a mistake
//! is found by `recurd check` and not by the first customer whose card was declined.
//!
//! Invariant: values are data. Nothing a customer or a plan is called can add a line, a header, a tag or
//! a template expression: values lose control characters everywhere and are escaped in `.html`.

mod built_in;
mod languages;
mod overrides;
mod samples;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

pub use samples::samples;
pub use values::{clean, looks_like_a_link};

/// The language every template exists in, and the last one to be asked.
pub const FALLBACK_LOCALE: &str = "en";

/// Layouts and words: used by other templates, never sent for themselves.
const SHARED_STEMS: [&str; 3] = ["base", "parts", "words"];

/// Limit: a subject longer than this is cut; mail programs show far less.
const SUBJECT_CHARS_MAX: usize = 150;

/// What can be wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or directory could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that would replace nothing.
    #[error("{}: there is no template of this name{hint}", path.display())]
    UnknownName {
        /// The file.
        path: PathBuf,
        /// `; did you mean ...?`, or the names there are.
        hint: String,
    },
    /// A file too large to be a template.
    #[error("{}: a template may have at most {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A language that has one part of a mail but not the others.
    #[error("{missing} is missing: a mail is sent in one language, so {present} needs it beside it")]
    Incomplete {
        /// The part that exists.
        present: String,
        /// The part that does not.
        missing: String,
    },
    /// Wrong syntax, or a value the template asks for and does not get.
    #[error("{file}, line {line}: {detail}")]
    Broken {
        /// The file, or `built-in` and the template's name.
        file: String,
        /// The line in it; 0 where the engine does not know.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// A mail or page was asked for without something it cannot do without.
    #[error("{name} cannot be written: {detail}")]
    Missing {
        /// The mail or page.
        name: String,
        /// What is missing.
        detail: String,
    },
}

struct Source {
    text: Cow<'static, str>,
    /// The operator's file; `None` is built in.
    path: Option<PathBuf>,
}

type Sources = BTreeMap<String, Source>;

/// All templates, compiled, and tried where a file replaces one. Cloning is cheap.
#[derive(Clone)]
pub struct Templates {
    loaded: Arc<Loaded>,
    /// The language of those whose own is not there.
    default_locale: String,
}

struct Loaded {
    engine: Environment<'static>,
    sources: Sources,
    /// Which source each template of the engine was made of.
    made_of: BTreeMap<String, String>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").field("overridden", &self.overridden().collect::<Vec<_>>()).finish()
    }
}

impl Templates {
    /// Loads the built-in templates and what replaces them in `override_dir`; where something does, each is tried with
    /// sample data.
    ///
    /// # Errors
    /// The first [`TemplateError`] found, naming file and line.
    pub fn load(override_dir: Option<&Path>) -> Result<Self, TemplateError> {
        let mut sources: Sources = built_in::TEMPLATES
            .iter()
            .map(|&(name, text)| (name.to_owned(), Source { text: Cow::Borrowed(text), path: None }))
            .collect();
        if let Some(dir) = override_dir {
            overrides::read(dir, &mut sources)?;
        }
        let loaded = compile(sources)?;
        // The built-in ones by themselves are tried by the tests.
        if loaded.sources.values().any(|source| source.path.is_some()) {
            samples::try_all(&loaded)?;
        }
        Ok(Self { loaded: Arc::new(loaded), default_locale: FALLBACK_LOCALE.to_owned() })
    }

    /// The same templates, speaking `locale` to those whose own language is not there.
    #[must_use]
    pub fn with_default_locale(self, locale: &str) -> Self {
        Self { default_locale: locale.to_owned(), ..self }
    }

    /// The names of the built-in templates with their text: what an operator may copy and change.
    pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str)> {
        built_in::TEMPLATES.iter().copied()
    }

    /// The names of the templates that come from the operator's directory.
    pub fn overridden(&self) -> impl Iterator<Item = &str> {
        self.loaded.sources.iter().filter(|(_, source)| source.path.is_some()).map(|(name, _)| name.as_str())
    }

    /// The language in which `file` of `family` (`mail` or `pages`) exists: `de-AT`, else `de`, else the default's.
    #[must_use]
    pub fn locale(&self, family: &str, file: &str, wanted: &str) -> String {
        let found = [wanted, &self.default_locale].into_iter().find_map(|tag| self.find(family, file, tag));
        found.unwrap_or_else(|| FALLBACK_LOCALE.to_owned())
    }

    /// The language for amounts and dates beside it: that of the text, in the region that was asked for.
    #[must_use]
    pub fn regional_locale(&self, family: &str, file: &str, wanted: &str) -> String {
        let asked =
            [wanted, &self.default_locale].into_iter().find(|tag| self.find(family, file, tag).is_some());
        asked.and_then(overrides::canonical_locale).unwrap_or_else(|| FALLBACK_LOCALE.to_owned())
    }

    /// Every language that has `file`.
    #[must_use]
    pub fn locales(&self, family: &str, file: &str) -> Vec<String> {
        let of = |name: &str| match overrides::split(name) {
            Some((one, locale, rest)) if one == family && rest == file => Some(locale.to_owned()),
            _ => None,
        };
        self.loaded.made_of.keys().filter_map(|name| of(name)).collect()
    }

    fn find(&self, family: &str, file: &str, wanted: &str) -> Option<String> {
        let mut tag = overrides::canonical_locale(wanted)?;
        loop {
            if self.loaded.made_of.contains_key(&format!("{family}/{tag}/{file}")) {
                return Some(tag);
            }
            tag.truncate(tag.rfind('-')?);
        }
    }

    /// Renders one template by its name, such as `mail/en/receipt.txt`.
    ///
    /// # Errors
    /// [`TemplateError::Broken`] when a value is missing or the name is unknown.
    pub fn render(&self, name: &str, context: &impl Serialize) -> Result<String, TemplateError> {
        self.loaded.render(name, Value::from(Serde(context)))
    }
}

impl Loaded {
    fn render(&self, name: &str, context: Value) -> Result<String, TemplateError> {
        let rendered = self.engine.get_template(name).and_then(|template| template.render(context));
        match rendered {
            Ok(text) => Ok(tidy(name, text)),
            Err(error) => Err(broken(&self.sources, &self.made_of, name, &error)),
        }
    }
}

fn compile(sources: Sources) -> Result<Loaded, TemplateError> {
    let mut engine = Environment::new();
    let made = languages::expand(&sources)?;
    let made_of: BTreeMap<String, String> =
        made.iter().map(|(name, one)| (name.clone(), one.source.clone())).collect();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    engine.set_syntax(syntax.map_err(|error| broken(&sources, &made_of, "syntax", &error))?);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    engine.set_formatter(values::write);
    for (name, one) in made {
        let added = engine.add_template_owned(name.clone(), one.text);
        added.map_err(|error| broken(&sources, &made_of, &name, &error))?;
    }
    Ok(Loaded { engine, sources, made_of })
}

/// Names the file a person can open: the template that failed may be one that another includes.
fn broken(
    sources: &Sources,
    made_of: &BTreeMap<String, String>,
    name: &str,
    error: &minijinja::Error,
) -> TemplateError {
    let made = error.name().unwrap_or(name);
    let name = made_of.get(made).map_or(made, String::as_str);
    let mut detail = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let own_file = |name: &str| sources.get(name).and_then(|source| source.path.as_ref());
    // A built-in template breaks when the operator's words or layout lack something it uses.
    let shared = |name: &&String| {
        let stem = name.rsplit('/').next().and_then(|file| file.split('.').next()).unwrap_or("");
        SHARED_STEMS.contains(&stem)
    };
    if own_file(name).is_none()
        && let Some(path) = sources.keys().filter(shared).find_map(|name| own_file(name))
    {
        detail.push_str(&format!("; it uses {}", path.display()));
    }
    let file = own_file(name).map_or(format!("built-in {name}"), |path| path.display().to_string());
    TemplateError::Broken { file, line: error.line().unwrap_or(0), detail }
}

fn tidy(name: &str, text: String) -> String {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("subject") => tidy_subject(&text),
        Some("txt") => tidy_text(&text),
        _ => text,
    }
}

/// One line, whatever the template did.
fn tidy_subject(text: &str) -> String {
    let line = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SUBJECT_CHARS_MAX {
        return line;
    }
    let cut: String = line.chars().take(SUBJECT_CHARS_MAX - 1).collect();
    format!("{}…", cut.trim_end())
}

/// No trailing blanks, at most one empty line in a row.
fn tidy_text(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut empty_before = true;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() && empty_before {
            continue;
        }
        empty_before = line.is_empty();
        tidied.push_str(line);
        tidied.push('\n');
    }
    tidied.truncate(tidied.trim_end().len());
    tidied.push('\n');
    tidied
}

#[cfg(test)]
mod tests;
