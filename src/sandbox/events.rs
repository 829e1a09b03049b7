//! Events: what happened, with the object as it was then.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::errors::ApiError;
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
    /// The object as JSON text.
    object: String,
    previous: Option<Value>,
    request_id: Option<String>,
    idempotency_key: Option<String>,
    /// Webhook deliveries that have not succeeded yet.
    pub(super) pending: usize,
}

impl Event {
    pub(super) fn render(&self, api_version: &str) -> Value {
        let object: Value = serde_json::from_str(&self.object).unwrap_or_default();
        let mut data = json!({ "object": object });
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

impl State {
    /// Something happened.
    pub(super) fn emit(&mut self, kind: &'static str, object: &Value) {
        self.emit_change(kind, object, None);
    }

    /// Something changed; `previous` has the old values.
    pub(super) fn emit_change(&mut self, kind: &'static str, object: &Value, previous: Option<Value>) {
        let event = Event {
            id: self.rng.id("evt_"),
            kind,
            created: self.now(),
            object: object.to_string(),
            previous,
            request_id: self.call.request_id.clone(),
            idempotency_key: self.call.idempotency_key.clone(),
            pending: 0,
        };
        if self.events.len() >= self.options.events_kept_max {
            self.events.pop_front();
        }
        self.events.push_back(event);
        webhooks::enqueue(self);
    }

    pub(super) fn event(&self, id: &str) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.id == id)
    }

    pub(super) fn event_mut(&mut self, id: &str) -> Option<&mut Event> {
        self.events.iter_mut().rev().find(|event| event.id == id)
    }
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    let event = state.event(call.id).filter(|event| is_readable(state, event));
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
        let place = state.events.iter().rposition(|event| event.id == id);
        place.map(Some).ok_or_else(|| ApiError::no_such("event", name, id))
    };
    let mut found: Vec<&Event> = match (place("starting_after")?, place("ending_before")?) {
        (_, Some(before)) => state.events.range(before + 1..).filter(fits).take(limit + 1).collect(),
        (Some(after), None) => state.events.range(..after).rev().filter(fits).take(limit + 1).collect(),
        (None, None) => state.events.iter().rev().filter(fits).take(limit + 1).collect(),
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
