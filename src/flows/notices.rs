//! Notices: a customer is told of a charge before it is tried, and the charge waits until the mail server has
//! accepted that and the time in it has passed.
//!
//! The promise of the mail is written with the charge, in one transaction, and is never deleted: it is the record.

use std::time::Duration;

use jiff::Timestamp;

use super::settle::{Trace, settle_one};
use super::{Ctx, Report, Result};
use crate::billing::apply::Event;
use crate::billing::charge::{Charge, State};
use crate::billing::ids::ChargeId;
use crate::billing::plan::Terms;
use crate::billing::subscription::SubscriptionState;
use crate::mail::MailName;
use crate::store::{Claimed, Notice, OutboxInsert};

/// How long a charge rests whose notice has not been accepted yet.
const REST: Duration = Duration::from_secs(3600);

/// Whether a new charge is told of first.
pub(super) fn is_needed(charge: &Charge, terms: &Terms, sold_at: Timestamp) -> bool {
    let index = charge.period.map(|(_, index)| index);
    matches!(charge.state, State::Due { .. })
        && index.is_some_and(|index| terms.needs_notice(index, charge.due_at, sold_at))
}

/// The mail that tells of a charge.
pub(super) fn promise(charge: &Charge, now: Timestamp) -> OutboxInsert {
    OutboxInsert::about(charge, "notice", MailName::UpcomingCharge.as_str(), now)
}

/// What a notice means for its charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None is needed, or its time has passed.
    Free,
    /// The mail server has not accepted it yet.
    Untold,
    /// The customer was told; the charge may be tried from this instant on.
    Until(Timestamp),
    /// It will never be accepted, and why: a person must decide.
    Lost(String),
}

/// What the notice of a charge that was never tried means for it.
///
/// # Errors
/// [`super::FlowError::Store`]; [`super::FlowError::NoPlan`].
pub async fn standing(ctx: &Ctx, claimed: &Claimed) -> Result<Standing> {
    let first = matches!(claimed.charge.state, State::Due { .. }) && claimed.charge.dunning.is_none();
    let terms = ctx.terms(&claimed.plan, claimed.revision).await?;
    if !first || terms.notice_secs == 0 {
        return Ok(Standing::Free);
    }
    Ok(judge(ctx.store.notice_of(claimed.charge.id).await?, &terms, ctx.now()))
}

fn judge(notice: Option<Notice>, terms: &Terms, now: Timestamp) -> Standing {
    let Some(notice) = notice.filter(|notice| notice.waived == 0) else { return Standing::Free };
    let done_at = notice.done_at.and_then(|secs| Timestamp::from_second(secs).ok());
    match (notice.state.as_str(), done_at) {
        ("pending", _) => Standing::Untold,
        ("done", Some(told_at)) => match terms.after_notice(told_at) {
            at if at <= now => Standing::Free,
            at => Standing::Until(at),
        },
        _ => Standing::Lost(notice.error.unwrap_or_default()),
    }
}

/// Whether a charge waits for its notice; then it is put back, or given to a person.
pub(super) async fn holds_back(ctx: &Ctx, claimed: &Claimed, report: &mut Report) -> Result<bool> {
    if mutant!(NoticeIgnored) {
        return Ok(false);
    }
    let at = match standing(ctx, claimed).await? {
        Standing::Free => return Ok(false),
        Standing::Untold => ctx.now().checked_add(REST).ok(),
        Standing::Until(at) => Some(at),
        Standing::Lost(why) => {
            let event = Event::Unreached(question(&why));
            settle_one(ctx, claimed, &event, Trace::default(), report).await?;
            return Ok(true);
        }
    };
    report.count("waiting_for_notice");
    ctx.store.release_charge(&claimed.charge, at).await?;
    Ok(true)
}

fn question(why: &str) -> String {
    format!(
        "the customer could not be told of it before ({why}): correct the address (`recurd customers email`) and it goes on; or tell them \
         another way and then run `recurd charges collect`, or end it with `recurd charges cancel`"
    )
}

/// The notice cannot be delivered: the charge goes to a person now, and not only when it falls due.
///
/// Crash: if we die before this, or somebody else has the charge, [`holds_back`] does it when the charge falls due.
pub(super) async fn lost(ctx: &Ctx, id: ChargeId, why: &str, report: &mut Report) -> Result<()> {
    failpoint!("notice failed");
    let Some(claimed) = ctx.store.claim_charge(id, &ctx.worker, ctx.now(), ctx.lease_until()).await? else {
        return Ok(());
    };
    if !matches!(claimed.charge.state, State::Due { .. }) {
        return ctx.store.release_charge(&claimed.charge, None).await.map_err(Into::into);
    }
    settle_one(ctx, &claimed, &Event::Unreached(question(why)), Trace::default(), report).await?;
    Ok(())
}

/// Why a notice must not leave now.
pub(super) enum Against {
    /// Never.
    Drop(String),
    /// Perhaps later.
    Wait(String),
}

/// Whether a notice would still tell the truth.
pub(super) fn against(claimed: &Claimed) -> Option<Against> {
    let state = &claimed.charge.state;
    if !matches!(state, State::Due { .. }) {
        return Some(Against::Drop(format!("the charge is {} by now", state.as_str())));
    }
    match claimed.subscription_state {
        Some(SubscriptionState::Canceled) => Some(Against::Drop("the subscription is canceled".into())),
        Some(SubscriptionState::Paused | SubscriptionState::Pending) => {
            Some(Against::Wait("the subscription is not active".into()))
        }
        Some(SubscriptionState::Active | SubscriptionState::Completed) | None => claimed
            .hold_why
            .as_ref()
            .map(|why| Against::Wait(format!("nothing may be charged to the customer: {why}"))),
    }
}
