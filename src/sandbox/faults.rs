//! Faults on demand: what goes wrong on the way to the sandbox, in it, or on the way back.

use std::time::Duration;

use serde_json::{Value, json};

use super::errors::ApiError;
use super::http::Request;
use super::state::State;

/// A fault in words:
///
/// ```text
/// not-sent                     no byte reaches the sandbox
/// no-answer [not-executed]     the connection closes without an answer
/// arrives-late TIME            no answer; the request arrives and runs later
/// cut BYTES                    executed; only the first bytes of the body arrive
/// late TIME                    executed at once, answered later; meanwhile the key is in use
/// 500|502|503|504 [not-executed] [retry=true|retry=false]
/// 500 forward TIME             answered 500; executed later after all
/// 409                          idempotency key in use
/// 429 [REASON]                 rate limit: global-rate, endpoint-rate, global-concurrency, ...
/// lock-timeout                 the object is held by another request
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No byte reaches the sandbox.
    NotSent,
    /// The connection closes without an answer.
    NoAnswer {
        /// Whether the request was carried out.
        executed: bool,
    },
    /// No answer; the request arrives later and is carried out then.
    ArrivesLate {
        /// How much later.
        by: Duration,
    },
    /// Carried out; the connection closes after so many bytes of the body.
    Cut {
        /// How many.
        bytes: usize,
    },
    /// Carried out at once, answered later.
    Late {
        /// How much later.
        by: Duration,
    },
    /// An answer from 500 to 599.
    Status {
        /// The status.
        status: u16,
        /// Whether the request was carried out.
        executed: bool,
        /// The header `Stripe-Should-Retry`.
        should_retry: Option<bool>,
    },
    /// Answered 500, carried out later after all.
    Forward {
        /// How much later.
        by: Duration,
    },
    /// 409: the idempotency key is in use.
    KeyInUse,
    /// 429 for a rate limit.
    RateLimited {
        /// The header `Stripe-Rate-Limited-Reason`.
        reason: &'static str,
    },
    /// 429: another request holds the object.
    LockTimeout,
}

/// Reasons Stripe names for a 429.
pub(super) const REASONS: [&str; 5] =
    ["global-rate", "endpoint-rate", "global-concurrency", "endpoint-concurrency", "resource-specific"];

impl Effect {
    /// Reads the words above.
    ///
    /// # Errors
    /// Says what was not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (first, rest) = words.split_first().ok_or("an empty fault")?;
        let executed = !rest.contains(&"not-executed");
        let time = || {
            rest.last().and_then(|word| duration(word)).ok_or(format!("{text:?} needs a time such as 90s"))
        };
        match *first {
            "not-sent" => Ok(Self::NotSent),
            "no-answer" => Ok(Self::NoAnswer { executed }),
            "arrives-late" => Ok(Self::ArrivesLate { by: time()? }),
            "late" => Ok(Self::Late { by: time()? }),
            "cut" => {
                let bytes = rest.first().and_then(|word| word.parse().ok());
                bytes.map(|bytes| Self::Cut { bytes }).ok_or(format!("{text:?} needs a number of bytes"))
            }
            "500" if rest.contains(&"forward") => Ok(Self::Forward { by: time()? }),
            "409" => Ok(Self::KeyInUse),
            "lock-timeout" => Ok(Self::LockTimeout),
            "429" => {
                let reason = rest.first().unwrap_or(&"endpoint-rate");
                let known = REASONS.into_iter().find(|known| known == reason);
                known
                    .map(|reason| Self::RateLimited { reason })
                    .ok_or(format!("{reason:?} is none of {REASONS:?}"))
            }
            status => {
                let status = status.parse().ok().filter(|status| (500..600).contains(status));
                let status = status.ok_or(format!("{text:?} is no fault the sandbox knows"))?;
                Ok(Self::Status { status, executed, should_retry: retry_word(rest) })
            }
        }
    }

    /// Whether the request is not carried out at all, now.
    pub(super) fn prevents(&self) -> bool {
        match self {
            Self::NotSent | Self::ArrivesLate { .. } | Self::Forward { .. } => true,
            Self::KeyInUse | Self::RateLimited { .. } | Self::LockTimeout => true,
            Self::NoAnswer { executed } | Self::Status { executed, .. } => !executed,
            Self::Cut { .. } | Self::Late { .. } => false,
        }
    }
}

fn retry_word(words: &[&str]) -> Option<bool> {
    words.iter().find_map(|word| word.strip_prefix("retry=")).map(|value| value == "true")
}

/// Reads `90s`, `15m`, `2h`, `3d`, `250ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// When a fault strikes.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Only requests of this method.
    pub method: Option<String>,
    /// Only paths that begin with this; a `*` stands for one part, a `$` at the end closes it.
    pub path: Option<String>,
    /// Only idempotency keys that contain this.
    pub key: Option<String>,
    /// Let so many matching requests pass first.
    pub skip: u32,
    /// Strike at most so often.
    pub times: Option<u32>,
    /// Strike in so many of 100 cases.
    pub percent: u32,
    /// What happens.
    pub effect: Effect,
}

impl Rule {
    /// A rule that strikes every request.
    #[must_use]
    pub fn always(effect: Effect) -> Self {
        Self { method: None, path: None, key: None, skip: 0, times: None, percent: 100, effect }
    }

    /// A rule that strikes the next request of this method whose path begins so.
    #[must_use]
    pub fn once(method: &str, path: &str, effect: Effect) -> Self {
        let always = Self::always(effect);
        Self { method: Some(method.to_owned()), path: Some(path.to_owned()), times: Some(1), ..always }
    }

    fn matches(&self, request: &Request) -> bool {
        let method =
            self.method.as_ref().is_none_or(|method| request.method.as_str().eq_ignore_ascii_case(method));
        let path = self.path.as_ref().is_none_or(|pattern| path_matches(pattern, request.path()));
        let sent = request.header_text("idempotency-key").unwrap_or_default();
        method && path && self.key.as_ref().is_none_or(|key| sent.contains(key.as_str()))
    }

    pub(super) fn render(&self) -> Value {
        json!({
            "method": self.method, "path": self.path, "key": self.key, "skip": self.skip, "times": self.times,
            "percent": self.percent, "fault": format!("{:?}", self.effect),
        })
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let (pattern, whole) = pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut parts = path.split('/');
    let begins =
        pattern.split('/').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part));
    begins && (!whole || parts.next().is_none())
}

/// The fault of this request: its header's, or the first rule's that strikes.
pub(super) fn pick(state: &mut State, request: &Request) -> Result<Option<Effect>, ApiError> {
    if let Some(text) = request.header_text("sandbox-fault") {
        return Effect::parse(text)
            .map(Some)
            .map_err(|why| ApiError::invalid(format!("Sandbox-Fault: {why}")));
    }
    for at in 0..state.rules.len() {
        if !state.rules[at].matches(request) || !state.rng.percent(state.rules[at].percent) {
            continue;
        }
        let rule = &mut state.rules[at];
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        let effect = rule.effect.clone();
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                state.rules.remove(at);
            }
        }
        return Ok(Some(effect));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_words() {
        let two_hours = Duration::from_secs(7200);
        assert_eq!(Effect::parse("no-answer"), Ok(Effect::NoAnswer { executed: true }));
        assert_eq!(Effect::parse("500 forward 2h"), Ok(Effect::Forward { by: two_hours }));
        let gateway = Effect::Status { status: 502, executed: false, should_retry: Some(true) };
        assert_eq!(Effect::parse("502 not-executed retry=true"), Ok(gateway));
        assert!(
            Effect::parse("late").is_err() && Effect::parse("418").is_err() && Effect::parse("").is_err()
        );
    }

    #[test]
    fn a_path_begins_with_its_pattern() {
        assert!(path_matches("/v1/payment_intents", "/v1/payment_intents/pi_1/confirm"));
        assert!(path_matches("/v1/payment_intents/*/confirm", "/v1/payment_intents/pi_1/confirm"));
        assert!(!path_matches("/v1/payment_intents$", "/v1/payment_intents/pi_1/confirm"));
        assert!(!path_matches("/v1/pay", "/v1/payment_intents"));
    }
}
