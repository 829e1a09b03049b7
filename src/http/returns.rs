//! Where customers come back from Stripe's page. The same idempotent code as for the event runs, so that the page
//! tells the truth even when the event is late.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::Http;
use super::language::Language;
use super::pages::ThanksPage;
use super::trouble::not_found;
use crate::billing::charge::State as Charge;
use crate::flows::enrol::Completed;
use crate::flows::{enrol, receive};

#[derive(Deserialize)]
pub(super) struct Returned {
    session_id: Option<String>,
}

impl Returned {
    /// Stripe's session ids and nothing else.
    fn session(&self) -> Option<&str> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        self.session_id
            .as_deref()
            .filter(|id| id.starts_with("cs_") && id.len() <= 255 && id.bytes().all(plain))
    }
}

pub(super) async fn saved(
    State(http): State<Http>,
    language: Language,
    Query(returned): Query<Returned>,
) -> Response {
    let Some(session) = returned.session() else { return not_found(State(http), language).await };
    match enrol::complete(&http.ctx, session).await {
        Ok(Completed::Saved) => http.page(StatusCode::OK, http.pages.render_card_saved(&language.0)),
        Ok(Completed::Unknown) => not_found(State(http), language).await,
        Ok(Completed::Open | Completed::Expired) => canceled(State(http), language).await,
        Err(error) => {
            // The event or the next poll completes it.
            tracing::warn!("An enrolment could not be completed on return: {error}");
            http.page(StatusCode::OK, http.pages.render_card_saved(&language.0))
        }
    }
}

pub(super) async fn paid(
    State(http): State<Http>,
    language: Language,
    Query(returned): Query<Returned>,
) -> Response {
    let Some(session) = returned.session() else { return not_found(State(http), language).await };
    // Stripe is asked about Sessions that are ours, not about whatever is typed into an address.
    if let Ok(Some(id)) = http.ctx.store.charge_of_collector(session).await {
        if let Err(error) = receive::returned(&http.ctx, session).await {
            // The event or reconcile settles it.
            tracing::warn!(charge.id = %id, "The payment of charge {id} could not be settled on return: {error}");
        }
        if let Ok(Some(found)) = http.ctx.store.find_charge(id).await
            && matches!(found.charge.state, Charge::Paid { .. } | Charge::Processing { .. })
        {
            return http.answer(&language, "", super::pay::page(&http, &found).await);
        }
    }
    http.page(StatusCode::OK, http.pages.render_thanks(&language.0, &ThanksPage { path: None }))
}

pub(super) async fn canceled(State(http): State<Http>, language: Language) -> Response {
    http.page(StatusCode::OK, http.pages.render_turned_back(&language.0))
}
