//! How a value is written into a template: cleaned always, escaped in HTML.

use std::borrow::Cow;

use minijinja::{AutoEscape, Error, ErrorKind, Output, State, Value};

/// Replaces control characters and line ends by blanks and drops characters that reorder or hide text.
///
/// What remains is one line. Joiners that scripts and emoji need stay.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| breaks_a_line(c) || hides(c)) {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|&c| !hides(c)).map(|c| if breaks_a_line(c) { ' ' } else { c }).collect()
}

fn breaks_a_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Direction overrides and isolates, zero-width blanks, annotation marks and tag characters.
fn hides(c: char) -> bool {
    matches!(c,
        '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a mail program may turn part of this into a link: a name that does is not a name.
///
/// Strangers can type any name into a sign-up form, with somebody else's address beside it.
#[must_use]
pub fn looks_like_a_link(text: &str) -> bool {
    let lower = text.to_lowercase();
    if lower.contains("www.") || lower.contains(['/', '\\', '@', '<', '>', ':']) {
        return true;
    }
    // "evil.example" and "evil.co.uk" are links, "J.R.R. Tolkien" and "St.John" are names.
    lower.split(|c: char| !c.is_alphanumeric() && !matches!(c, '.' | '-')).any(|word| {
        let mut labels = word.trim_matches('.').rsplit('.');
        let ending = labels.next().unwrap_or("");
        ending.chars().count() >= 2
            && ending.chars().all(char::is_alphabetic)
            && labels.any(|label| label.chars().count() >= 3)
    })
}

/// The engine calls this for each `{{ value }}`.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_none() || value.is_undefined() {
        let detail = "a value is empty here; put {% if .. %} around it";
        return Err(Error::new(ErrorKind::UndefinedError, detail));
    }
    let text = match value.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(value.to_string()),
    };
    let written = match state.auto_escape() {
        AutoEscape::Html if value.is_safe() => out.write_str(&text),
        AutoEscape::Html => write_html(out, &clean(&text)),
        _ => out.write_str(&clean(&text)),
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "the text could not be written"))
}

/// Escapes only what HTML needs. The engine's own escapes `/` too, which makes unreadable links.
fn write_html(out: &mut Output<'_>, text: &str) -> std::fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    out.write_str(rest)
}
