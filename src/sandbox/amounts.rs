//! Which amounts can be charged.

use crate::billing::money::{AMOUNT_MINOR_MAX, Currency};

use super::errors::ApiError;

/// Refuses amounts that the currency does not take.
pub(super) fn check(amount: i64, currency: &str, param: &str) -> Result<(), ApiError> {
    let facts: Currency = currency.parse().map_err(|_| {
        let message =
            format!("Invalid currency: {currency}. The sandbox takes the currencies Stripe charges in.");
        ApiError::param("currency", message)
    })?;
    if amount < 1 {
        return Err(ApiError::param(param, "This value must be greater than or equal to 1.")
            .code("parameter_invalid_integer"));
    }
    if amount > AMOUNT_MINOR_MAX {
        return Err(ApiError::param(param, "Amount must be no more than 12 digits.").code("amount_too_large"));
    }
    if amount % facts.multiple() != 0 {
        let message = format!("Amounts in {currency} must be a multiple of {}.", facts.multiple());
        return Err(ApiError::param(param, message));
    }
    match facts.min_minor() {
        Some(min) if amount < min => {
            let message = format!("Amount must be at least {min} in the minor unit of {currency}.");
            Err(ApiError::param(param, message).code("amount_too_small"))
        }
        _ => Ok(()),
    }
}
