//! Events: what happened, with the object as it was then.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::charges::Charge;
use super::errors::ApiError;
use super::intent::PaymentIntent;
use super::lists;
use super::params::Params;
use super::state::State;
use super::webhooks;

/// Stripe answers for events of the last 30 days.
const READABLE_SECS: i64 = 30 * 86_400;

pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) created: i64,
    object: Snapshot,
    previous: Option<Value>,
    request_id: Option<String>,
    idempotency_key: Option<String>,
    /// Webhook deliveries that have not succeeded yet.
    pub(super) pending: usize,
}

/// An object as it was. The frequent ones are written out only when somebody reads the event.
pub(super) enum Snapshot {
    Intent(Box<PaymentIntent>),
    Charge(Box<Charge>),
    Text(String),
}

impl Snapshot {
    fn render(&self) -> Value {
        match self {
            Self::Intent(intent) => intent.render(),
            Self::Charge(charge) => charge.render(),
            Self::Text(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

impl From<&PaymentIntent> for Snapshot {
    fn from(intent: &PaymentIntent) -> Self {
        Self::Intent(Box::new(intent.clone()))
    }
}

impl From<&Charge> for Snapshot {
    fn from(charge: &Charge) -> Self {
        Self::Charge(Box::new(charge.clone()))
    }
}

impl From<&Value> for Snapshot {
    fn from(value: &Value) -> Self {
        Self::Text(value.to_string())
    }
}

impl Event {
    pub(super) fn render(&self, api_version: &str) -> Value {
        let mut data = json!({ "object": self.object.render() });
        if let Some(previous) = &self.previous {
            data["previous_attributes"] = previous.clone();
        }
        json!({
            "id": self.id, "object": "event", "type": self.kind, "api_version": api_version,
            "created": self.created, "livemode": false, "pending_webhooks": self.pending, "data": data,
            "request": { "id": self.request_id, "idempotency_key": self.idempotency_key },
        })
    }
}

/// The newest events, numbered as they came.
#[derive(Default)]
pub(super) struct Events {
    rows: VecDeque<Event>,
    /// The number of the oldest that is kept.
    first: u64,
    by_id: HashMap<String, u64>,
}

impl Events {
    /// Keeps an event, forgets the oldest above the limit, and returns its number.
    fn push(&mut self, event: Event, rows_max: usize) -> u64 {
        while self.rows.len() >= rows_max.max(1) {
            let Some(oldest) = self.rows.pop_front() else { break };
            self.by_id.remove(&oldest.id);
            self.first += 1;
        }
        let number = self.first + self.rows.len() as u64;
        self.by_id.insert(event.id.clone(), number);
        self.rows.push_back(event);
        number
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    pub(super) fn number(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Event> {
        self.rows.get(self.place(number)?)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Event> {
        let place = self.place(number)?;
        self.rows.get_mut(place)
    }
}

impl State {
    /// Something happened.
    pub(super) fn emit(&mut self, kind: &'static str, object: impl Into<Snapshot>) {
        self.emit_change(kind, object, None);
    }

    /// Something changed; `previous` has the old values.
    pub(super) fn emit_change(
        &mut self,
        kind: &'static str,
        object: impl Into<Snapshot>,
        previous: Option<Value>,
    ) {
        let event = Event {
            id: self.rng.id("evt_"),
            kind,
            created: self.now(),
            object: object.into(),
            previous,
            request_id: self.call.request_id.clone(),
            idempotency_key: self.call.idempotency_key.clone(),
            pending: 0,
        };
        let number = self.events.push(event, self.options.events_kept_max);
        webhooks::enqueue(self, number, kind);
    }
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    let event = state.events.number(call.id).and_then(|number| state.events.get(number));
    let event = event.filter(|event| is_readable(state, event));
    let event = event.ok_or_else(|| ApiError::not_found("event", "id", call.id))?;
    Ok(event.render(&state.options.api_version))
}

fn is_readable(state: &State, event: &Event) -> bool {
    event.created > state.now() - READABLE_SECS
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let limit = lists::limit(call.params)?;
    let wanted = wanted_types(call.params)?;
    let created = lists::Created::read(call.params);
    let delivered = call.params.get("delivery_success").as_bool();
    let fits = |event: &&Event| {
        is_readable(state, event)
            && created.contains(event.created)
            && (wanted.is_empty() || wanted.iter().any(|pattern| webhooks::names(pattern, event.kind)))
            && delivered.is_none_or(|delivered| delivered == (event.pending == 0))
    };
    let place = |name: &str| -> Result<Option<usize>, ApiError> {
        let Some(id) = call.params.text(name) else { return Ok(None) };
        let place = state.events.number(id).and_then(|number| state.events.place(number));
        place.map(Some).ok_or_else(|| ApiError::no_such("event", name, id))
    };
    let mut found: Vec<&Event> = match (place("starting_after")?, place("ending_before")?) {
        (_, Some(before)) => state.events.rows.range(before + 1..).filter(fits).take(limit + 1).collect(),
        (Some(after), None) => state.events.rows.range(..after).rev().filter(fits).take(limit + 1).collect(),
        (None, None) => state.events.rows.iter().rev().filter(fits).take(limit + 1).collect(),
    };
    let has_more = found.len() > limit;
    found.truncate(limit);
    if call.params.has("ending_before") {
        found.reverse();
    }
    let data = found.into_iter().map(|event| event.render(&state.options.api_version)).collect();
    Ok(lists::wrap(data, has_more, "/v1/events"))
}

/// Limit: so many names may be asked for at once.
const TYPES_MAX: usize = 20;

fn wanted_types(params: &Params) -> Result<Vec<String>, ApiError> {
    let mut types = params.texts("types");
    if types.len() > TYPES_MAX {
        return Err(ApiError::param("types", format!("At most {TYPES_MAX} event types can be asked for")));
    }
    if let Some(one) = params.owned("type") {
        if !types.is_empty() {
            return Err(ApiError::invalid("You may only specify one of these parameters: type, types.")
                .code("parameters_exclusive"));
        }
        types.push(one);
    }
    Ok(types)
}
