//! `POST /webhooks/stripe`: verified over the raw bytes, stored, then acknowledged.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::Http;
use crate::flows::receive::{Unacceptable, accept};

/// The last minute of which the log names a refused event.
static NAMED: AtomicI64 = AtomicI64::new(0);

pub(super) async fn receive(
    State(http): State<Http>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or("");
    match accept(&http.ctx, &body, signature).await {
        Ok(new) => {
            count(if new { "stored" } else { "duplicate" });
            (StatusCode::OK, String::new())
        }
        Err(error @ (Unacceptable::Store(_) | Unacceptable::NoSecret)) => {
            // Not acknowledged: Stripe sends it again for three days.
            tracing::error!("An event could not be stored: {error}");
            count("unavailable");
            (StatusCode::SERVICE_UNAVAILABLE, "try again later\n".into())
        }
        Err(error) => {
            // Anybody can send some: the log names one a minute, the counter counts all.
            let minute = http.ctx.now().as_second() / 60;
            if NAMED.swap(minute, Ordering::Relaxed) != minute {
                tracing::warn!("An event was refused: {error}");
            }
            count("refused");
            (StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
    }
}

fn count(result: &'static str) {
    metrics::counter!("recurd_webhook_events_total", "result" => result).increment(1);
}
