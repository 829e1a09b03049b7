//! HTTP/1.1 to Stripe over reqwest and rustls.
//!
//! Nothing here repeats a request. reqwest's own retries (for HTTP/2 refusals) are off, redirects and proxies
//! too. One repeat remains below us and is harmless: when a kept-alive connection turns out to be closed before
//! the request was started on it, hyper takes another connection. No byte of the request had left then.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;

use super::transport::{Request, Response, Transport, TransportError};
use crate::clock::Clock;

/// Where Stripe is.
pub const STRIPE_BASE_URL: &str = "https://api.stripe.com";

/// Limit: a page of 100 expanded objects is well below 1 MiB; more than this is not Stripe talking.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Limit: name lookup, TCP and TLS together; Stripe normally answers in well under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit: an idle connection is dropped before a load balancer would silently forget it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What [`HttpTransport`] needs to know.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Scheme and host, without a path. `http` is taken for the own machine only.
    pub base_url: String,
    /// From the call to the last byte of the answer. Stripe's own clients wait 80 seconds: giving up
    /// earlier turns slow successes into unknown outcomes.
    pub timeout: Duration,
    /// How many requests are under way at once: so many connections are kept.
    pub concurrency: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { base_url: STRIPE_BASE_URL.to_owned(), timeout: Duration::from_secs(80), concurrency: 32 }
    }
}

/// Why no [`HttpTransport`] could be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// Not `https://host[:port]`, nor `http` to the own machine.
    #[error("{0:?} is not a base URL for Stripe: write https://host, or http://127.0.0.1:port for a sandbox")]
    BaseUrl(String),
    /// The TLS library could not be set up, for example because the system has no root certificates.
    #[error("HTTPS cannot be set up: {0}")]
    Tls(String),
}

/// Stripe behind HTTP/1.1. Cloning is not needed: share it in an `Arc`.
pub struct HttpTransport {
    http: reqwest::Client,
    base_url: reqwest::Url,
    clock: Clock,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpTransport({})", self.base_url)
    }
}

impl HttpTransport {
    /// A pool of connections to one base URL. Connects only when something is sent.
    ///
    /// # Errors
    /// [`HttpSetupError`] when the URL is not acceptable or TLS cannot be set up.
    pub fn new(options: &HttpOptions, clock: Clock) -> Result<Self, HttpSetupError> {
        let base_url = acceptable(&options.base_url)?;
        // An error means that somebody installed a provider before: then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(options.timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(options.concurrency)
            .tcp_nodelay(true)
            .https_only(base_url.scheme() == "https");
        if base_url.scheme() == "http" {
            // A sandbox on a machine without root certificates must work.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|e| HttpSetupError::Tls(sentence(&e)))?;
        Ok(Self { http, base_url, clock })
    }

    fn build(&self, request: Request) -> Result<(reqwest::Request, Arc<AtomicBool>), TransportError> {
        let url = self.base_url.join(&request.path).map_err(|e| TransportError::NotSent(e.to_string()))?;
        if url.origin() != self.base_url.origin() {
            return Err(TransportError::NotSent(format!("the path {:?} leads elsewhere", request.path)));
        }
        let mut built = reqwest::Request::new(request.method, url);
        *built.headers_mut() = request.headers;
        let refused = Arc::new(AtomicBool::new(false));
        *built.body_mut() = match (request.body, request.not_after) {
            (Some(bytes), Some(not_after)) => Some(reqwest::Body::wrap(DeadlineBody {
                bytes: Some(bytes),
                not_after,
                clock: self.clock.clone(),
                refused: refused.clone(),
            })),
            (body, _) => body.map(reqwest::Body::from),
        };
        Ok((built, refused))
    }
}

#[async_trait]
impl Transport for HttpTransport {
    /// With `not_after` set, the clock is read twice: here, and when hyper asks for the body. That second
    /// look comes after the connection stands and in the same poll that then writes head and body together, so
    /// what remains is the time between it and the `write` system call, and whatever the kernel and the network
    /// hold back afterwards. A process frozen exactly there sends late; the connection has most likely died by
    /// then. An empty body is looked at here only.
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if request.not_after.is_some_and(|limit| self.clock.now() > limit) {
            return Err(too_late());
        }
        let (built, refused) = self.build(request)?;
        let mut answer = self.http.execute(built).await.map_err(|e| classify(e, &refused))?;
        let status = answer.status().as_u16();
        let headers = std::mem::take(answer.headers_mut());
        let body = read_body(answer).await?;
        Ok(Response { status, headers, body })
    }

    fn reaches_stripe(&self) -> bool {
        self.base_url.as_str().trim_end_matches('/') == STRIPE_BASE_URL
    }
}

fn acceptable(base_url: &str) -> Result<reqwest::Url, HttpSetupError> {
    let refused = || HttpSetupError::BaseUrl(base_url.to_owned());
    let url = reqwest::Url::parse(base_url).map_err(|_| refused())?;
    let loopback = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let no_login = url.username().is_empty() && url.password().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    if bare && no_login && safe { Ok(url) } else { Err(refused()) }
}

async fn read_body(mut answer: reqwest::Response) -> Result<Bytes, TransportError> {
    let cut = |e: reqwest::Error| TransportError::NoAnswer(sentence(&e));
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(cut)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            let reason = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
            return Err(TransportError::NoAnswer(reason));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn classify(error: reqwest::Error, refused: &AtomicBool) -> TransportError {
    if refused.load(Ordering::SeqCst) {
        return too_late();
    }
    // Only a failure to *make* a connection proves that nothing left. A timeout does not say where it struck.
    if error.is_connect() || error.is_builder() {
        return TransportError::NotSent(sentence(&error));
    }
    TransportError::NoAnswer(sentence(&error))
}

fn too_late() -> TransportError {
    TransportError::NotSent("too late: the time in which this request may leave has passed".to_owned())
}

/// The error with its causes, without the URL (a query may name a customer).
fn sentence(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() { "the request failed".to_owned() } else { text }
}

/// A body that refuses to be read after its deadline.
///
/// hyper keeps the head of an HTTP/1 request in memory and polls the body before it writes anything, so an
/// error at the first poll means that not one byte was sent.
struct DeadlineBody {
    bytes: Option<Bytes>,
    not_after: Timestamp,
    clock: Clock,
    refused: Arc<AtomicBool>,
}

impl Body for DeadlineBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        if self.bytes.is_some() && self.clock.now() > self.not_after {
            self.refused.store(true, Ordering::SeqCst);
            return Poll::Ready(Some(Err(too_late())));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |b| b.len() as u64))
    }
}
