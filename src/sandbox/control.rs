//! The endpoints under `/_sandbox/`: JSON in, JSON out, no key.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cards;
use super::checkout_pay::{self, CardEntry, PageStep};
use super::disputes;
use super::faults::{Effect, Rule, duration, millis};
use super::http::{Request, Response};
use super::payment_methods;
use super::rate_limits::RateLimits;
use super::seeds::{self, Refusal, SeedCard};
use super::state::{CallFacts, State};
use super::webhook_endpoints;
use super::webhooks::{self, WebhookRules};

type Answered = Result<Value, Refusal>;

pub(super) fn answer(state: &mut State, request: &Request) -> Response {
    state.call = CallFacts::default();
    let path = request.path().trim_start_matches("/_sandbox").trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let answered = match (request.method.as_str(), &parts[..]) {
        ("GET", [""]) => Ok(help()),
        ("GET", ["clock"]) => Ok(clock(state)),
        ("POST", ["clock"]) => body(request).and_then(|wish| move_clock(state, &wish)),
        ("GET", ["cards"]) => Ok(own_cards()),
        ("POST", ["cards", id]) => body(request).and_then(|wish| program(state, id, &wish)),
        ("GET", ["faults"]) => Ok(state.rules.iter().map(Rule::render).collect()),
        ("POST", ["faults"]) => body(request).and_then(|wish| add_fault(state, wish)),
        ("DELETE", ["faults"]) => {
            state.rules.clear();
            Ok(json!([]))
        }
        ("POST", ["seed"]) => body(request).and_then(|wish| seed(state, &wish)),
        ("POST", ["seed_csv"]) => seeds::from_csv(state, &request.body),
        ("POST", ["checkout", id]) => body(request).and_then(|wish| complete(state, id, wish)),
        ("POST", ["disputes"]) => body(request).and_then(|wish| dispute(state, &wish)),
        ("POST", ["disputes", id, "close"]) => body(request).and_then(|wish| close_dispute(state, id, &wish)),
        ("POST", ["webhooks"]) => body(request).and_then(|wish| add_webhook(state, wish)),
        ("POST", ["webhooks", "rules"]) => body(request).map(|wish| webhook_rules(state, wish)),
        ("POST", ["webhooks", "deliver"]) => {
            webhooks::hurry(state);
            Ok(json!({ "waiting": state.outgoing.len() }))
        }
        ("POST", ["events", id, "resend"]) => Ok(json!({ "found": webhooks::resend(state, id) })),
        ("POST", ["rate_limits"]) => body(request).map(|wish| rate_limits(state, &wish)),
        ("POST", ["keys", "revoke"]) => body(request).map(|wish: RevokeKey| revoke(state, wish)),
        ("GET", ["books"]) => {
            serde_json::to_value(super::books::read(state)).map_err(|error| Refusal(error.to_string()))
        }
        ("GET", ["requests"]) => Ok(json!(state.log.rows().collect::<Vec<_>>())),
        ("POST", ["reset"]) => Ok(reset(state)),
        _ => Err(Refusal(format!("no {} {path:?} here; GET /_sandbox/ says what there is", request.method))),
    };
    match answered {
        Ok(value) => Response::json(200, &value),
        Err(Refusal(why)) => Response::json(400, &json!({ "error": why })),
    }
}

fn help() -> Value {
    json!({
        "what": "A sandbox that plays Stripe. The API is under /v1/, with any key that begins with sk_test_.",
        "GET /_sandbox/clock": "its time",
        "POST /_sandbox/clock": { "advance": "3d", "or set": "2027-01-31T09:00:00Z" },
        "GET /_sandbox/cards": "cards only the sandbox has",
        "POST /_sandbox/cards/{payment_method}": { "script": "insufficient_funds x2, ok", "or update": true, "or detach": true },
        "POST /_sandbox/faults": { "fault": "no-answer", "method": "POST", "path": "/v1/payment_intents", "key": null,
            "skip": 0, "times": 1, "percent": 100 },
        "GET, DELETE /_sandbox/faults": "the faults that wait",
        "Sandbox-Fault (request header)": "the same words, for one request",
        "POST /_sandbox/seed": { "customers": [{ "id": "cus_1", "email": "a@example.com", "name": "Ann",
            "cards": [{ "id": "pm_1", "card": "pm_card_sandbox_payday", "script": null }] }] },
        "POST /_sandbox/seed_csv": "a CSV with the columns customer, payment_method, email, name, card",
        "POST /_sandbox/checkout/{session}": { "card": "4242424242424242", "three_d_secure": "pass" },
        "POST /_sandbox/disputes": { "charge": "ch_1", "reason": "fraudulent", "inquiry": false },
        "POST /_sandbox/disputes/{dispute}/close": { "status": "won" },
        "POST /_sandbox/webhooks": { "url": "http://127.0.0.1:8080/webhook", "events": ["*"], "secret": "whsec_..." },
        "POST /_sandbox/webhooks/rules": { "duplicate_percent": 10, "drop_percent": 0, "delay_ms_max": 0,
            "shuffle": false, "tries_max": 16, "disable_after": 0 },
        "POST /_sandbox/webhooks/deliver": "everything that waits, now",
        "POST /_sandbox/events/{event}/resend": "again, to every endpoint",
        "POST /_sandbox/rate_limits": { "account_per_sec": 100, "endpoint_per_sec": 25 },
        "POST /_sandbox/keys/revoke": { "key": "sk_test_..." },
        "GET /_sandbox/books": "what really happened",
        "GET /_sandbox/requests": "the requests that came",
        "POST /_sandbox/reset": "forget everything but the clock",
    })
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    let text: &[u8] = if request.body.is_empty() { b"{}" } else { &request.body };
    serde_json::from_slice(text).map_err(|error| Refusal(format!("the body is not what is wanted: {error}")))
}

fn clock(state: &State) -> Value {
    let at = jiff::Timestamp::from_millisecond(state.now_ms).unwrap_or_default();
    json!({ "now": state.now(), "text": at.to_string() })
}

/// Limit: a longer step is a typing mistake, and its arithmetic need not be thought about.
const ADVANCE_MS_MAX: i64 = 10 * 366 * 86_400_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveClock {
    advance: Option<String>,
    set: Option<String>,
}

fn move_clock(state: &mut State, wish: &MoveClock) -> Answered {
    let by_ms = match (&wish.advance, &wish.set) {
        (Some(text), None) => millis(
            duration(text).ok_or_else(|| Refusal(format!("{text:?} is not a time such as 90s, 2h or 3d")))?,
        ),
        (None, Some(text)) => {
            let at: jiff::Timestamp = text.parse().map_err(|error| Refusal(format!("{text:?}: {error}")))?;
            at.as_millisecond() - state.now_ms
        }
        _ => return Err(Refusal("say either advance or set".to_owned())),
    };
    if !(0..=ADVANCE_MS_MAX).contains(&by_ms) {
        return Err(Refusal("the clock goes forward only, and at most ten years at once".to_owned()));
    }
    state.options.now.advance_ms(by_ms);
    state.pass_time();
    Ok(clock(state))
}

fn own_cards() -> Value {
    let row = |kind: &cards::CardKind| json!({ "token": kind.token, "number": kind.number, "meaning": kind.meaning });
    cards::own().map(row).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    script: Option<String>,
    #[serde(default)]
    update: bool,
    #[serde(default)]
    detach: bool,
}

fn program(state: &mut State, id: &str, wish: &Program) -> Answered {
    if let Some(script) = &wish.script {
        seeds::script(state, id, script)?;
    }
    if wish.update {
        payment_methods::update_card(state, id);
    }
    if wish.detach {
        payment_methods::detach_quietly(state, id);
    }
    state.render(id).ok_or_else(|| Refusal(format!("no payment method {id}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddFault {
    fault: String,
    method: Option<String>,
    path: Option<String>,
    key: Option<String>,
    #[serde(default)]
    skip: u32,
    times: Option<u32>,
    percent: Option<u32>,
}

fn add_fault(state: &mut State, wish: AddFault) -> Answered {
    let effect = Effect::parse(&wish.fault).map_err(Refusal)?;
    let AddFault { method, path, key, skip, times, percent, .. } = wish;
    let rule = Rule { method, path, key, skip, times, percent: percent.unwrap_or(100), effect };
    let shown = rule.render();
    state.rules.push(rule);
    Ok(shown)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    customers: Vec<SeedCustomer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedCustomer {
    id: String,
    email: Option<String>,
    name: Option<String>,
    #[serde(default)]
    cards: Vec<SeededCard>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeededCard {
    id: String,
    card: Option<String>,
    script: Option<String>,
    exp_month: Option<i64>,
    exp_year: Option<i64>,
}

fn seed(state: &mut State, wish: &Seed) -> Answered {
    for customer in &wish.customers {
        seeds::customer(state, &customer.id, customer.email.as_deref(), customer.name.as_deref())?;
        for card in &customer.cards {
            let card = SeedCard {
                id: card.id.clone(),
                customer: customer.id.clone(),
                token: card.card.clone(),
                script: card.script.clone(),
                expires: card.exp_month.zip(card.exp_year),
            };
            seeds::card(state, &card)?;
        }
    }
    Ok(json!({ "customers": wish.customers.len() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    card: String,
    three_d_secure: Option<String>,
    email: Option<String>,
    name: Option<String>,
    #[serde(default)]
    save: bool,
}

fn complete(state: &mut State, id: &str, wish: Complete) -> Answered {
    let passed = wish.three_d_secure.as_deref() != Some("fail");
    let Complete { card, email, name, save, .. } = wish;
    let entry = CardEntry { card, email, name, save, terms_accepted: true, ..CardEntry::default() };
    let mut step = checkout_pay::submit(state, id, &entry);
    if step.as_ref().is_ok_and(|step| *step == PageStep::Authenticate) {
        step = checkout_pay::authenticate(state, id, passed);
    }
    let step = step.map_err(|error| Refusal(error.message().to_owned()))?;
    let refused = match step {
        PageStep::Refused { message } => Some(message),
        PageStep::Done { .. } | PageStep::Authenticate => None,
    };
    let session = state.render(id).unwrap_or_default();
    Ok(json!({ "refused": refused, "session": session }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenDispute {
    charge: String,
    #[serde(default)]
    inquiry: bool,
}

fn dispute(state: &mut State, wish: &OpenDispute) -> Answered {
    if state.charges.get(&wish.charge).is_none() {
        return Err(Refusal(format!("no charge {}", wish.charge)));
    }
    disputes::open(state, &wish.charge, "fraudulent", wish.inquiry);
    Ok(state.disputes.newest_of(&wish.charge).next().map(disputes::Dispute::render).unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseDispute {
    status: String,
}

fn close_dispute(state: &mut State, id: &str, wish: &CloseDispute) -> Answered {
    let status = ["won", "lost", "warning_closed"].into_iter().find(|status| *status == wish.status);
    let status = status.ok_or_else(|| Refusal("status is won, lost or warning_closed".to_owned()))?;
    disputes::close(state, id, status).ok_or_else(|| Refusal(format!("no dispute {id}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddWebhook {
    url: String,
    events: Option<Vec<String>>,
    secret: Option<String>,
}

fn add_webhook(state: &mut State, wish: AddWebhook) -> Answered {
    let events = wish.events.unwrap_or_else(|| vec!["*".to_owned()]);
    let id = webhook_endpoints::insert(state, &wish.url, events, wish.secret);
    let secret = state.endpoints.get(&id).map(|endpoint| endpoint.secret.clone());
    Ok(json!({ "id": id, "secret": secret }))
}

fn webhook_rules(state: &mut State, wish: WebhookRules) -> Value {
    state.options.webhooks = wish;
    json!({ "rules": format!("{:?}", state.options.webhooks) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetLimits {
    account_per_sec: Option<u32>,
    endpoint_per_sec: Option<u32>,
}

/// Without numbers the limits are lifted.
fn rate_limits(state: &mut State, wish: &SetLimits) -> Value {
    let limits = wish.account_per_sec.zip(wish.endpoint_per_sec);
    state.options.rate_limits =
        limits.map(|(account_per_sec, endpoint_per_sec)| RateLimits { account_per_sec, endpoint_per_sec });
    json!({ "account_per_sec": wish.account_per_sec, "endpoint_per_sec": wish.endpoint_per_sec })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeKey {
    key: String,
}

fn revoke(state: &mut State, wish: RevokeKey) -> Value {
    state.options.revoked_keys.push(wish.key);
    json!({ "revoked": state.options.revoked_keys.len() })
}

/// Ids go on from another seed, so that no old id comes again.
fn reset(state: &mut State) -> Value {
    let mut options = state.options.clone();
    options.seed = state.rng.next();
    *state = State::new(options);
    json!({ "now": state.now() })
}
