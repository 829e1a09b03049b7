//! Error answers in Stripe's form.

use serde_json::{Map, Value, json};

use super::http::Response;

/// An error answer on its way out.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: u16,
    body: Box<Map<String, Value>>,
    /// Whether the idempotency layer keeps this answer: not for what was refused before the endpoint ran.
    pub(super) kept: bool,
    pub(super) should_retry: Option<bool>,
    pub(super) limited_reason: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        let mut body = Map::new();
        body.insert("type".to_owned(), kind.into());
        body.insert("message".to_owned(), message.into().into());
        Self { status, body: Box::new(body), kept: false, should_retry: None, limited_reason: None }
    }

    /// A 400 that nothing was executed for.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// A 400 about one parameter.
    pub(super) fn param(param: &str, message: impl Into<String>) -> Self {
        Self::invalid(message).with("param", param)
    }

    pub(super) fn missing_param(param: &str) -> Self {
        Self::param(param, format!("Missing required param: {param}.")).code("parameter_missing")
    }

    /// An id in the path that names nothing: 404.
    pub(super) fn not_found(object: &str, param: &str, id: &str) -> Self {
        let mut error = Self::no_such(object, param, id);
        error.status = 404;
        error
    }

    /// An id in a parameter that names nothing: 400.
    pub(super) fn no_such(object: &str, param: &str, id: &str) -> Self {
        Self::param(param, format!("No such {object}: '{id}'")).code("resource_missing")
    }

    /// A 400 because of the object's present state; the object comes with it.
    pub(super) fn unexpected_state(kind: &str, message: impl Into<String>, object: Value) -> Self {
        let mut error = Self::invalid(message).code(&format!("{kind}_unexpected_state")).with(kind, object);
        error.kept = true;
        error
    }

    pub(super) fn server_error() -> Self {
        let mut error =
            Self::new(500, "api_error", "Something went wrong on the sandbox's end, as it was told to.");
        error.kept = true;
        error
    }

    pub(super) fn code(self, code: &str) -> Self {
        let url = format!("https://docs.stripe.com/error-codes#{}", code.replace('_', "-"));
        self.with("code", code).with("doc_url", url)
    }

    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.body.insert(field.to_owned(), value.into());
        self
    }

    /// The text for people.
    pub(super) fn message(&self) -> &str {
        self.body.get("message").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn kept(mut self, kept: bool) -> Self {
        self.kept = kept;
        self
    }

    pub(super) fn response(self) -> Response {
        let mut response = Response::json(self.status, &json!({ "error": *self.body }));
        if let Some(retry) = self.should_retry {
            response.set("stripe-should-retry", if retry { "true" } else { "false" });
        }
        if let Some(reason) = self.limited_reason {
            response.set("stripe-rate-limited-reason", reason);
        }
        response
    }
}
