//! What the browser is told not to do.

use ring::digest;

use crate::mail::{Brand, Link};

/// The headers of every page.
pub(super) fn headers(style: &str, brand: &Brand, checkout_origins: &[Link]) -> Vec<(&'static str, String)> {
    let images = brand.logo_url.as_ref().map_or("'none'", Link::origin);
    let forms = checkout_origins.iter().map(|link| format!(" {}", link.origin())).collect::<String>();
    let policy = format!(
        "default-src 'none'; style-src '{}'; img-src {images}; form-action 'self'{forms}; \
         base-uri 'none'; frame-ancestors 'none'",
        style_source(style)
    );
    vec![
        ("content-type", "text/html; charset=utf-8".to_owned()),
        ("content-security-policy", policy),
        ("referrer-policy", "no-referrer".to_owned()),
        ("x-robots-tag", "noindex, nofollow".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
    ]
}

/// How a content security policy names an inline stylesheet: by its hash.
#[must_use]
pub fn style_source(style: &str) -> String {
    format!("sha256-{}", base64(digest::digest(&digest::SHA256, style.as_bytes()).as_ref()))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain([&0; 2]).take(3).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        for at in 0..4 {
            let letter = LETTERS[group >> (18 - 6 * at) & 63];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
