//! What goes in and what comes out, with or without sockets.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// One HTTP request, as its bytes arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST or DELETE.
    pub method: Method,
    /// Such as `/v1/charges?limit=3`.
    pub path_and_query: String,
    /// Header lines.
    pub headers: HeaderMap,
    /// The body, empty for GET.
    pub body: Bytes,
}

impl Request {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self { method, path_and_query: path_and_query.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A GET with a test key.
    #[must_use]
    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self::new(Method::GET, path_and_query).header("authorization", "Bearer sk_test_sandbox")
    }

    /// A POST of form fields with a test key.
    #[must_use]
    pub fn post(path: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request = Self::new(Method::POST, path).header("authorization", "Bearer sk_test_sandbox");
        request.body = body.into();
        request
    }

    /// The request with one more header; a header that HTTP does not allow is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The request with an idempotency key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(super) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    pub(super) fn query(&self) -> &str {
        self.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }

    pub(super) fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into() }
    }

    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::new(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    pub(super) fn html(status: u16, page: String) -> Self {
        let mut response = Self::new(status, "text/html; charset=utf-8", page);
        response
            .set("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; form-action *");
        response
    }

    pub(super) fn redirect(to: &str) -> Self {
        let mut response = Self::new(303, "text/plain; charset=utf-8", "");
        response.set("location", to);
        response
    }

    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }

    /// The body as JSON, `null` if it is none.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What the caller of [`super::Sandbox::handle`] gets to see.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How long it takes until then. Only over HTTP is it really waited for.
    pub latency: Duration,
    /// What arrives.
    pub answer: Answer,
}

/// What arrives after a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A whole response.
    Response(Response),
    /// Not one byte of the request left the caller: nothing was executed.
    NotSent,
    /// The request left, the connection closed without an answer. It was executed, or not, or will be.
    NoAnswer,
    /// Only the first bytes of the body arrive before the connection closes.
    CutAfter {
        /// The whole response that was sent.
        response: Response,
        /// How many bytes of its body arrive.
        bytes: usize,
    },
}

impl Outcome {
    pub(super) fn at_once(response: Response) -> Self {
        Self { latency: Duration::ZERO, answer: Answer::Response(response) }
    }

    /// The whole response, if one arrives.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match &self.answer {
            Answer::Response(response) => Some(response),
            Answer::NotSent | Answer::NoAnswer | Answer::CutAfter { .. } => None,
        }
    }
}

/// A time as the header `Date` has it.
pub(super) fn date(secs: i64) -> String {
    let at = jiff::Timestamp::from_second(secs).unwrap_or_default();
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}
