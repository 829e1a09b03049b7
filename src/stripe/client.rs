//! One call to Stripe: wait for a turn, send, read, and send the same bytes again only where that is safe.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tracing::debug;

use super::answer::{self, Failure};
use super::error::{Call, Doubt, Error, Rejection};
use super::options::{ClientOptions, SetupError, common_headers, is_live};
use super::rate_limit::Pacer;
use super::retry::{Pauses, RetryPolicy};
use super::transport::{IDEMPOTENCY_KEY, Request, Response, Transport, TransportError};
use crate::clock::Clock;

/// Limit: Stripe takes idempotency keys of at most 255 characters.
const KEY_CHARS_MAX: usize = 255;

/// A method and path pattern, such as `POST /v1/payment_intents/{id}/confirm`: the unit Stripe's rate limits and
/// our metrics count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint(pub &'static str);

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The object.
    pub value: T,
    /// A saved answer to this idempotency key: it ran earlier, not now.
    pub replayed: bool,
    /// Stripe's name for the request.
    pub request_id: Option<String>,
    /// Stripe's clock when it answered, whole seconds.
    pub stripe_date: Option<Timestamp>,
    /// How often the request was sent.
    pub sends: u32,
}

/// Asked right before a request leaves that takes money by itself. `Err` says why it may not.
pub trait Gate: Send + Sync {
    /// May it leave?
    fn ask(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Stripe, with typed calls. Cheap to clone; clones share connections, rate limits and the clock check.
///
/// A call whose future is dropped has an unknown outcome: run calls that move money in a task of their own.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    not_after: Option<Timestamp>,
    gate: Option<Arc<dyn Gate>>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    /// What every request carries, the key among it.
    headers: HeaderMap,
    clock: Clock,
    pacer: Pacer,
    retry: RetryPolicy,
    livemode: bool,
    latest: Mutex<Option<Skew>>,
}

/// What an answer said of our clock.
struct Skew {
    /// How far it was ahead.
    secs: i64,
    /// What it showed then, and the machine's stopwatch.
    at: Timestamp,
    stopwatch: Option<Instant>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("livemode", &self.shared.livemode)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client over a transport.
    ///
    /// # Errors
    /// [`SetupError`] for a key of another kind, and for a live key that would not go to Stripe itself.
    pub fn new(transport: Arc<dyn Transport>, options: ClientOptions) -> Result<Self, SetupError> {
        let livemode = is_live(options.secret_key.expose_secret())?;
        if livemode && !transport.reaches_stripe() {
            return Err(SetupError::LiveKeyElsewhere);
        }
        let shared = Shared {
            transport,
            headers: common_headers(&options)?,
            pacer: Pacer::new(options.limits, options.clock.clone()),
            clock: options.clock,
            retry: options.retry,
            livemode,
            latest: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), not_after: None, gate: None })
    }

    /// The same client behind a gate: PaymentIntents are created and confirmed only while it is open.
    #[must_use]
    pub fn behind(self, gate: Arc<dyn Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// The same client, for calls of which no byte may leave after `limit` (wall clock): a process that was
    /// suspended wakes up and finds its send refused. See [`HttpTransport`](super::HttpTransport) for what remains.
    #[must_use]
    pub fn not_after(&self, limit: Timestamp) -> Self {
        Self { not_after: Some(limit), ..self.clone() }
    }

    /// Whether the key is a live one. Every object must say the same.
    #[must_use]
    pub fn livemode(&self) -> bool {
        self.shared.livemode
    }

    /// How far our clock is ahead of Stripe's, in seconds, by the latest answer and by how it was set since then. `None`
    /// before the first. After a sleep of the machine, which its stopwatch does not see, the next answer tells.
    #[must_use]
    pub fn skew_secs(&self) -> Option<i64> {
        let latest = self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = latest.as_ref()?;
        let watches = self.shared.clock.stopwatch().zip(latest.stopwatch);
        let set_since = watches.map_or(0, |(now, then)| {
            let went_on = self.shared.clock.now().duration_since(latest.at).as_secs();
            went_on - i64::try_from(now.duration_since(then).as_secs()).unwrap_or(i64::MAX)
        });
        Some(latest.secs.saturating_add(set_since))
    }

    /// POSTs exactly these bytes under this idempotency key.
    ///
    /// # Errors
    /// [`Error`]; its [`next`](Error::next) says what to do.
    pub async fn post<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        path: String,
        body: Bytes,
        key: &str,
    ) -> Result<Answer<T>, Error> {
        let Some(key) = checked_key(key) else {
            let message = "an idempotency key has 1 to 255 visible ASCII characters";
            return Err(Rejection::of_ours("invalid_idempotency_key", message).into());
        };
        let mut headers = self.shared.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(IDEMPOTENCY_KEY, key);
        let not_after = self.not_after;
        self.call(endpoint, Request { method: Method::POST, path, headers, body: Some(body), not_after })
            .await
    }

    /// GETs a path with its query.
    ///
    /// # Errors
    /// [`Error`]; its [`next`](Error::next) says what to do.
    pub async fn get<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        path: String,
    ) -> Result<Answer<T>, Error> {
        let headers = self.shared.headers.clone();
        let not_after = self.not_after;
        self.call(endpoint, Request { method: Method::GET, path, headers, body: None, not_after }).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        request: Request,
    ) -> Result<Answer<T>, Error> {
        let (response, sends) = self.settle(endpoint, &request).await?;
        let request_id = response.request_id().map(str::to_owned);
        let value = answer::read_value(&response, || call(&request, request_id.clone(), sends))?;
        let (replayed, stripe_date) = (response.replayed(), response.date());
        Ok(Answer { value, replayed, request_id, stripe_date, sends })
    }

    /// Sends until there is an answer, the error is not one to resend after, or tries or time are used up.
    async fn settle(&self, endpoint: Endpoint, request: &Request) -> Result<(Response, u32), Error> {
        let mut pauses = Pauses::new(&self.shared.retry, self.shared.clock.now(), self.not_after);
        let mut doubt: Option<Box<Doubt>> = None;
        let mut sends = 0;
        loop {
            sends += 1;
            let sent = self.send(endpoint, request, sends).await;
            let Failure { error, should_retry } = match answer::success(sent, |id| call(request, id, sends)) {
                Ok(response) => return Ok((response, sends)),
                Err(failure) => failure,
            };
            if let Error::RateLimited(limit) = &error {
                self.shared.pacer.slow_down(endpoint.0, limit.reason.as_deref());
            }
            let again = answer::may_resend(&request.method, &error, should_retry);
            let error = if request.method == Method::GET { error } else { remember(&mut doubt, error) };
            let Some(pause) = again.then(|| pauses.next(self.shared.clock.now())).flatten() else {
                return Err(error);
            };
            metrics::counter!("recurd_stripe_resends_total", "endpoint" => endpoint.0).increment(1);
            self.shared.clock.sleep(pause).await;
        }
    }

    async fn send(
        &self,
        endpoint: Endpoint,
        request: &Request,
        sends: u32,
    ) -> Result<Response, TransportError> {
        self.shared.pacer.turn(endpoint.0).await;
        if let Some(gate) = self.gate.as_ref().filter(|_| takes_money(endpoint)) {
            gate.ask().await.map_err(TransportError::Held)?;
        }
        let started = self.shared.clock.now();
        if request.not_after.is_some_and(|limit| started > limit) {
            return Err(TransportError::Held("too late: the time for this request has passed".to_owned()));
        }
        let sent = self.shared.transport.send(request.clone()).await;
        let now = self.shared.clock.now();
        let took = Duration::try_from(now.duration_since(started)).unwrap_or_default();
        self.observe(endpoint, &sent, took, sends);
        if let Some(date) = sent.as_ref().ok().and_then(Response::date) {
            let skew = Skew {
                secs: skew_secs(started, now, date),
                at: now,
                stopwatch: self.shared.clock.stopwatch(),
            };
            *self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
        }
        sent
    }

    fn observe(
        &self,
        endpoint: Endpoint,
        sent: &Result<Response, TransportError>,
        took: Duration,
        sends: u32,
    ) {
        let (status, request_id) = match sent {
            Ok(response) => (response.status, response.request_id().unwrap_or("-")),
            Err(_) => (0, "-"),
        };
        metrics::histogram!(
            "recurd_stripe_request_seconds", "endpoint" => endpoint.0, "status" => status.to_string()
        )
        .record(took.as_secs_f64());
        debug!(
            endpoint = endpoint.0,
            status,
            stripe.request_id = request_id,
            latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            sends,
            error = sent.as_ref().err().map(tracing::field::display),
            "Sent {} to Stripe",
            endpoint.0
        );
    }
}

/// How far our clock is ahead. Stripe dated the answer somewhere between our two instants, which may be days apart if
/// the machine was suspended: only what lies outside of them is skew.
pub(super) fn skew_secs(started: Timestamp, ended: Timestamp, date: Timestamp) -> i64 {
    let date = date.as_second();
    (started.as_second() - date).max(0) + (ended.as_second() - date).min(0)
}

/// Whether a request may take money as soon as it arrives.
fn takes_money(endpoint: Endpoint) -> bool {
    [super::payment_intents::CREATE, super::payment_intents::CONFIRM].contains(&endpoint)
}

/// Once one send of a POST may have run, only an answer or a decline settles the call: that a later send was
/// refused, limited or not delivered says nothing of the earlier one.
fn remember(earlier: &mut Option<Box<Doubt>>, error: Error) -> Error {
    match (error, earlier.as_mut()) {
        (Error::Unknown(mut doubt), earlier_doubt) => {
            doubt.cached_5xx |= earlier_doubt.is_some_and(|earlier| earlier.cached_5xx);
            *earlier = Some(doubt.clone());
            Error::Unknown(doubt)
        }
        (error @ Error::Declined(_), _) | (error, None) => error,
        (error, Some(doubt)) => {
            doubt.call = error.call().clone();
            Error::Unknown(doubt.clone())
        }
    }
}

fn checked_key(key: &str) -> Option<HeaderValue> {
    let plain = !key.is_empty() && key.len() <= KEY_CHARS_MAX && key.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| HeaderValue::from_str(key).ok()).flatten()
}

fn call(request: &Request, request_id: Option<String>, sends: u32) -> Call {
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    Call { method: request.method.clone(), path, request_id, sends }
}
