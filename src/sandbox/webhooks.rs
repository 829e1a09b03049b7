//! Deliveries of events: signed, repeated until they are taken, and as unreliable as is asked for.

use ring::hmac;

use super::state::State;
use super::webhook_endpoints::Endpoint;

/// How events travel.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookRules {
    /// Deliveries of one event to one endpoint before it is given up.
    pub tries_max: u32,
    /// In so many of 100 cases an event is delivered twice.
    pub duplicate_percent: u32,
    /// In so many of 100 cases an event is never delivered; lists still show it.
    pub drop_percent: u32,
    /// Each event waits a time up to this long, which also mixes up their order.
    pub delay_ms_max: i64,
    /// Deliveries that are due come in any order.
    pub shuffle: bool,
    /// An endpoint that has failed so often in a row is switched off; 0 is never.
    pub disable_after: u32,
}

impl Default for WebhookRules {
    /// Everything arrives once, in order, at once; failures are repeated for about three days.
    fn default() -> Self {
        Self {
            tries_max: 16,
            duplicate_percent: 0,
            drop_percent: 0,
            delay_ms_max: 0,
            shuffle: false,
            disable_after: 0,
        }
    }
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Names this delivery to [`super::Sandbox::delivery_failed`].
    pub id: u64,
    /// Where it goes.
    pub url: String,
    /// `evt_...`
    pub event_id: String,
    /// Such as `payment_intent.succeeded`.
    pub event_type: &'static str,
    /// Header lines, with `Stripe-Signature`.
    pub headers: Vec<(&'static str, String)>,
    /// The raw body that was signed.
    pub body: Vec<u8>,
}

pub(super) struct Outgoing {
    /// The event's number.
    event: u64,
    endpoint: String,
    due_ms: i64,
    tries: u32,
    is_taken: bool,
}

/// Whether `pattern` of an endpoint's list names this type.
pub(super) fn names(pattern: &str, kind: &str) -> bool {
    pattern == "*"
        || pattern == kind
        || pattern.strip_suffix('*').is_some_and(|start| kind.starts_with(start))
}

/// Puts the newest event on its way to everyone who wants it.
pub(super) fn enqueue(state: &mut State, event: u64, kind: &str) {
    let wants = |endpoint: &&Endpoint| {
        let listens = endpoint.enabled_events.iter().any(|pattern| names(pattern, kind));
        listens && !endpoint.disabled && !endpoint.deleted
    };
    let endpoints: Vec<String> =
        state.endpoints.iter().filter(wants).map(|endpoint| endpoint.id.clone()).collect();
    for endpoint in endpoints {
        let rules = state.options.webhooks.clone();
        if state.rng.percent(rules.drop_percent) {
            continue;
        }
        let copies = 1 + u32::from(state.rng.percent(rules.duplicate_percent));
        for _ in 0..copies {
            let wait = if rules.delay_ms_max > 0 { state.rng.between(0, rules.delay_ms_max) } else { 0 };
            push(state, event, &endpoint, wait);
        }
    }
}

fn push(state: &mut State, event: u64, endpoint: &str, wait_ms: i64) {
    state.outgoing_count += 1;
    let due_ms = state.now_ms + wait_ms;
    let outgoing = Outgoing { event, endpoint: endpoint.to_owned(), due_ms, tries: 0, is_taken: false };
    state.outgoing.insert(state.outgoing_count, outgoing);
    if let Some(event) = state.events.get_mut(event) {
        event.pending += 1;
    }
}

/// Sends an event again to every endpoint that listens now; false if there is no such event.
pub(super) fn resend(state: &mut State, event: &str) -> bool {
    let endpoints: Vec<String> = state
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.deleted)
        .map(|endpoint| endpoint.id.clone())
        .collect();
    let Some(event) = state.events.number(event) else { return false };
    for endpoint in endpoints {
        push(state, event, &endpoint, 0);
    }
    true
}

/// Makes everything that waits due now.
pub(super) fn hurry(state: &mut State) {
    for outgoing in state.outgoing.values_mut() {
        outgoing.due_ms = outgoing.due_ms.min(state.now_ms);
    }
}

/// What was taken and never reported has arrived.
pub(super) fn settle_taken(state: &mut State) {
    let taken: Vec<u64> =
        state.outgoing.iter().filter(|(_, item)| item.is_taken).map(|(id, _)| *id).collect();
    taken.into_iter().for_each(|id| succeeded(state, id));
}

/// Deliveries that are due, each signed with the present time. They are under way until they are reported.
pub(super) fn take(state: &mut State) -> Vec<Delivery> {
    let now_ms = state.now_ms;
    let mut due: Vec<(i64, u64)> = Vec::new();
    for (id, outgoing) in &mut state.outgoing {
        if !outgoing.is_taken && outgoing.due_ms <= now_ms {
            outgoing.is_taken = true;
            outgoing.tries += 1;
            due.push((outgoing.due_ms, *id));
        }
    }
    due.sort_unstable();
    if state.options.webhooks.shuffle {
        for at in (1..due.len()).rev() {
            let other = usize::try_from(state.rng.next() % (at as u64 + 1)).unwrap_or(0);
            due.swap(at, other);
        }
    }
    let signed: Vec<Delivery> = due.iter().filter_map(|(_, id)| sign(state, *id)).collect();
    // An event that was forgotten in the meantime has nothing to deliver.
    for (_, id) in due {
        if state.outgoing.get(&id).is_some_and(|outgoing| state.events.get(outgoing.event).is_none()) {
            state.outgoing.remove(&id);
        }
    }
    signed
}

fn sign(state: &State, id: u64) -> Option<Delivery> {
    let outgoing = state.outgoing.get(&id)?;
    let endpoint = state.endpoints.get(&outgoing.endpoint)?;
    let event = state.events.get(outgoing.event)?;
    let version = endpoint.api_version.as_deref().unwrap_or(&state.options.api_version);
    let body = serde_json::to_vec(&event.render(version)).ok()?;
    let signature = signature(&endpoint.secret, state.now(), &body);
    Some(Delivery {
        id,
        url: endpoint.url.clone(),
        event_id: event.id.clone(),
        event_type: event.kind,
        headers: vec![
            ("content-type", "application/json; charset=utf-8".to_owned()),
            ("user-agent", "Stripe/1.0 (recurd sandbox)".to_owned()),
            ("stripe-signature", signature),
        ],
        body,
    })
}

/// The value of `Stripe-Signature`.
pub(crate) fn signature(secret: &str, at: i64, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{at}.").as_bytes());
    context.update(body);
    let mut text = format!("t={at},v1=");
    for byte in context.sign().as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The endpoint took it, or the in-process caller did.
pub(super) fn succeeded(state: &mut State, id: u64) {
    let Some(outgoing) = state.outgoing.remove(&id) else { return };
    if let Some(endpoint) = state.endpoints.get_mut(&outgoing.endpoint) {
        endpoint.failures = 0;
    }
    if let Some(event) = state.events.get_mut(outgoing.event) {
        event.pending = event.pending.saturating_sub(1);
    }
}

/// First pause between two tries; it doubles, up to half a day. With 16 tries they span about three days.
const PAUSE_MS_FIRST: i64 = 30_000;
const PAUSE_MS_MAX: i64 = 12 * 3_600_000;

/// The endpoint did not answer with a 2xx: again later.
pub(super) fn failed(state: &mut State, id: u64) {
    let (now_ms, rules) = (state.now_ms, state.options.webhooks.clone());
    let jitter = state.rng.between(75, 125);
    let Some(outgoing) = state.outgoing.get_mut(&id) else { return };
    let pause = PAUSE_MS_FIRST.saturating_mul(1 << outgoing.tries.clamp(1, 20)).min(PAUSE_MS_MAX);
    outgoing.is_taken = false;
    outgoing.due_ms = now_ms + pause * jitter / 100;
    let (given_up, endpoint) = (outgoing.tries >= rules.tries_max, outgoing.endpoint.clone());
    if given_up {
        state.outgoing.remove(&id);
    }
    if let Some(endpoint) = state.endpoints.get_mut(&endpoint) {
        endpoint.failures += 1;
        endpoint.disabled |= rules.disable_after > 0 && endpoint.failures >= rules.disable_after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_time_and_body() {
        // Computed with: printf '1767225600.{}' | openssl dgst -sha256 -hmac whsec_test
        let expected = "4a942ef9477fb7b15b98664cf7ff2c2543984c1fa6bdf3520b48dcb25bcd1fe4";
        let made = signature("whsec_test", 1_767_225_600, b"{}");
        assert_eq!(made, format!("t=1767225600,v1={expected}"));
    }

    #[test]
    fn patterns_name_event_types() {
        assert!(names("*", "charge.failed") && names("charge.failed", "charge.failed"));
        assert!(!names("charge.succeeded", "charge.failed"));
    }
}
