//! `/card/{token}`: GET shows what the card is for, POST opens (or reuses) the one page that saves another card.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;

use super::Http;
use super::language::Language;
use super::pages::SaveCardPage;
use super::trouble::Trouble;
use crate::billing::calendar::zone;
use crate::flows::card_link::{self, Opened, Payment};
use crate::mail::{ChargeLine, format};
use crate::store::Customer;

pub(super) async fn show(
    State(http): State<Http>,
    language: Language,
    Path(token): Path<String>,
) -> Response {
    let shown = async { page(&http, &find(&http, &token).await?).await };
    http.answer(&language, &at(&token), shown.await)
}

pub(super) async fn open(
    State(http): State<Http>,
    language: Language,
    Path(token): Path<String>,
) -> Response {
    let opened = async {
        let customer = find(&http, &token).await?;
        let locale = http.pages.regional_locale(&customer.locale);
        if http.clicks.check_key(&customer.customer_id().0).is_err() {
            return Ok(http.too_many(&locale));
        }
        // In a task of its own: a browser that goes away must not stop it between two steps.
        let ctx = http.ctx.clone();
        match tokio::spawn(async move { card_link::open(&ctx, &customer).await }).await?? {
            Opened::Url(url) => Ok((StatusCode::SEE_OTHER, [(header::LOCATION, url)]).into_response()),
            Opened::Saved => Ok(http.page(StatusCode::OK, http.pages.render_card_saved(&locale))),
        }
    };
    http.answer(&language, &at(&token), opened.await)
}

fn at(token: &str) -> String {
    format!("/card/{token}")
}

async fn find(http: &Http, token: &str) -> Result<Customer, Trouble> {
    card_link::find(&http.ctx, token).await?.ok_or(Trouble::Missing)
}

async fn page(http: &Http, customer: &Customer) -> Result<Response, Trouble> {
    let payments = card_link::payments(&http.ctx, customer.customer_id()).await?;
    let locale = http.pages.regional_locale(&customer.locale);
    let zone = zone(&customer.time_zone).unwrap_or(TimeZone::UTC);
    let line = |one: &Payment| ChargeLine {
        description: one.description.clone(),
        amount: format::amount(one.amount, &locale),
        due_date: format::date(one.due_at, &zone, &locale),
        reference: None,
    };
    let page = SaveCardPage {
        open: payments.open.iter().map(line).collect(),
        charges: payments.coming.iter().map(line).collect(),
        terms: Some(http.ctx.config.consent_text.clone()),
    };
    Ok(http.page(StatusCode::OK, http.pages.render_save_card(&locale, &page)))
}
