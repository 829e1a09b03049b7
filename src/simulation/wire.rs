//! The transport of one process: it stops before a request leaves and before its answer arrives, and loses both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;

use super::stage;
use super::truth::Sender;
use crate::failpoint;
use crate::sandbox::{self, Answer, Outcome};
use crate::store::Store;
use crate::stripe::{Request, Response, Transport, TransportError};

/// Limit: an answer that takes longer is given up, as the real transport does.
const TIMEOUT_MS: i64 = 80_000;

/// See the module.
pub struct Wire {
    /// The process's own clock.
    pub hand: Arc<AtomicI64>,
    /// The process's own database, where the simulator looks up what was written before a POST.
    pub store: Store,
    /// Its database is a copy.
    pub is_copy: bool,
    /// When the process began, Unix milliseconds.
    pub booted_ms: i64,
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        failpoint::reach("before a request").await;
        let own = Timestamp::from_millisecond(self.hand.load(Ordering::SeqCst)).unwrap_or_default();
        if request.not_after.is_some_and(|limit| own > limit) {
            return Err(TransportError::NotSent("too late".into()));
        }
        let fault = stage::with(|stage| stage.fault_of(&request));
        let mut times = 0;
        if request.method == Method::POST && fault.as_deref() != Some("not-sent") {
            times = self.remember(&request).await;
        }
        let outcome = stage::with(|stage| {
            let outcome = stage.sandbox.handle(&to_sandbox(&request, fault.as_deref()));
            if fault.as_deref().is_some_and(|fault| fault.starts_with("429") || fault == "lock-timeout") {
                // Answered before Stripe looks at the key: not a use of it.
                stage.truth.unused(request.idempotency_key().unwrap_or_default());
            }
            let line = format!("  {} {} -> {}", request.method, request.path, shown(&outcome));
            stage.stir(&line);
            stage.note(|| line);
            outcome
        });
        let late_ms = i64::try_from(outcome.latency.as_millis()).unwrap_or(i64::MAX / 4);
        let usual_ms = stage::with(|stage| stage.rng.between(20, 900));
        let ready_ms = stage::now_ms() + (late_ms + usual_ms).min(TIMEOUT_MS);
        failpoint::reach_after("before an answer", ready_ms).await;
        let is_lost = fault.is_some_and(|fault| fault.starts_with("500 lost"));
        if late_ms > TIMEOUT_MS || is_lost {
            return Err(TransportError::NoAnswer("timeout".into()));
        }
        if let (Answer::Response(answer), Some(key)) = (&outcome.answer, request.idempotency_key()) {
            stage::with(|stage| stage.truth.answered(key, times, answer.status, stage.now_ms()));
        }
        arrived(outcome)
    }
}

impl Wire {
    /// The how many-th use of its key it is.
    async fn remember(&self, request: &Request) -> u32 {
        let key = request.idempotency_key().unwrap_or_default();
        let stored = self.store.request_of_key(key).await.ok().flatten();
        let sender = Sender { is_copy: self.is_copy, booted_ms: self.booted_ms };
        stage::with(|stage| stage.post(request, stored, sender))
    }
}

fn to_sandbox(request: &Request, fault: Option<&str>) -> sandbox::Request {
    let sent = sandbox::Request {
        method: request.method.clone(),
        path_and_query: request.path.clone(),
        headers: request.headers.clone(),
        body: request.body.clone().unwrap_or_default(),
    };
    match fault {
        Some(fault) => sent.header("sandbox-fault", fault),
        None => sent,
    }
}

fn arrived(outcome: Outcome) -> Result<Response, TransportError> {
    match outcome.answer {
        Answer::Response(one) => Ok(Response { status: one.status, headers: one.headers, body: one.body }),
        Answer::NotSent => Err(TransportError::NotSent("connection refused".into())),
        Answer::NoAnswer => Err(TransportError::NoAnswer("the connection was closed".into())),
        Answer::CutAfter { response, bytes } if bytes % 2 == 1 => {
            // A proxy on the way hid that the body is not whole.
            let body = Bytes::copy_from_slice(&response.body[..bytes.min(response.body.len() / 2)]);
            Ok(Response { status: response.status, headers: response.headers, body })
        }
        Answer::CutAfter { .. } => Err(TransportError::NoAnswer("the answer was cut off".into())),
    }
}

fn shown(outcome: &Outcome) -> String {
    let Some(response) = outcome.response() else {
        return match &outcome.answer {
            Answer::NotSent => "not sent".into(),
            Answer::CutAfter { .. } => "cut".into(),
            Answer::NoAnswer | Answer::Response(_) => "no answer".into(),
        };
    };
    let replayed = if response.headers.contains_key("idempotent-replayed") { " (replayed)" } else { "" };
    format!("{}{replayed}", response.status)
}
