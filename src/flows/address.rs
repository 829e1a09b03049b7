//! A person corrects a customer's mail address. What could not be delivered to the old one leaves, if it is still true.

use super::answers::INSTANCE;
use super::{Ctx, FlowError, Result};
use crate::store::Customer;
use crate::stripe::customers::CustomerFields;

/// What a corrected address changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Corrected {
    /// Mails that could not be delivered and leave now: the newest of each open charge.
    pub mails: u64,
    /// Whether the customer at Stripe gets the address too: only one that we made.
    pub at_stripe: bool,
}

/// Writes to a customer at another address from now on.
///
/// Crash: our own row is changed first, in one transaction with the mails; until Stripe has answered, the same command
/// again does the rest. Setting an address twice is harmless, so each call has a key of its own: an old key would replay
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
    let mails = ctx.store.correct_address(customer.customer_id(), email, ctx.now()).await?;
    failpoint!("address corrected");
    ctx.store.audit(who, "email", &customer.id, "", ctx.now()).await?;
    if plan.at_stripe {
        let body = CustomerFields { email: Some(email), ..CustomerFields::default() }.encode();
        let key = format!("recurd:{}:address:{}", ctx.instance, crate::chance::uuid());
        ctx.stripe.update_customer(&customer.stripe_customer, body, &key).await?;
    }
    Ok(Corrected { mails, ..plan })
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
        at_stripe: at_stripe.active().is_some_and(|one| one.metadata.get(INSTANCE) == ours.as_ref()),
    })
}
