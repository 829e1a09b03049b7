//! What Stripe and customers reach: the webhook, the pay pages, the return pages, health and metrics.
//!
//! A GET never has an effect (mail scanners open links); only the webhook's POST and those of the two buttons do.

mod card;
mod language;
pub mod pages;
mod pay;
mod returns;
mod trouble;
mod webhook;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::flows::Ctx;
use crate::mail::Link;
use pages::{Pages, STRIPE_CHECKOUT_ORIGIN};

/// Limit: Stripe's events are well below this; more is not Stripe talking.
const WEBHOOK_BYTES_MAX: usize = 256 * 1024;
/// Limit: forms of ours are empty.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Limit: tokens that exist nowhere, per second. Guessing 128 random bits is hopeless; this keeps it from being a load.
const MISSES_PER_SEC: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Limit: clicks on one charge's or one customer's button per minute.
const CLICKS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(12).unwrap();
/// Limit: a request that takes longer is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// What the routes share.
#[derive(Clone)]
pub struct Http {
    ctx: Ctx,
    pages: Arc<Pages>,
    misses: Arc<DefaultDirectRateLimiter>,
    clicks: Arc<DefaultKeyedRateLimiter<uuid::Uuid>>,
}

/// All routes.
///
/// # Errors
/// When an address of the configuration is none.
pub fn router(ctx: Ctx) -> Result<Router, crate::mail::ContextError> {
    let mut origins = vec![Link::new(STRIPE_CHECKOUT_ORIGIN)?];
    if ctx.config.stripe.api_base.starts_with("http://") {
        origins.push(Link::new(&ctx.config.stripe.api_base)?);
    }
    let pages = Pages::new(ctx.templates.clone(), ctx.head.brand.clone(), &origins);
    let http = Http {
        ctx,
        pages: Arc::new(pages),
        misses: Arc::new(RateLimiter::direct(Quota::per_second(MISSES_PER_SEC))),
        clicks: Arc::new(RateLimiter::keyed(Quota::per_minute(CLICKS_PER_MINUTE))),
    };
    let webhook = post(webhook::receive).layer(DefaultBodyLimit::max(WEBHOOK_BYTES_MAX));
    Ok(Router::new()
        .route("/webhooks/stripe", webhook)
        .route("/pay/{token}", get(pay::show).post(pay::open))
        .route("/card/{token}", get(card::show).post(card::open))
        .route("/return/saved", get(returns::saved))
        .route("/return/paid", get(returns::paid))
        .route("/return/canceled", get(returns::canceled))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(trouble::not_found)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(axum::middleware::from_fn(timeout))
        .with_state(http))
}

async fn timeout(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Ready when the database answers with the schema this binary knows.
async fn ready(State(http): State<Http>) -> Response {
    match http.ctx.store.schema_version().await {
        Ok(Some(version)) if version == crate::store::Store::known_schema_version() => {
            "ready\n".into_response()
        }
        Ok(found) => (StatusCode::SERVICE_UNAVAILABLE, format!("schema version {found:?}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

async fn metrics(State(http): State<Http>) -> Response {
    crate::daemon::gauges(&http.ctx).await;
    match crate::telemetry::metrics() {
        Some(handle) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Http {
    /// A page with the headers that every page has.
    fn page(&self, status: StatusCode, html: Result<String, crate::template::TemplateError>) -> Response {
        let mut response = match html {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!("A page could not be rendered: {error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "This page cannot be shown right now.").into_response()
            }
        };
        for (name, value) in self.pages.headers() {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
