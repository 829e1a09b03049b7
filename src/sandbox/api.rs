//! One API request from its arrival to its answer: faults, key, version, idempotency, parameters, endpoint.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::auth;
use super::errors::ApiError;
use super::expand;
use super::faults::{self, Effect, millis};
use super::form;
use super::http::{Answer, Outcome, Request, Response};
use super::idempotency::{self, Found};
use super::params::{self, Params};
use super::rate_limits;
use super::router::{self, Route};
use super::schema;
use super::state::{CallFacts, Job, State};

/// What an endpoint gets.
pub(super) struct Call<'a> {
    /// The id in the path, or nothing.
    pub(super) id: &'a str,
    pub(super) path: &'a str,
    pub(super) params: &'a Arc<Params>,
}

/// How long an object stays held by an executed request whose answer is late.
const LOCK_MS_MAX: i64 = 120_000;

pub(super) fn answer(state: &mut State, request: &Request) -> Outcome {
    state.call = CallFacts {
        request_id: Some(state.rng.id("req_")),
        idempotency_key: request
            .header_text("idempotency-key")
            .filter(|_| is_post(request))
            .map(str::to_owned),
        left_ms: state.now_ms,
        effect: None,
    };
    let fault = match faults::pick(state, request) {
        Ok(fault) => fault,
        Err(error) => return Outcome::at_once(finish(state, request, error.response())),
    };
    let outcome = match fault {
        Some(effect) if effect.prevents() => prevented(state, request, &effect),
        fault => {
            let response = respond(state, request);
            let effect = fault.or_else(|| state.call.effect.take());
            after(state, request, response, effect)
        }
    };
    if !matches!(outcome.answer, Answer::NotSent) {
        state.log.add(&state.call, state.now_ms, request, &outcome);
    }
    outcome
}

/// A request that was on its way, or that Stripe carries through later. Nobody waits for its answer.
pub(super) fn run_late(state: &mut State, request: &Request, left_ms: i64) {
    state.call.left_ms = left_ms;
    state.call.request_id = Some(state.rng.id("req_"));
    state.call.idempotency_key =
        request.header_text("idempotency-key").filter(|_| is_post(request)).map(str::to_owned);
    let response = respond(state, request);
    state.log.add(&state.call, state.now_ms, request, &Outcome::at_once(response));
}

fn is_post(request: &Request) -> bool {
    request.method == http::Method::POST
}

/// The request is not carried out now.
fn prevented(state: &mut State, request: &Request, effect: &Effect) -> Outcome {
    let error = match effect {
        Effect::NotSent => return silent(Answer::NotSent),
        Effect::ArrivesLate { by } => {
            run_later(state, request.clone(), *by);
            return silent(Answer::NoAnswer);
        }
        Effect::Forward { by } => return forwarded(state, request, *by),
        Effect::KeyInUse => idempotency::in_use(),
        Effect::RateLimited { reason } => rate_limits::refusal(reason),
        Effect::LockTimeout => rate_limits::lock_timeout(),
        Effect::Status { status, should_retry, .. } => return failed(state, request, *status, *should_retry),
        Effect::NoAnswer { .. } | Effect::Cut { .. } | Effect::Late { .. } => {
            return silent(Answer::NoAnswer);
        }
    };
    Outcome::at_once(finish(state, request, error.response()))
}

fn run_later(state: &mut State, request: Request, by: Duration) {
    let left_ms = state.call.left_ms;
    state.schedule(millis(by), Job::Run { request: Box::new(request), left_ms });
}

fn silent(answer: Answer) -> Outcome {
    Outcome { latency: Duration::ZERO, answer }
}

/// Answers 500 now and carries the request out later, without its key: the key goes on replaying the 500.
fn forwarded(state: &mut State, request: &Request, by: Duration) -> Outcome {
    let mut later = request.clone();
    later.headers.remove("idempotency-key");
    run_later(state, later, by);
    failed(state, request, 500, None)
}

/// A 5xx without having run. A 500 is kept for the key; 502 to 504 come from a gateway that keeps nothing.
fn failed(state: &mut State, request: &Request, status: u16, should_retry: Option<bool>) -> Outcome {
    let response = server_error(status, should_retry);
    if status == 500 {
        idempotency::keep(state, request, &response);
    }
    Outcome::at_once(finish(state, request, response))
}

fn server_error(status: u16, should_retry: Option<bool>) -> Response {
    let mut error = ApiError::server_error();
    (error.status, error.should_retry) = (status, should_retry);
    error.response()
}

/// What becomes of the answer of a request that was carried out.
fn after(state: &mut State, request: &Request, response: Response, effect: Option<Effect>) -> Outcome {
    match effect {
        Some(Effect::NoAnswer { .. }) => silent(Answer::NoAnswer),
        Some(Effect::Cut { bytes }) => silent(Answer::CutAfter { response, bytes }),
        Some(Effect::Late { by }) => {
            idempotency::delay(state, millis(by));
            lock(state, &response, millis(by));
            Outcome { latency: by, answer: Answer::Response(response) }
        }
        Some(Effect::Status { status, should_retry, .. }) => failed(state, request, status, should_retry),
        Some(Effect::Forward { by }) => forwarded(state, request, by),
        _ => Outcome::at_once(response),
    }
}

fn lock(state: &mut State, response: &Response, late_ms: i64) {
    if let Some(id) = response.value()["id"].as_str() {
        state.locks.insert(id.to_owned(), state.now_ms + late_ms.min(LOCK_MS_MAX));
    }
}

/// Runs the request, or replays the answer kept for its key.
fn respond(state: &mut State, request: &Request) -> Response {
    let response = match try_respond(state, request) {
        Ok(response) => response,
        Err(error) => error.response(),
    };
    finish(state, request, response)
}

fn try_respond(state: &mut State, request: &Request) -> Result<Response, ApiError> {
    auth::check_key(state, request)?;
    let version = auth::version(state, request)?;
    let (route, id) = router::find(request)?;
    rate_limits::check(state, route, id)?;
    if let Found::Replay { mut response, first_request } = idempotency::look_up(state, request)? {
        response.set("original-request", &first_request);
        response.set("idempotent-replayed", "true");
        return Ok(response);
    }
    rate_limits::check_lock(state, id, request)?;
    let params = Arc::new(check_parameters(state, route, request, &version)?);
    let call = Call { id, path: request.path(), params: &params };
    let response = match (route.run)(state, &call) {
        Ok(mut value) => {
            expand::apply(state, &mut value, &params);
            Response::json(200, &value)
        }
        Err(error) if error.kept => error.response(),
        Err(error) => return Err(error),
    };
    idempotency::keep(state, request, &response);
    Ok(response)
}

fn check_parameters(
    state: &State,
    route: &Route,
    request: &Request,
    version: &str,
) -> Result<Params, ApiError> {
    let schema =
        schema::of(route.endpoint).ok_or_else(|| ApiError::invalid("No parameters are known here"))?;
    let body: &[u8] = if is_post(request) { &request.body } else { b"" };
    if body.first() == Some(&b'{') {
        return Err(ApiError::invalid("This endpoint takes form-encoded parameters, not JSON."));
    }
    let sent = form::parse([request.query().as_bytes(), body]);
    let params = params::check(schema, sent, version, state.options.strict)?;
    expand::check(route, &params)?;
    Ok(params)
}

/// Adds the headers that every answer has.
fn finish(state: &State, request: &Request, mut response: Response) -> Response {
    let request_id = state.call.request_id.as_deref().unwrap_or_default();
    response.set("request-id", request_id);
    response.set("date", &super::http::date(state.now()));
    let asked = request.header_text("stripe-version").filter(|version| auth::is_version(version));
    let version = asked.unwrap_or(&state.options.api_version);
    response.set("stripe-version", version);
    response.set("access-control-allow-origin", "*");
    response.set("cache-control", "no-cache, no-store");
    if let Some(key) = &state.call.idempotency_key {
        response.set("idempotency-key", key);
        if !response.headers.contains_key("original-request") {
            response.set("original-request", request_id);
        }
    }
    if response.status == 402 && !response.headers.contains_key("stripe-should-retry") {
        response.set("stripe-should-retry", "false");
    }
    response
}

/// The value of an endpoint's answer, or why there is none.
pub(super) type Answered = Result<Value, ApiError>;
