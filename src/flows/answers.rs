//! What Stripe's answers mean for a charge.

use std::time::Duration;

use jiff::Timestamp;

use super::tries;
use crate::billing::apply::{Event, Outcome, Receipt};
use crate::billing::charge::{CollectorKind, Phase, State};
use crate::billing::decline::Decline;
use crate::billing::ids::{CustomerId, InstanceId};
use crate::store::Claimed;
use crate::stripe::api_error::ApiError;
use crate::stripe::charges::ChargeStatus;
use crate::stripe::checkout::{CheckoutSession, PaymentStatus, SessionStatus};
use crate::stripe::payment_intents::{PaymentIntent, PaymentIntentStatus};
use crate::stripe::{Answer, Error};

/// Names of our ids in Stripe's metadata.
pub(super) const INSTANCE: &str = "recurd_instance";
pub(super) const SUBSCRIPTION: &str = "recurd_subscription";
pub(super) const CHARGE: &str = "recurd_charge";
pub(super) const ATTEMPT: &str = "recurd_attempt";
pub(super) const GENERATION: &str = "recurd_generation";
/// The attempt's number where no machine confirms: the customer pays on a page.
pub(super) const ON_PAGE: &str = "link";
pub(super) const ENROLMENT: &str = "recurd_enrolment";

/// How long to wait after nothing ran.
const PAUSE: Duration = Duration::from_secs(60);

/// An attempt's outcome with what explains it.
pub(super) struct Answered {
    pub outcome: Outcome,
    pub request_id: Option<String>,
    pub error: Option<String>,
    /// Nothing will work for anybody: the run stops.
    pub stop: Option<String>,
    /// Why Stripe refused this request, in words that are alike for alike reasons.
    pub refused: Option<String>,
}

/// Reads the answer to an attempt's POST.
pub(super) fn read(
    claimed: &Claimed,
    instance: InstanceId,
    result: Result<Answer<PaymentIntent>, Error>,
    now: Timestamp,
) -> Answered {
    match result {
        Ok(answer) => {
            let outcome = of_intent(claimed, instance, &answer.value, now);
            Answered { outcome, request_id: answer.request_id, error: None, stop: None, refused: None }
        }
        Err(error) => read_error(claimed, instance, &error, now),
    }
}

fn read_error(claimed: &Claimed, instance: InstanceId, error: &Error, now: Timestamp) -> Answered {
    let later = now.checked_add(PAUSE).unwrap_or(now);
    let outcome = match error {
        Error::Unknown(_) if mutant!(TimeoutIsDecline) => Outcome::Declined(Decline::default()),
        Error::RateLimited(_) if mutant!(RateLimitIsDecline) => Outcome::Declined(Decline::default()),
        Error::Unreachable(_) if mutant!(OutageIsDecline) => Outcome::Declined(Decline::default()),
        Error::Unknown(_) if mutant!(UnknownIsNotRun) => Outcome::Missing,
        Error::Declined(decline) => {
            Outcome::Declined(decline_of(&decline.error, claimed.card_fingerprint.as_deref()))
        }
        Error::RateLimited(_) | Error::Unreachable(_) => Outcome::NotRun { not_before: later },
        Error::Unknown(doubt) => {
            Outcome::Unknown { poisoned: doubt.cached_5xx && !mutant!(ServerErrorForgotten) }
        }
        // Proof that an earlier request with this key exists: look for it, never send another.
        Error::Rejected(_) if error.is_idempotency_mismatch() => Outcome::Unknown { poisoned: true },
        Error::Rejected(_) if error.is_auth() => Outcome::NotRun { not_before: later },
        Error::Rejected(rejection) => match error.payment_intent().filter(|_| error.is_unexpected_state()) {
            Some(intent) => of_intent(claimed, instance, intent, now),
            None => Outcome::Rejected(rejection.to_string()),
        },
    };
    let refused = match (&outcome, error) {
        (Outcome::Rejected(_), Error::Rejected(rejection)) => Some(rejection.error.codes()),
        _ => None,
    };
    Answered {
        outcome,
        refused,
        request_id: error.call().request_id.clone(),
        error: Some(error.to_string()),
        stop: error.is_auth().then(|| error.to_string()),
    }
}

/// What a PaymentIntent says of the charge's open attempt.
pub(super) fn of_intent(
    claimed: &Claimed,
    instance: InstanceId,
    intent: &PaymentIntent,
    now: Timestamp,
) -> Outcome {
    if !is_ours(claimed, instance, intent) {
        return Outcome::Rejected(format!("{} belongs to another charge", intent.id));
    }
    match &intent.status {
        PaymentIntentStatus::Succeeded => Outcome::Paid(receipt(claimed, intent, None, now)),
        PaymentIntentStatus::Processing if mutant!(ProcessingIsDecline) => {
            Outcome::Declined(Decline::default())
        }
        PaymentIntentStatus::Processing | PaymentIntentStatus::RequiresCapture => {
            Outcome::Processing { payment_intent: intent.id.clone() }
        }
        PaymentIntentStatus::Canceled => Outcome::CollectorDead,
        PaymentIntentStatus::RequiresPaymentMethod => {
            last_decline(claimed, intent).map_or(Outcome::Missing, Outcome::Declined)
        }
        PaymentIntentStatus::RequiresConfirmation => Outcome::Missing,
        PaymentIntentStatus::RequiresAction => Outcome::Declined(Decline {
            code: Some("authentication_required".into()),
            payment_intent: Some(intent.id.clone()),
            fingerprint: claimed.card_fingerprint.clone(),
            ..Decline::default()
        }),
        PaymentIntentStatus::Unknown(_) => Outcome::Unknown { poisoned: false },
    }
}

/// What a PaymentIntent that was read means, whatever the charge is doing. `None`: nothing new.
pub(super) fn event_of_intent(
    claimed: &Claimed,
    instance: InstanceId,
    intent: &PaymentIntent,
    known_stripe_charge: Option<&str>,
    now: Timestamp,
) -> Option<Event> {
    let charge = &claimed.charge;
    let outcome = of_intent(claimed, instance, intent, now);
    let ours_now = charge.collector.as_ref().is_some_and(|collector| {
        collector.kind == CollectorKind::PaymentIntent
            && match &collector.stripe_id {
                Some(id) => *id == intent.id,
                // Not named yet, but known by its generation: what an earlier collector came to says nothing of it.
                None => {
                    let generation = intent.metadata.get(GENERATION);
                    mutant!(OldCollectorSpeaks) || generation == Some(&collector.generation.to_string())
                }
            }
    });
    let is_seen = |decline: &Decline| {
        !mutant!(DeclineCountsTwice)
            && decline.stripe_charge.as_deref().is_some_and(|id| known_stripe_charge == Some(id))
    };
    let waiting = charge.open_attempt().filter(|attempt| !matches!(attempt.phase, Phase::Prepared { .. }));
    let answered = |outcome| waiting.map(|attempt| Event::Answered { attempt: attempt.number, outcome });
    let of_decline = |decline| match charge.state {
        State::Processing { .. } if waiting.is_none() => Some(Event::Declined(decline)),
        _ => answered(Outcome::Declined(decline)),
    };
    match outcome {
        Outcome::Paid(receipt) => Some(Event::Paid(receipt)),
        Outcome::Rejected(_) | Outcome::NotRun { .. } | Outcome::Unknown { .. } => None,
        _ if !ours_now => None,
        Outcome::CollectorDead => {
            // Whoever canceled it may have heard what the bank had said before. We have not.
            let tried = last_decline(claimed, intent).filter(|decline| decline.stripe_charge.is_some());
            let unheard = tried.filter(|decline| !is_seen(decline)).and_then(of_decline);
            let heard = unheard.or_else(|| answered(Outcome::CollectorDead));
            Some(heard.unwrap_or(Event::CollectorDead))
        }
        Outcome::Declined(decline) if waiting.is_some() && is_seen(&decline) => answered(Outcome::Missing),
        Outcome::Declined(decline) => of_decline(decline),
        Outcome::Processing { .. } | Outcome::Missing => answered(outcome),
    }
}

/// What a payment-mode Session that was read means. `None`: it is open.
pub(super) fn event_of_session(
    claimed: &Claimed,
    session: &CheckoutSession,
    now: Timestamp,
) -> Option<Event> {
    match (session.status.as_ref()?, &session.payment_status) {
        (SessionStatus::Complete, _) if mutant!(PaidPageIsDead) => Some(Event::CollectorDead),
        (SessionStatus::Complete, PaymentStatus::Paid) => {
            Some(Event::Paid(session_receipt(claimed, session, now)?))
        }
        (SessionStatus::Complete, _) => {
            // The bank's answer came later, and it was no: nobody can pay on this page again.
            let intent = session.payment_intent.as_ref().and_then(|intent| intent.object());
            match intent.map(|intent| &intent.status) {
                Some(PaymentIntentStatus::RequiresPaymentMethod) if !mutant!(FailedPageWaits) => {
                    Some(Event::PageRefused)
                }
                Some(PaymentIntentStatus::Canceled) if !mutant!(FailedPageWaits) => {
                    Some(Event::CollectorDead)
                }
                _ => Some(Event::Pending),
            }
        }
        (SessionStatus::Expired, _) => {
            // Expired while the customer was confirming: only a PaymentIntent that nobody can finish proves the Session dead.
            let intent = session.payment_intent.as_ref().and_then(|intent| intent.object());
            match intent.map(|intent| &intent.status) {
                Some(PaymentIntentStatus::Succeeded) => {
                    Some(Event::Paid(session_receipt(claimed, session, now)?))
                }
                Some(PaymentIntentStatus::Processing) => Some(Event::Pending),
                None | Some(PaymentIntentStatus::Canceled | PaymentIntentStatus::RequiresPaymentMethod) => {
                    Some(Event::CollectorDead)
                }
                // 3-D Secure may be finished yet: asked again.
                Some(_) => None,
            }
        }
        _ => None,
    }
}

fn session_receipt(claimed: &Claimed, session: &CheckoutSession, now: Timestamp) -> Option<Receipt> {
    let intent = session.payment_intent.as_ref()?;
    let paid_with = intent.object().and_then(|intent| intent.payment_method.as_ref());
    let new_card = paid_with.filter(|method| method.object().is_none_or(|method| method.card.is_some()));
    Some(Receipt {
        payment_intent: intent.id().to_owned(),
        session: Some(session.id.clone()),
        amount: session.amount_total()?,
        customer: owner(claimed, session.customer.as_deref()),
        new_card: new_card.map(|method| method.id().to_owned()),
        at: now,
    })
}

/// The receipt of a PaymentIntent that succeeded.
pub(super) fn receipt(
    claimed: &Claimed,
    intent: &PaymentIntent,
    session: Option<String>,
    now: Timestamp,
) -> Receipt {
    let amount = intent.amount().filter(|_| intent.amount_received_minor == intent.amount_minor);
    let by_link = is_of_page(intent) || !intent.metadata.contains_key(ATTEMPT);
    let details =
        intent.latest_charge.as_ref().and_then(|charge| charge.object()?.payment_method_details.as_ref());
    let is_card = details.is_none_or(|details| details.card.is_some());
    let card = intent.payment_method.as_ref().map(|method| method.id().to_owned()).filter(|_| is_card);
    Receipt {
        payment_intent: intent.id.clone(),
        session,
        amount: amount.unwrap_or(zero(claimed)),
        customer: owner(claimed, intent.customer.as_deref()),
        new_card: card.filter(|_| by_link),
        at: now,
    }
}

/// An amount that cannot equal what is owed, so that the charge goes to a person.
fn zero(claimed: &Claimed) -> crate::billing::money::Money {
    let currency = claimed.charge.amount.currency();
    crate::billing::money::Money::from_minor(0, currency).unwrap_or(claimed.charge.amount)
}

/// Our customer if Stripe names the same one, else nobody: then a person must look.
fn owner(claimed: &Claimed, stripe_customer: Option<&str>) -> CustomerId {
    let same = stripe_customer == Some(claimed.stripe_customer.as_str());
    if same { claimed.charge.customer } else { CustomerId(uuid::Uuid::nil()) }
}

/// Whether a PaymentIntent's metadata name this instance and this charge.
pub(super) fn is_ours(claimed: &Claimed, instance: InstanceId, intent: &PaymentIntent) -> bool {
    intent.metadata.get(INSTANCE).is_some_and(|id| *id == instance.to_string())
        && intent.metadata.get(CHARGE).is_some_and(|id| *id == claimed.charge.id.to_string())
}

/// Whether a page made this PaymentIntent, where only the customer confirms it.
pub(super) fn is_of_page(intent: &PaymentIntent) -> bool {
    intent.metadata.get(ATTEMPT).is_some_and(|attempt| attempt == ON_PAGE)
}

/// What was said to the newest try of a PaymentIntent. Its error goes away when somebody changes the PaymentIntent; Stripe's charge
/// stays, if the try came to one.
pub(super) fn last_decline(claimed: &Claimed, intent: &PaymentIntent) -> Option<Decline> {
    let latest = intent.latest_charge.as_ref();
    let mut decline = match &intent.last_payment_error {
        Some(error) => decline_of(error, claimed.card_fingerprint.as_deref()),
        None => tries::decline_of(latest?.object().filter(|charge| charge.status == ChargeStatus::Failed)?),
    };
    decline.payment_intent = Some(intent.id.clone());
    decline.stripe_charge = decline.stripe_charge.or_else(|| latest.map(|charge| charge.id().to_owned()));
    Some(decline)
}

/// Stripe's error as a decline.
pub(super) fn decline_of(error: &ApiError, fingerprint: Option<&str>) -> Decline {
    let card = error.payment_method.as_ref().and_then(|method| method.card.as_ref());
    let fingerprint = card.and_then(|card| card.fingerprint.clone()).or(fingerprint.map(Into::into));
    Decline {
        code: error.code.clone(),
        decline_code: error.decline_code.clone(),
        advice_code: error.advice_code.clone(),
        network_decline_code: error.network_decline_code.clone(),
        network_advice_code: error.network_advice_code.clone(),
        message: error.message.clone(),
        payment_intent: error.payment_intent.as_ref().map(|intent| intent.id.clone()),
        stripe_charge: error.charge.clone().or_else(|| {
            let latest = error.payment_intent.as_ref()?.latest_charge.as_ref()?;
            Some(latest.id().to_owned())
        }),
        fingerprint,
        brand: card.and_then(|card| card.brand.clone()),
    }
}
