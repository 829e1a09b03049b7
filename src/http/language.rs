//! The language of whoever opens a page and is not known yet: what the browser prefers.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

/// Limit: a header longer than this prefers nothing.
const HEADER_BYTES_MAX: usize = 200;

/// A language tag, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Language(pub String);

impl<S: Sync> FromRequestParts<S> for Language {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let header = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Ok(first(header.unwrap_or("")))
    }
}

/// Browsers put the one they prefer first.
fn first(header: &str) -> Language {
    let tag = header.split([',', ';']).next().unwrap_or("").trim();
    Language(if header.len() > HEADER_BYTES_MAX { String::new() } else { tag.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_counts() {
        for (header, tag) in
            [("de-AT,de;q=0.9,en;q=0.5", "de-AT"), ("fr;q=0.8", "fr"), ("", ""), (&"a".repeat(500), "")]
        {
            assert_eq!(first(header), Language(tag.to_owned()), "{header}");
        }
    }
}
