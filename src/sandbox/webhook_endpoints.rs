//! Webhook endpoints as the API shows them.

use serde_json::{Value, json};

use super::api::{Answered, Call};
use super::auth;
use super::errors::ApiError;
use super::lists::{self, Query};
use super::params::Metadata;
use super::state::{State, in_path};
use super::table::Record;

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) id: String,
    created: i64,
    pub(super) url: String,
    pub(super) enabled_events: Vec<String>,
    pub(super) secret: String,
    /// Events come in this version; without one, in the account's.
    pub(super) api_version: Option<String>,
    description: Option<String>,
    metadata: Metadata,
    pub(super) disabled: bool,
    pub(super) deleted: bool,
    /// Events of other types are not sent.
    pub(super) failures: u32,
}

impl Record for Endpoint {
    const OBJECT: &'static str = "webhook_endpoint";

    fn id(&self) -> &str {
        &self.id
    }

    fn created(&self) -> i64 {
        self.created
    }
}

impl Endpoint {
    fn render(&self) -> Value {
        if self.deleted {
            return json!({ "id": self.id, "object": "webhook_endpoint", "deleted": true });
        }
        json!({
            "id": self.id, "object": "webhook_endpoint", "api_version": self.api_version, "application": null,
            "created": self.created, "description": self.description, "enabled_events": self.enabled_events,
            "livemode": false, "metadata": self.metadata,
            "status": if self.disabled { "disabled" } else { "enabled" }, "url": self.url,
        })
    }
}

/// Stripe's limit of endpoints in an account.
const ENDPOINTS_MAX: usize = 16;

/// Makes an endpoint; its secret is drawn unless one is given.
pub(super) fn insert(state: &mut State, url: &str, events: Vec<String>, secret: Option<String>) -> String {
    let endpoint = Endpoint {
        id: state.rng.id("we_1"),
        created: state.now(),
        url: url.to_owned(),
        enabled_events: events,
        secret: secret.unwrap_or_else(|| format!("whsec_{}", state.rng.text(32))),
        api_version: None,
        description: None,
        metadata: Metadata::new(),
        disabled: false,
        deleted: false,
        failures: 0,
    };
    let id = endpoint.id.clone();
    state.endpoints.insert(endpoint);
    id
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answered {
    let params = call.params;
    if state.endpoints.iter().filter(|endpoint| !endpoint.deleted).count() >= ENDPOINTS_MAX {
        let message = format!("You have reached the maximum of {ENDPOINTS_MAX} test webhook endpoints.");
        return Err(ApiError::invalid(message));
    }
    let url = params.text("url").ok_or_else(|| ApiError::missing_param("url"))?;
    check_url(url)?;
    let version = params.owned("api_version");
    if let Some(version) = version.as_ref().filter(|version| !auth::is_version(version)) {
        return Err(ApiError::param("api_version", format!("Invalid API version: {version}")));
    }
    let metadata = params.metadata("metadata")?;
    let id = insert(state, url, params.texts("enabled_events"), None);
    let endpoint = state.endpoints.get_mut(&id).ok_or_else(ApiError::server_error)?;
    endpoint.api_version = version;
    endpoint.description = params.owned("description");
    endpoint.metadata = metadata;
    // The only answer that shows the secret.
    let mut shown = endpoint.render();
    shown["secret"] = endpoint.secret.clone().into();
    Ok(shown)
}

fn check_url(url: &str) -> Result<(), ApiError> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(());
    }
    Err(ApiError::param("url", "Invalid URL: it must begin with http:// or https://.").code("url_invalid"))
}

fn present<'a>(state: &'a State, id: &str) -> Result<&'a Endpoint, ApiError> {
    let endpoint = in_path(&state.endpoints, "webhook_endpoint", id)?;
    if endpoint.deleted {
        return Err(ApiError::not_found("webhook_endpoint", "webhook_endpoint", id));
    }
    Ok(endpoint)
}

pub(super) fn retrieve(state: &mut State, call: &Call<'_>) -> Answered {
    Ok(present(state, call.id)?.render())
}

pub(super) fn update(state: &mut State, call: &Call<'_>) -> Answered {
    let params = call.params;
    let mut endpoint = present(state, call.id)?.clone();
    if let Some(url) = params.text("url") {
        check_url(url)?;
        endpoint.url = url.to_owned();
    }
    if params.has("enabled_events") {
        endpoint.enabled_events = params.texts("enabled_events");
    }
    if let Some(disabled) = params.get("disabled").as_bool() {
        endpoint.disabled = disabled;
    }
    params.update("description", &mut endpoint.description);
    params.merge_metadata("metadata", &mut endpoint.metadata)?;
    let shown = endpoint.render();
    if let Some(row) = state.endpoints.get_mut(call.id) {
        *row = endpoint;
    }
    Ok(shown)
}

pub(super) fn delete(state: &mut State, call: &Call<'_>) -> Answered {
    present(state, call.id)?;
    let endpoint = state.endpoints.get_mut(call.id).ok_or_else(ApiError::server_error)?;
    endpoint.deleted = true;
    Ok(endpoint.render())
}

pub(super) fn list(state: &mut State, call: &Call<'_>) -> Answered {
    let query = Query { url: "/v1/webhook_endpoints", owner: None };
    lists::page(&state.endpoints, call.params, &query, |endpoint| !endpoint.deleted, Endpoint::render)
}
