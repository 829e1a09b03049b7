//! `/pay/{token}`: GET shows the truth, POST opens (or reuses) the one Checkout Session.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;

use super::Http;
use super::language::Language;
use super::pages::{OtherCharge, PayPage, PayState};
use super::trouble::Trouble;
use crate::billing::calendar::zone;
use crate::billing::charge::State as Charge;
use crate::flows::pay_link::{self, CLICK_LIFE, Opened};
use crate::mail::{ChargeLine, format};
use crate::store::{ChargeFilter, Claimed};

/// Limit: other open charges listed on the page.
const OTHERS_MAX: i64 = 20;

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
        let id = find(&http, &token).await?.charge.id;
        if http.clicks.check_key(&id.0).is_err() {
            return Ok(http.too_many(&language.0));
        }
        // In a task of its own: a browser that goes away must not stop it between two steps.
        let ctx = http.ctx.clone();
        match tokio::spawn(async move { pay_link::open(&ctx, id, CLICK_LIFE).await }).await?? {
            Opened::Url(url) => Ok((StatusCode::SEE_OTHER, [(header::LOCATION, url)]).into_response()),
            Opened::Paid | Opened::Busy | Opened::Later(_) | Opened::Closed => {
                page(&http, &find(&http, &token).await?).await
            }
        }
    };
    http.answer(&language, &at(&token), opened.await)
}

fn at(token: &str) -> String {
    format!("/pay/{token}")
}

async fn find(http: &Http, token: &str) -> Result<Claimed, Trouble> {
    pay_link::find(&http.ctx, token).await?.ok_or(Trouble::Missing)
}

/// The page of a charge as it stands.
pub(super) async fn page(http: &Http, claimed: &Claimed) -> Result<Response, Trouble> {
    let store = &http.ctx.store;
    let customer = store.find_customer(claimed.charge.customer).await?.ok_or(Trouble::Missing)?;
    let others = store
        .list_charges(&ChargeFilter::past_due_of(claimed.charge.customer, OTHERS_MAX))
        .await
        .unwrap_or_default();
    let others = others.iter().filter(|one| one.charge.id != claimed.charge.id);
    let locale = http.pages.regional_locale(&customer.locale);
    let zone = zone(&customer.time_zone).unwrap_or(TimeZone::UTC);
    let page = PayPage {
        state: match pay_link::opens_at(&http.ctx, claimed).await? {
            Some(at) => PayState::Later { from: format::date(at, &zone, &locale) },
            None => state(claimed, &zone, &locale),
        },
        charges: vec![line(claimed, &zone, &locale)],
        total: Some(format::amount(claimed.charge.amount, &locale)),
        others: others.map(|one| OtherCharge { charge: line(one, &zone, &locale), path: None }).collect(),
    };
    Ok(http.page(StatusCode::OK, http.pages.render_pay(&locale, &page)))
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
