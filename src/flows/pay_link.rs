//! The link in a mail: it always shows the truth, and a click opens (or reuses) the one Checkout Session.

use std::time::Duration;

use jiff::Timestamp;

use super::answers::{ATTEMPT, CHARGE, GENERATION, INSTANCE, ON_PAGE, SUBSCRIPTION};
use super::close::clear;
use super::collect::found_forgotten;
use super::settle::{Trace, commit, decide, settle_one};
use super::witness::{self, View};
use super::{Ctx, FlowError, Report, Result, in_doubt};
use crate::billing::apply::Event;
use crate::billing::charge::{Charge, State};
use crate::billing::ids::ChargeId;
use crate::billing::subscription::SubscriptionState;
use crate::store::Claimed;
use crate::stripe::Error;
use crate::stripe::checkout::{CreatePaymentSession, SessionPage};

/// A Session that a click opened lives this long; a machine retry that falls due meanwhile waits for it.
pub const CLICK_LIFE: Duration = Duration::from_secs(3600);
/// A Session whose own URL is mailed (direct mode) lives as long as Stripe allows, less a margin.
pub const MAIL_LIFE: Duration = Duration::from_secs(23 * 3600);
/// Stripe's clock may be behind ours: a Session is read back this long after it should have expired.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// What became of a click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The customer goes there.
    Url(String),
    /// Nothing is left to pay.
    Paid,
    /// Something is under way right now; in a minute it is known.
    Busy,
    /// A payment may still appear of which this database knows nothing: from then on.
    Later(Timestamp),
    /// Canceled, given up, or otherwise not payable.
    Closed,
}

/// A new random token and the hash that is stored of it.
#[must_use]
pub fn new_token() -> (String, String) {
    let mut bytes = [0_u8; 16];
    crate::chance::fill(&mut bytes);
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = hash(&token);
    (token, hash)
}

/// SHA-256 in hex: what the database knows of a token.
#[must_use]
pub fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash under which a token of this shape would be stored; whatever has another shape was never one.
pub(super) fn hash_of_token(token: &str) -> Option<String> {
    let is_one = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| hash(token))
}

/// The address a mail carries for a charge.
///
/// # Errors
/// [`FlowError::Store`]; in direct mode what [`open`] meets.
pub async fn for_mail(ctx: &Ctx, claimed: &Claimed) -> Result<String> {
    if let Some(public_url) = &ctx.config.public_url {
        let (token, hash) = new_token();
        ctx.store.add_pay_link(&hash, claimed.charge.id, ctx.now()).await?;
        return Ok(format!("{public_url}/pay/{token}"));
    }
    match open(ctx, claimed.charge.id, MAIL_LIFE).await? {
        Opened::Url(url) => Ok(url),
        other => Err(FlowError::Refused(format!("no link for charge {}: {other:?}", claimed.charge.id))),
    }
}

/// The charge behind a token. The same `None` for every miss.
///
/// # Errors
/// [`FlowError::Store`].
pub async fn find(ctx: &Ctx, token: &str) -> Result<Option<Claimed>> {
    let Some(hash) = hash_of_token(token) else { return Ok(None) };
    match ctx.store.charge_of_link(&hash).await? {
        Some(id) => Ok(ctx.store.find_charge(id).await?),
        None => Ok(None),
    }
}

/// Opens the one Checkout Session of a charge, or finds the one that is open.
///
/// Crash: the Session's request is stored before it is sent; the next click (or tick) goes on with the same one.
///
/// # Errors
/// [`FlowError::Store`]; [`FlowError::Refused`] while charging is halted, and when customers could not return from the
/// page.
pub async fn open(ctx: &Ctx, id: ChargeId, lives: Duration) -> Result<Opened> {
    if let Some(why) = ctx.brake.halted().await? {
        return Err(FlowError::Refused(why));
    }
    if let View::Differs(why) | View::Unseen(why) = witness::look(ctx).await? {
        return Err(FlowError::Refused(why));
    }
    let Some(claimed) = ctx.store.claim_charge(id, &ctx.worker, ctx.now(), ctx.lease_until()).await? else {
        return Ok(Opened::Busy);
    };
    failpoint!("P13 claimed");
    match &claimed.charge.state {
        State::LinkOpen { .. } => reopen(ctx, claimed).await,
        State::Due { .. } | State::PastDue { .. } | State::Missed => open_new(ctx, claimed, lives).await,
        state => {
            let opened = shown(state);
            ctx.store.release_charge(&claimed.charge, None).await?;
            Ok(opened)
        }
    }
}

/// What a click finds when there is nothing to open.
#[must_use]
pub fn shown(state: &State) -> Opened {
    match state {
        State::Paid { .. } | State::Settled { .. } => Opened::Paid,
        State::Collecting { .. } | State::Processing { .. } | State::NeedsReview { end: None, .. } => {
            Opened::Busy
        }
        State::Closing { .. }
        | State::NeedsReview { end: Some(_), .. }
        | State::Uncollectible { .. }
        | State::Canceled { .. } => Opened::Closed,
        State::Due { .. } | State::PastDue { .. } | State::Missed | State::LinkOpen { .. } => Opened::Busy,
    }
}

async fn reopen(ctx: &Ctx, claimed: Claimed) -> Result<Opened> {
    let Some(target) = ctx.store.living_collector(claimed.charge.id).await? else {
        ctx.store.release_charge(&claimed.charge, None).await?;
        return Ok(Opened::Busy);
    };
    match (target.stripe_id, target.url, target.idempotency_key, target.body) {
        (_, _, Some(key), Some(body)) if mutant!(PageForEachClick) => {
            make(ctx, claimed, &format!("{key}:{}", ctx.now().as_second()), body).await
        }
        (Some(_), Some(url), _, _) => {
            ctx.store.release_charge(&claimed.charge, None).await?;
            Ok(Opened::Url(url))
        }
        // Its answer was lost: the same request again.
        (None, _, Some(key), Some(body)) => make(ctx, claimed, &key, body).await,
        _ => {
            ctx.store.release_charge(&claimed.charge, None).await?;
            Ok(Opened::Busy)
        }
    }
}

/// From when on a page may be opened for a charge that has none; `None`: now.
///
/// # Errors
/// [`FlowError::Store`].
pub async fn opens_at(ctx: &Ctx, claimed: &Claimed) -> Result<Option<Timestamp>> {
    let (State::Due { .. } | State::PastDue { .. } | State::Missed) = claimed.charge.state else {
        return Ok(None);
    };
    let now = ctx.now();
    ctx.witness.learn(&ctx.store.instance(now).await?);
    Ok(in_doubt::until(ctx, claimed, now).await)
}

/// Whether Stripe has nothing of a charge without a collector that a lost database asked for, and whose event was lost too.
async fn is_all_known(ctx: &Ctx, claimed: &Claimed) -> Result<bool> {
    if ctx.witness.recoveries() == 0 || claimed.charge.collector.is_some() {
        return Ok(true);
    }
    match found_forgotten(ctx, claimed, &mut Report::default()).await {
        Ok(found) => Ok(!found),
        Err(FlowError::Stripe(error)) => {
            tracing::warn!(charge.id = %claimed.charge.id, "No page for charge {} yet: {error}", claimed.charge.id);
            ctx.store.release_charge(&claimed.charge, None).await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn open_new(ctx: &Ctx, claimed: Claimed, lives: Duration) -> Result<Opened> {
    if let Some(at) = opens_at(ctx, &claimed).await? {
        ctx.store.release_charge(&claimed.charge, None).await?;
        return Ok(Opened::Later(at));
    }
    if !is_all_known(ctx, &claimed).await? {
        return Ok(Opened::Busy);
    }
    // A PaymentIntent that could still be confirmed is canceled before a link opens.
    let Some(claimed) = clear(ctx, claimed, &mut Report::default()).await? else { return Ok(Opened::Busy) };
    failpoint!("P13 cleared");
    let now = ctx.now();
    let expires_at = now.checked_add(lives).unwrap_or(now);
    let until = expires_at.checked_add(EXPIRY_MARGIN).unwrap_or(expires_at);
    let event = Event::OpenLink { until };
    let Ok(settlement) = decide(ctx, &claimed, &event, Trace::default(), now).await? else {
        ctx.store.release_charge(&claimed.charge, None).await?;
        return Ok(Opened::Busy);
    };
    let customer = ctx.store.find_customer(claimed.charge.customer).await?;
    let locale = customer.as_ref().map(|customer| customer.locale.as_str());
    let body = request(ctx, &claimed, &settlement.charge, locale, expires_at)?;
    let charge = settlement.charge.clone();
    let key = format!("recurd:{}:{}:{}:session:1", ctx.instance, charge.id, charge.generation);
    let settlement = settlement
        .with_session_request(key.clone(), body.clone(), expires_at)
        .keep_lease(&ctx.worker, ctx.lease_until());
    if !ctx.store.settle(&[settlement], now).await?.lost.is_empty() {
        return Ok(Opened::Busy);
    }
    failpoint!("P13..P14");
    make(ctx, Claimed { charge, ..claimed }, &key, body).await
}

fn request(
    ctx: &Ctx,
    claimed: &Claimed,
    charge: &Charge,
    locale: Option<&str>,
    expires_at: Timestamp,
) -> Result<String> {
    let (success, cancel) = return_urls(ctx, "paid")?;
    let (instance, id, generation) =
        (ctx.instance.to_string(), charge.id.to_string(), charge.generation.to_string());
    let subscription = charge.period.map(|(id, _)| id.to_string()).unwrap_or_default();
    let metadata: Vec<(&str, &str)> = [
        (INSTANCE, instance.as_str()),
        (SUBSCRIPTION, subscription.as_str()),
        (CHARGE, id.as_str()),
        (GENERATION, generation.as_str()),
        (ATTEMPT, ON_PAGE),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    // Who is about to subscribe saves a card with the first payment: only a card pays it.
    let cards_only = claimed.subscription_state == Some(SubscriptionState::Pending)
        || charge.dunning.is_some_and(|case| case.takes_cards_only());
    let others = ctx.config.stripe.page_methods.of(charge.amount.currency());
    Ok(CreatePaymentSession {
        page: SessionPage {
            customer: &claimed.stripe_customer,
            success_url: &success,
            cancel_url: cancel.as_deref(),
            locale,
            expires_at: Some(expires_at),
            submit_message: Some(&ctx.config.consent_text),
            metadata: &metadata,
        },
        other_methods: if cards_only { &[] } else { others },
        amount: charge.amount,
        product_name: &charge.description,
        description: Some(&charge.description),
        statement_descriptor_suffix: claimed.statement_suffix.as_deref(),
    }
    .encode())
}

/// Where the customer returns from Stripe's page: success and, with HTTP, cancel.
pub(super) fn return_urls(ctx: &Ctx, what: &str) -> Result<(String, Option<String>)> {
    match (&ctx.config.public_url, &ctx.config.return_url) {
        (Some(public), _) => Ok((
            format!("{public}/return/{what}?session_id={{CHECKOUT_SESSION_ID}}"),
            Some(format!("{public}/return/canceled")),
        )),
        (None, Some(own)) => Ok((own.clone(), None)),
        (None, None) => Err(FlowError::Refused(
            "customers could not return from Stripe's page: set http.public_url, or http.return_url without HTTP".into(),
        )),
    }
}

async fn make(ctx: &Ctx, claimed: Claimed, key: &str, body: String) -> Result<Opened> {
    let answer = ctx.stripe.create_checkout_session(body, key).await;
    failpoint!("P14..P15");
    let now = ctx.now();
    let mut report = Report::default();
    match answer {
        Ok(answer) => {
            let url = answer.value.url.as_ref().map(|url| String::from(&**url));
            let event = Event::LinkOpened { session: answer.value.id.clone() };
            if let Ok(settlement) = decide(ctx, &claimed, &event, Trace::default(), now).await? {
                commit(ctx, &[settlement.with_session_url(url.clone())], &mut report, now).await?;
            }
            Ok(url.map_or(Opened::Busy, Opened::Url))
        }
        Err(error @ Error::Rejected(_)) if !error.is_idempotency_mismatch() && !error.is_auth() => {
            // Refused: nothing was made. The ladder goes on, and the operator sees why.
            tracing::error!(charge.id = %claimed.charge.id, "No page for charge {}: {error}", claimed.charge.id);
            settle_one(ctx, &claimed, &Event::CollectorDead, Trace::default(), &mut report).await?;
            Ok(Opened::Busy)
        }
        Err(error) => {
            tracing::warn!(charge.id = %claimed.charge.id, "No page for charge {} yet: {error}", claimed.charge.id);
            ctx.store.release_charge(&claimed.charge, None).await?;
            Ok(Opened::Busy)
        }
    }
}

/// Whether a Session whose request got no answer can no longer come to life: its own expiry has passed.
pub(super) async fn never_made(ctx: &Ctx, claimed: &Claimed) -> Result<bool> {
    let target = ctx.store.living_collector(claimed.charge.id).await?;
    let now = ctx.now().as_second();
    Ok(target.and_then(|target| target.expires_at).is_none_or(|at| at + 300 < now))
}
