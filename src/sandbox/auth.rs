//! Keys and versions of the API.

use std::sync::LazyLock;

use super::errors::ApiError;
use super::http::Request;
use super::state::State;

/// Oldest first, which is also the order of their texts.
static VERSIONS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    include_str!("../../data/stripe_versions.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// Takes any test key. A live key is refused in words that name the danger.
pub(super) fn check_key(state: &State, request: &Request) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::new(401, "invalid_request_error", message));
    let Some(key) = request.header_text("authorization").and_then(key_of) else {
        return refuse(
            "You did not provide an API key. Send it as 'Authorization: Bearer YOUR_SECRET_KEY'.".into(),
        );
    };
    if key.starts_with("sk_live_") || key.starts_with("rk_live_") {
        let message = "This is the recurd sandbox, not Stripe: it refuses live keys. Nothing was charged. Use a key that \
                       begins with sk_test_, and treat the live key as seen by this machine.";
        return refuse(message.into());
    }
    if !key.starts_with("sk_test_") && !key.starts_with("rk_test_") {
        let start: String = key.chars().take(8).collect();
        return refuse(format!("Invalid API Key provided: {start}****"));
    }
    if state.options.revoked_keys.contains(&key) {
        return refuse("Expired API Key provided.".into());
    }
    Ok(())
}

fn key_of(header: &str) -> Option<String> {
    if let Some(key) = header.strip_prefix("Bearer ") {
        return Some(key.trim().to_owned()).filter(|key| !key.is_empty());
    }
    let text = String::from_utf8(base64(header.strip_prefix("Basic ")?.trim())?).ok()?;
    text.split(':').next().filter(|key| !key.is_empty()).map(str::to_owned)
}

/// Decodes Base64; the only place that needs it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(out)
}

/// The version that this request asks for.
pub(super) fn version(state: &State, request: &Request) -> Result<String, ApiError> {
    let Some(asked) = request.header_text("stripe-version") else {
        return Ok(state.options.api_version.clone());
    };
    if is_version(asked) {
        return Ok(asked.to_owned());
    }
    Err(ApiError::invalid(format!("Invalid Stripe API version: {asked}")))
}

/// Whether the sandbox knows this version.
pub(super) fn is_version(text: &str) -> bool {
    VERSIONS.binary_search(&text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        assert!(VERSIONS.is_sorted() && is_version("2026-05-27.dahlia") && !is_version("2026-05-27"));
    }

    #[test]
    fn basic_keys_are_read() {
        assert_eq!(key_of("Basic c2tfdGVzdF8xOg==").as_deref(), Some("sk_test_1"));
        assert_eq!(key_of("Bearer sk_test_1").as_deref(), Some("sk_test_1"));
        assert_eq!(key_of("Basic ????"), None);
    }
}
