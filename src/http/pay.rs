//! `/pay/{token}`: GET shows the truth, POST opens (or reuses) the one Checkout Session.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;

use super::Http;
use super::language::Language;
use super::pages::{ErrorPage, LocalPath, OtherCharge, PayPage, PayState};
use crate::billing::calendar::zone;
use crate::billing::charge::State as Charge;
use crate::flows::pay_link::{self, CLICK_LIFE, Opened};
use crate::mail::{ChargeLine, format};
use crate::store::{ChargeFilter, Claimed};

/// Limit: other open charges listed on the page.
const OTHERS_MAX: i64 = 20;

fn at(token: &str) -> String {
    format!("/pay/{token}")
}

pub(super) async fn show(
    State(http): State<Http>,
    language: Language,
    Path(token): Path<String>,
) -> Response {
    match pay_link::find(&http.ctx, &token).await {
        Ok(Some(claimed)) => page(&http, &language, &claimed).await,
        Ok(None) => miss(&http, &language),
        Err(error) => unavailable(&http, &language, &at(&token), &error),
    }
}

pub(super) async fn open(
    State(http): State<Http>,
    language: Language,
    Path(token): Path<String>,
) -> Response {
    let claimed = match pay_link::find(&http.ctx, &token).await {
        Ok(Some(claimed)) => claimed,
        Ok(None) => return miss(&http, &language),
        Err(error) => return unavailable(&http, &language, &at(&token), &error),
    };
    if http.clicks.check_key(&claimed.charge.id.0).is_err() {
        return http.page(StatusCode::TOO_MANY_REQUESTS, http.pages.render_too_many(&language.0));
    }
    // In a task of its own: a browser that goes away must not stop it between two steps.
    let (ctx, id) = (http.ctx.clone(), claimed.charge.id);
    let opened = tokio::spawn(async move { pay_link::open(&ctx, id, CLICK_LIFE).await }).await;
    match opened {
        Ok(Ok(Opened::Url(url))) => (StatusCode::SEE_OTHER, [(header::LOCATION, url)]).into_response(),
        Ok(Ok(Opened::Paid | Opened::Busy | Opened::Closed)) => match pay_link::find(&http.ctx, &token).await
        {
            Ok(Some(claimed)) => page(&http, &language, &claimed).await,
            Ok(None) => miss(&http, &language),
            Err(error) => unavailable(&http, &language, &at(&token), &error),
        },
        Ok(Err(error)) => unavailable(&http, &language, &at(&token), &error),
        Err(error) => unavailable(&http, &language, &at(&token), &error),
    }
}

/// Anything else that is asked for: the same page as for a token that does not exist.
pub(super) async fn not_found(State(http): State<Http>, language: Language) -> Response {
    miss(&http, &language)
}

pub(super) fn miss(http: &Http, language: &Language) -> Response {
    if http.misses.check().is_err() {
        return http.page(StatusCode::TOO_MANY_REQUESTS, http.pages.render_too_many(&language.0));
    }
    http.page(StatusCode::NOT_FOUND, http.pages.render_not_found(&language.0))
}

/// `path`: where to try again.
pub(super) fn unavailable(
    http: &Http,
    language: &Language,
    path: &str,
    error: &dyn std::fmt::Display,
) -> Response {
    let reference = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(reference, "A page could not be shown: {error}");
    let page = ErrorPage { path: LocalPath::new(path).ok(), reference: Some(reference) };
    http.page(StatusCode::SERVICE_UNAVAILABLE, http.pages.render_error(&language.0, &page))
}

/// The page of a charge as it stands.
pub(super) async fn page(http: &Http, language: &Language, claimed: &Claimed) -> Response {
    let store = &http.ctx.store;
    let customer = match store.find_customer(claimed.charge.customer).await {
        Ok(Some(customer)) => customer,
        Ok(None) => return miss(http, language),
        Err(error) => return unavailable(http, language, "", &error),
    };
    let others = store
        .list_charges(&ChargeFilter::past_due_of(claimed.charge.customer, OTHERS_MAX))
        .await
        .unwrap_or_default();
    let others = others.iter().filter(|one| one.charge.id != claimed.charge.id);
    let locale = http.pages.regional_locale(&customer.locale);
    let zone = zone(&customer.time_zone).unwrap_or(TimeZone::UTC);
    let page = PayPage {
        state: state(claimed, &zone, &locale),
        charges: vec![line(claimed, &zone, &locale)],
        total: Some(format::amount(claimed.charge.amount, &locale)),
        others: others.map(|one| OtherCharge { charge: line(one, &zone, &locale), path: None }).collect(),
    };
    http.page(StatusCode::OK, http.pages.render_pay(&locale, &page))
}

fn line(one: &Claimed, zone: &TimeZone, locale: &str) -> ChargeLine {
    let id = one.charge.id.to_string();
    ChargeLine {
        description: one.charge.description.clone(),
        amount: format::amount(one.charge.amount, locale),
        due_date: format::date(one.charge.due_at, zone, locale),
        reference: id.split('-').next().map(str::to_owned),
    }
}

/// What the customer is told, in five words a database does not have.
fn state(claimed: &Claimed, zone: &TimeZone, locale: &str) -> PayState {
    let on = |at| Some(format::date(at, zone, locale));
    match &claimed.charge.state {
        Charge::Due { .. } | Charge::PastDue { .. } | Charge::LinkOpen { .. } | Charge::Missed => {
            PayState::Payable
        }
        Charge::Collecting { .. } | Charge::Processing { .. } | Charge::NeedsReview { end: None, .. } => {
            PayState::Collecting
        }
        Charge::Paid { at, .. } => PayState::Paid { on: on(*at) },
        Charge::Closing { .. }
        | Charge::NeedsReview { end: Some(_), .. }
        | Charge::Canceled { .. }
        | Charge::Uncollectible { .. } => PayState::Canceled,
        Charge::Settled { .. } => PayState::NothingDue,
    }
}
