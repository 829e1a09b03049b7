//! Webhooks: whether a delivery is Stripe's, and what it says. <https://docs.stripe.com/webhooks/signature>
//!
//! The signature is checked over the raw bytes, before anything is parsed.

use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::events::Event;

/// Limit: Stripe signs once per active secret, and there are two while one is rolled. Each costs a hash of the body.
const SIGNATURES_MAX: usize = 8;

/// Why a delivery is not taken for Stripe's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not of the form `t=...,v1=...`.
    #[error("the Stripe-Signature header is malformed")]
    Malformed,
    /// No secret of ours made any of its signatures.
    #[error("no signature matches: forged, re-encoded on its way, or a secret that is not configured")]
    NoMatch,
    /// Truly Stripe's, but too old or from the future: a replay, or a clock that is wrong.
    #[error(
        "the signature is genuine but {skew_secs} seconds old, which is outside the tolerance: check the clock"
    )]
    TimestampOutsideTolerance {
        /// Our clock minus the signature's, in seconds; negative for one from the future.
        skew_secs: i64,
    },
}

/// Checks the `Stripe-Signature` header of a delivery.
///
/// Any `v1` made with any of the secrets will do (there are several of both while a secret is rolled); other
/// schemes are ignored. Comparison takes constant time.
///
/// # Errors
/// [`SignatureError`]; answer 400.
pub fn verify(
    raw: &[u8],
    header: &str,
    secrets: &[SecretString],
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), SignatureError> {
    let signed = Signed::parse(header).ok_or(SignatureError::Malformed)?;
    let text = signed_text(signed.timestamp, raw);
    let genuine = secrets
        .iter()
        .map(key)
        .any(|key| signed.signatures.iter().any(|signature| hmac::verify(&key, &text, signature).is_ok()));
    if !genuine {
        return Err(SignatureError::NoMatch);
    }
    let skew_secs = now.as_second().saturating_sub(signed.unix_secs);
    if skew_secs.unsigned_abs() > tolerance.as_secs() {
        return Err(SignatureError::TimestampOutsideTolerance { skew_secs });
    }
    Ok(())
}

/// The header Stripe would send for this body: for tests, and for a sandbox of one's own.
#[must_use]
pub fn sign(raw: &[u8], secret: &SecretString, at: Timestamp) -> String {
    let timestamp = at.as_second().to_string();
    let signature = hmac::sign(&key(secret), &signed_text(&timestamp, raw));
    format!("t={timestamp},v1={}", to_hex(signature.as_ref()))
}

/// The key is the whole secret as it stands, `whsec_` included.
fn key(secret: &SecretString) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes())
}

/// The timestamp as it was sent, a full stop, the raw body.
fn signed_text(timestamp: &str, raw: &[u8]) -> Vec<u8> {
    [timestamp.as_bytes(), b".", raw].concat()
}

struct Signed<'a> {
    timestamp: &'a str,
    unix_secs: i64,
    signatures: Vec<[u8; 32]>,
}

impl<'a> Signed<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for item in header.split(',') {
            match item.split_once('=')? {
                ("t", text) if timestamp.is_none() => timestamp = Some(text),
                ("t", _) => return None,
                ("v1", _) if signatures.len() == SIGNATURES_MAX => return None,
                ("v1", hex) => signatures.push(from_hex(hex)?),
                _ => {}
            }
        }
        let timestamp = timestamp.filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self { timestamp, unix_secs: timestamp.parse().ok()?, signatures })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Lowercase only, as Stripe writes it.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Why a genuine delivery cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A thin event of Stripe's v2 destinations: it has no object. The endpoint is set up wrongly.
    #[error("this is a thin event: point the endpoint at snapshot events (API v1) instead")]
    Thin,
    /// Not an event.
    #[error("not an event: {0}")]
    Malformed(String),
}

/// Reads a delivery whose signature was checked.
///
/// # Errors
/// [`EventError`].
pub fn parse_event(raw: &[u8]) -> Result<Event, EventError> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        object: Option<std::borrow::Cow<'a, str>>,
    }
    let malformed = |e: serde_json::Error| {
        EventError::Malformed(format!("{:?} error at line {} column {}", e.classify(), e.line(), e.column()))
    };
    let kind: Kind = serde_json::from_slice(raw).map_err(malformed)?;
    match kind.object.as_deref() {
        Some("event") => serde_json::from_slice(raw).map_err(malformed),
        Some("v2.core.event") => Err(EventError::Thin),
        _ => Err(EventError::Malformed("its `object` is not `event`".to_owned())),
    }
}
