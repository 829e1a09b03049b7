//! Enrolment: a customer saves a card on Stripe's page, and the subscription becomes active.
//!
//! Completion comes twice (event and return page) and may come from polling too; all run [`complete`].

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::answers::{ENROLMENT, INSTANCE, SUBSCRIPTION};
use super::cards::{card_of, promise_tries};
use super::pay_link::{hash, return_urls};
use super::{Ctx, FlowError, Report, Result};
use crate::billing::calendar::Start;
use crate::billing::charge::{Charge, State};
use crate::billing::ids::{ChargeId, CustomerId, SubscriptionId};
use crate::billing::subscription::{Frozen, SubscriptionState};
use crate::store::{
    Customer, Enrolment, NewCharge, NewCustomer, NewEnrolment, NewSubscription, Subscription,
};
use crate::stripe::Error;
use crate::stripe::checkout::{CreateSetupSession, SessionPage, SessionStatus};
use crate::stripe::customers::CustomerFields;
use crate::stripe::payment_methods::{AttachPaymentMethod, PaymentMethod};

/// An enrolment is asked after this long after it was opened, in case neither event nor customer came back.
const POLL_AFTER: Duration = Duration::from_secs(120);

/// Who a customer is.
#[derive(Clone, Debug)]
pub struct Person {
    /// Stripe's id; without one a Stripe customer is created.
    pub stripe_customer: Option<String>,
    /// Where mails go.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Language tag; empty: that of the configuration.
    pub locale: String,
    /// IANA zone.
    pub time_zone: String,
}

/// Adds a customer, at Stripe too when there is none yet. Adding the same one twice adds once.
///
/// # Errors
/// [`FlowError::Stripe`], [`FlowError::Store`]; [`FlowError::Refused`] for an unknown zone or address.
pub async fn add_customer(ctx: &Ctx, person: &Person) -> Result<Customer> {
    crate::billing::calendar::zone(&person.time_zone)
        .map_err(|error| FlowError::Refused(error.to_string()))?;
    crate::mail::Mailbox::new(None, &person.email)
        .map_err(|_| FlowError::Refused(format!("{:?} is not a mail address", person.email)))?;
    let locale = locale_or_default(ctx, &person.locale);
    let stripe_customer = match &person.stripe_customer {
        Some(id) => id.clone(),
        None => create_at_stripe(ctx, person, &locale).await?,
    };
    let id = ctx.instance.customer(&stripe_customer);
    let new = NewCustomer {
        id,
        stripe_customer,
        email: person.email.clone(),
        name: person.name.clone(),
        locale,
        time_zone: person.time_zone.clone(),
    };
    ctx.store.add_customers(&[new], ctx.now()).await?;
    find_customer(ctx, id).await
}

/// The language a customer is written to in; the configuration's where none was named.
pub(super) fn locale_or_default(ctx: &Ctx, named: &str) -> String {
    if named.is_empty() { ctx.config.brand.locale.clone() } else { named.to_owned() }
}

async fn create_at_stripe(ctx: &Ctx, person: &Person, locale: &str) -> Result<String> {
    let instance = ctx.instance.to_string();
    let body = CustomerFields {
        email: Some(&person.email),
        name: (!person.name.is_empty()).then_some(person.name.as_str()),
        locale: Some(locale),
        default_payment_method: None,
        metadata: &[(INSTANCE, instance.as_str())],
    }
    .encode();
    // Not a time and not a counter: the same person entered twice within a day is one Stripe customer.
    let key = format!("recurd:{}:customer:{}", ctx.instance, hash(&body));
    let answer = ctx.stripe.create_customer(body, &key).await?;
    answer
        .value
        .active()
        .map(|customer| customer.id.clone())
        .ok_or_else(|| FlowError::Refused("Stripe answered with a deleted customer".into()))
}

async fn find_customer(ctx: &Ctx, id: CustomerId) -> Result<Customer> {
    ctx.store
        .find_customer(id)
        .await?
        .ok_or_else(|| FlowError::Refused(format!("customer {id} is not in the database")))
}

/// Adds a subscription to a plan of the configuration. Adding the same one twice adds once.
///
/// # Errors
/// [`FlowError::Refused`] for an unknown plan or start; [`FlowError::Store`].
pub async fn add_subscription(
    ctx: &Ctx,
    customer: &Customer,
    plan: &str,
    quantity: u32,
    start: &str,
    state: SubscriptionState,
) -> Result<Subscription> {
    let new =
        new_subscription(ctx, customer.customer_id(), &customer.time_zone, plan, quantity, start, state)
            .await?;
    ctx.store.add_subscriptions(std::slice::from_ref(&new), ctx.now()).await?;
    let found = ctx.store.find_subscription(new.id).await?;
    found.ok_or_else(|| FlowError::Refused(format!("subscription {} was not stored", new.id)))
}

/// Works out a subscription without storing it.
///
/// # Errors
/// As [`add_subscription`].
pub async fn new_subscription(
    ctx: &Ctx,
    customer: CustomerId,
    time_zone: &str,
    plan: &str,
    quantity: u32,
    start: &str,
    state: SubscriptionState,
) -> Result<NewSubscription> {
    let refuse = |error: String| FlowError::Refused(error);
    let terms = ctx.config.plans.get(plan).ok_or_else(|| unknown_plan(ctx, plan))?;
    terms.amount(quantity).map_err(|error| refuse(error.to_string()))?;
    let revision = ctx.store.ensure_plan(plan, terms, ctx.now()).await?;
    let begins: Start =
        start.parse().map_err(|error: crate::billing::calendar::CalendarError| refuse(error.to_string()))?;
    let id = customer.subscription(plan, start);
    let frozen = Frozen::new(id, terms, begins, time_zone).map_err(|error| refuse(error.to_string()))?;
    let table = frozen.timetable(terms).map_err(|error| refuse(error.to_string()))?;
    let first_due_at = table.due_at(0).map_err(|error| refuse(error.to_string()))?;
    Ok(NewSubscription {
        id,
        customer,
        plan: plan.to_owned(),
        revision: revision.revision,
        quantity,
        state,
        frozen,
        first_due_at,
        ahead_secs: terms.ahead_secs(),
    })
}

fn unknown_plan(ctx: &Ctx, plan: &str) -> FlowError {
    let known: Vec<&str> = ctx.config.plans.keys().map(String::as_str).collect();
    FlowError::Refused(format!("plan {plan:?} is not in the configuration; there are: {}", known.join(", ")))
}

/// Opens a page on which the customer saves a card, and returns its address.
///
/// # Errors
/// [`FlowError::Stripe`], [`FlowError::Store`]; [`FlowError::Refused`] when customers could not return from the page.
pub async fn open(ctx: &Ctx, customer: &Customer, subscription: Option<SubscriptionId>) -> Result<String> {
    let new = request(ctx, customer, subscription, crate::chance::uuid())?;
    ctx.store.add_enrolment(&new, ctx.now()).await?;
    failpoint!("enrolment written");
    make(ctx, new.id, new.body, &new.key).await
}

/// The enrolment with the request that makes its page.
pub(super) fn request(
    ctx: &Ctx,
    customer: &Customer,
    subscription: Option<SubscriptionId>,
    id: Uuid,
) -> Result<NewEnrolment> {
    let (instance, enrolment) = (ctx.instance.to_string(), id.to_string());
    let subscription_id = subscription.map(|id| id.to_string()).unwrap_or_default();
    let metadata: Vec<(&str, &str)> = [
        (INSTANCE, instance.as_str()),
        (ENROLMENT, enrolment.as_str()),
        (SUBSCRIPTION, subscription_id.as_str()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    let (success, cancel) = return_urls(ctx, "saved")?;
    let body = CreateSetupSession {
        page: SessionPage {
            customer: &customer.stripe_customer,
            success_url: &success,
            cancel_url: cancel.as_deref(),
            locale: Some(&customer.locale),
            expires_at: None,
            submit_message: Some(&ctx.config.consent_text),
            metadata: &metadata,
        },
        terms_required: false,
    }
    .encode();
    Ok(NewEnrolment {
        id,
        customer: customer.customer_id(),
        subscription,
        charge: None,
        key: format!("recurd:{}:enrolment:{id}:session:1", ctx.instance),
        body,
        consent_text: ctx.config.consent_text.clone(),
    })
}

/// Has Stripe make the page of an enrolment that is written down.
pub(super) async fn make(ctx: &Ctx, id: Uuid, body: String, key: &str) -> Result<String> {
    let session = ctx.stripe.create_checkout_session(body, key).await?.value;
    failpoint!("enrolment page made");
    let url = session.url.as_ref().map(|url| String::from(&**url));
    let expires_at = Some(session.expires_at.as_second());
    // A page that nobody would ask after is shown to nobody.
    if !ctx.store.enrolment_opened(id, &session.id, url.as_deref(), expires_at).await? {
        return Err(FlowError::Refused(format!("enrolment {id} was given up before its page was made")));
    }
    url.ok_or_else(|| FlowError::Refused(format!("Stripe gave no address for {}", session.id)))
}

/// Opens a page on which the customer pays the first period and saves the card (`--pay-now`).
///
/// # Errors
/// As [`open`].
pub async fn open_pay_now(ctx: &Ctx, subscription: &Subscription) -> Result<String> {
    let revision = u32::try_from(subscription.revision).unwrap_or(0);
    let terms = ctx.terms(&subscription.plan, revision).await?;
    let quantity = u32::try_from(subscription.quantity).unwrap_or(1);
    let amount = terms.amount(quantity).map_err(|error| FlowError::Refused(error.to_string()))?;
    let now = ctx.now();
    let id = subscription.subscription_id();
    let charge = Charge {
        id: id.charge(0),
        customer: subscription.customer(),
        period: Some((id, 0)),
        amount,
        due_at: now,
        description: terms.name.clone(),
        generation: 0,
        attempts: 0,
        collector: None,
        dunning: None,
        state: State::Due { at: now },
        version: 0,
    };
    let statement_suffix = terms.statement_suffix.clone();
    let new = NewCharge { charge, plan: subscription.plan.clone(), revision, statement_suffix };
    ctx.store.insert_charges(std::slice::from_ref(&new), now).await?;
    match super::pay_link::open(ctx, new.charge.id, super::pay_link::MAIL_LIFE).await? {
        super::pay_link::Opened::Url(url) => Ok(url),
        other => Err(FlowError::Refused(format!("no page for charge {}: {other:?}", new.charge.id))),
    }
}

/// A pending subscription whose first charge was paid on a page becomes active.
pub(super) async fn activate_paid(ctx: &Ctx, charge: Option<ChargeId>) -> Result<()> {
    let Some(claimed) = (match charge {
        Some(id) => ctx.store.find_charge(id).await?,
        None => None,
    }) else {
        return Ok(());
    };
    if let (Some((subscription, _)), State::Paid { .. }) = (claimed.charge.period, &claimed.charge.state) {
        activate(ctx, subscription).await?;
    }
    Ok(())
}

/// Activates a pending subscription; any other is left alone. A first period that was paid already is a charge
/// that exists, so materializing it again changes nothing.
pub(super) async fn activate(ctx: &Ctx, id: SubscriptionId) -> Result<bool> {
    let Some(subscription) = ctx.store.find_subscription(id).await? else { return Ok(false) };
    let next = subscription.next_due_at.and_then(|secs| Timestamp::from_second(secs).ok());
    let from = [SubscriptionState::Pending];
    Ok(ctx.store.change_subscription(id, &from, SubscriptionState::Active, next, None, ctx.now()).await?)
}

/// What became of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The card is saved (now or before).
    Saved,
    /// The customer is not done yet.
    Open,
    /// The page expired unused.
    Expired,
    /// Not an enrolment of ours.
    Unknown,
}

/// Completes an enrolment if its Session is complete. Harmless to call any number of times, from anywhere.
///
/// # Errors
/// [`FlowError::Stripe`], [`FlowError::Store`].
pub async fn complete(ctx: &Ctx, session_id: &str) -> Result<Completed> {
    let Some(enrolment) = ctx.store.enrolment_of_session(session_id).await? else {
        return Ok(Completed::Unknown);
    };
    if enrolment.state == "complete" {
        return Ok(Completed::Saved);
    }
    let session = ctx.stripe.retrieve_checkout_session(session_id).await?.value;
    match session.status {
        Some(SessionStatus::Complete) => {}
        Some(SessionStatus::Expired) => {
            ctx.store.finish_enrolment(&enrolment.id, "expired", ctx.now()).await?;
            return Ok(Completed::Expired);
        }
        Some(SessionStatus::Open | SessionStatus::Unknown(_)) | None => return Ok(Completed::Open),
    }
    let setup = session.setup_intent.as_ref().and_then(|setup| setup.object());
    let Some(method) =
        setup.and_then(|setup| setup.payment_method.as_ref()).and_then(|method| method.object())
    else {
        return Ok(Completed::Open);
    };
    let customer = find_customer(ctx, CustomerId(enrolment.customer_id.parse().unwrap_or_default())).await?;
    let Some(method) = attached(ctx, &customer, method).await? else {
        ctx.store.finish_enrolment(&enrolment.id, "expired", ctx.now()).await?;
        return Ok(Completed::Expired);
    };
    let card = card_of(&method).ok_or_else(|| FlowError::Refused(format!("{} is no card", method.id)))?;
    let is_default = ctx.store.offer_card(customer.customer_id(), &card).await?;
    failpoint!("enrolment card set");
    let setup_intent = setup.map(|setup| setup.id.clone());
    let mandate = setup.and_then(|setup| setup.mandate.clone());
    super::consent::record(ctx, &enrolment, &customer, session_id, setup_intent, mandate, &method).await?;
    if let Some(id) = enrolment.subscription_id.as_deref().and_then(|id| id.parse().ok()) {
        activate(ctx, id).await?;
    }
    if is_default {
        promise_tries(ctx, customer.customer_id(), &card).await?;
    }
    failpoint!("enrolment activated");
    ctx.store.finish_enrolment(&enrolment.id, "complete", ctx.now()).await?;
    tracing::info!(customer.id = %customer.id, "Customer {} saved a card", customer.id);
    Ok(Completed::Saved)
}

/// Setup mode attaches the card by itself; where it did not, we do. `None`: it was removed since, which is for ever.
async fn attached(ctx: &Ctx, customer: &Customer, method: &PaymentMethod) -> Result<Option<PaymentMethod>> {
    if method.customer.as_deref() == Some(customer.stripe_customer.as_str()) {
        return Ok(Some(method.clone()));
    }
    let body = AttachPaymentMethod { customer: &customer.stripe_customer }.encode();
    let key = format!("recurd:{}:attach:{}:{}", ctx.instance, method.id, customer.id);
    match ctx.stripe.attach_payment_method(&method.id, body, &key).await {
        Ok(method) => Ok(Some(method.value)),
        Err(Error::Rejected(why)) if matches!(why.status, 400 | 404) => {
            tracing::warn!(customer.id = %customer.id, "Customer {} saved a card and removed it again: {why}", customer.id);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks after enrolments that neither an event nor the customer has completed.
///
/// # Errors
/// [`FlowError::Store`].
pub async fn run_once(ctx: &Ctx, limit: usize) -> Result<Report> {
    let mut report = Report::default();
    let before = ctx.now().checked_sub(POLL_AFTER).unwrap_or(Timestamp::UNIX_EPOCH);
    let open = ctx.store.open_enrolments(before, i64::try_from(limit).unwrap_or(i64::MAX)).await?;
    for enrolment in open {
        match poll(ctx, &enrolment).await {
            Ok(Completed::Saved) => {
                report.taken += 1;
                report.count("saved");
            }
            Ok(Completed::Expired) => {
                report.taken += 1;
                report.count("expired");
            }
            Ok(Completed::Open | Completed::Unknown) => report.count("open"),
            Err(error) => report.problem(format!("enrolment {}: {error}", enrolment.id)),
        }
    }
    Ok(report)
}

async fn poll(ctx: &Ctx, enrolment: &Enrolment) -> Result<Completed> {
    match &enrolment.session_id {
        Some(session) => complete(ctx, session).await,
        None => {
            // The answer that made the page was lost. Nobody has its address, so it is given up.
            ctx.store.finish_enrolment(&enrolment.id, "expired", ctx.now()).await?;
            Ok(Completed::Expired)
        }
    }
}
