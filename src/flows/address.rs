//! A person corrects a customer's mail address. What could not be delivered to the old one leaves, if it is still true, and
//! what waited for a person because of that goes on.

use super::answers::INSTANCE;
use super::settle::{Trace, settle_one};
use super::{Ctx, FlowError, Report, Result};
use crate::billing::apply::Event;
use crate::billing::charge::{Need, State};
use crate::store::{ChargeFilter, Claimed, Customer};
use crate::stripe::customers::CustomerFields;

/// Limit: charges of one customer that wait for a person.
const WAITING_MAX: i64 = 1000;

/// What a corrected address changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Corrected {
    /// Mails that could not be delivered and leave now: the newest of each open charge.
    pub mails: u64,
    /// Charges that waited for a person because no mail arrived, and go on.
    pub charges: u64,
    /// Whether the customer at Stripe gets the address too: only one that we made.
    pub at_stripe: bool,
}

/// Writes to a customer at another address from now on.
///
/// Crash: the charges go on first, an hour from now; if we die before the address is corrected, they wait for a person again.
/// Our own row is changed in one transaction with the mails; until Stripe has answered, the same command again does the rest. Setting an address twice is harmless, so each call has a key of its own: an old key would replay
/// an old answer.
///
/// # Errors
/// [`FlowError::Stripe`] when Stripe could not be told; [`FlowError::Store`].
pub async fn correct(
    ctx: &Ctx,
    customer: &Customer,
    email: &str,
    plan: Corrected,
    who: &str,
) -> Result<Corrected> {
    let mut charges = 0;
    for one in waiting(ctx, customer).await? {
        let now = ctx.now();
        let claimed = ctx.store.claim_charge(one.charge.id, &ctx.worker, now, ctx.lease_until()).await?;
        if let Some(claimed) = claimed {
            let goes_on =
                settle_one(ctx, &claimed, &Event::Reached, Trace::default(), &mut Report::default()).await?;
            charges += u64::from(goes_on);
        }
    }
    failpoint!("reached..corrected");
    let mails = ctx.store.correct_address(customer.customer_id(), email, ctx.now()).await?;
    failpoint!("address corrected");
    ctx.store.audit(who, "email", &customer.id, "", ctx.now()).await?;
    if plan.at_stripe {
        let body = CustomerFields { email: Some(email), ..CustomerFields::default() }.encode();
        let key = format!("recurd:{}:address:{}", ctx.instance, crate::chance::uuid());
        ctx.stripe.update_customer(&customer.stripe_customer, body, &key).await?;
    }
    Ok(Corrected { mails, charges, ..plan })
}

/// Charges that wait for a person, and for nothing but mail.
async fn waiting(ctx: &Ctx, customer: &Customer) -> Result<Vec<Claimed>> {
    let filter = ChargeFilter {
        customer: Some(customer.customer_id()),
        state: Some("needs_review".into()),
        limit: WAITING_MAX,
        ..ChargeFilter::default()
    };
    let mut found = ctx.store.list_charges(&filter).await?;
    found.retain(|one| {
        matches!(&one.charge.state, State::NeedsReview { attempt: None, end: None, needs: Need::Address, .. })
    });
    Ok(found)
}

/// What [`correct`] would do.
///
/// # Errors
/// [`FlowError::Refused`] for what is no address; [`FlowError::Stripe`]; [`FlowError::Store`].
pub async fn look(ctx: &Ctx, customer: &Customer, email: &str) -> Result<Corrected> {
    crate::mail::Mailbox::new(None, email)
        .map_err(|_| FlowError::Refused(format!("{email:?} is not a mail address")))?;
    let at_stripe = ctx.stripe.retrieve_customer(&customer.stripe_customer).await?.value;
    let ours = Some(ctx.instance.to_string());
    Ok(Corrected {
        mails: ctx.store.undelivered(customer.customer_id()).await?,
        charges: waiting(ctx, customer).await?.len() as u64,
        at_stripe: at_stripe.active().is_some_and(|one| one.metadata.get(INSTANCE) == ours.as_ref()),
    })
}
