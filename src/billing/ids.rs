//! Identities. All are UUIDs, so that no counter restored from a backup can give one out twice.

use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// This installation: one database, bound to one Stripe account and mode.
    InstanceId
);
id!(
    /// One customer of ours; Stripe's `cus_` id is a column beside it.
    CustomerId
);
id!(
    /// One customer on one plan.
    SubscriptionId
);
id!(
    /// One amount one customer owes at one due date.
    ChargeId
);

impl InstanceId {
    /// A new random instance.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The customer with this Stripe id: the same answer for ever, so importing twice adds nothing.
    #[must_use]
    pub fn customer(self, stripe_customer: &str) -> CustomerId {
        CustomerId(Uuid::new_v5(&self.0, format!("customer:{stripe_customer}").as_bytes()))
    }
}

impl CustomerId {
    /// This customer's subscription to `plan` that started at `start` (a date or an instant, as written).
    #[must_use]
    pub fn subscription(self, plan: &str, start: &str) -> SubscriptionId {
        SubscriptionId(Uuid::new_v5(&self.0, format!("subscription:{plan}:{start}").as_bytes()))
    }

    /// This customer's one-off charge with the operator's own reference.
    #[must_use]
    pub fn one_off(self, reference: &str) -> ChargeId {
        ChargeId(Uuid::new_v5(&self.0, format!("one-off:{reference}").as_bytes()))
    }
}

impl SubscriptionId {
    /// The charge for period `index`. Deterministic: a database restored from yesterday's backup derives the same
    /// charge, hence the same idempotency key, and Stripe answers with what already happened.
    #[must_use]
    pub fn charge(self, index: u32) -> ChargeId {
        ChargeId(Uuid::new_v5(&self.0, format!("period:{index}").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_database_derives_the_same_charge() {
        let instance = InstanceId(Uuid::nil());
        let derive = || instance.customer("cus_1").subscription("pro", "2026-01-31").charge(7);
        assert_eq!(derive(), derive());
        assert_ne!(derive(), instance.customer("cus_1").subscription("pro", "2026-01-31").charge(8));
    }

    #[test]
    fn derived_ids_are_the_same_in_every_release() {
        let customer = InstanceId(Uuid::nil()).customer("cus_1");
        let subscription = customer.subscription("pro", "2026-01-31");
        assert_eq!(customer.to_string(), "87868d18-127d-540f-97f9-926c06a36106");
        assert_eq!(subscription.to_string(), "50559008-2514-594a-b5f6-488c0bdf8569");
        assert_eq!(subscription.charge(7).to_string(), "9e4cf848-63f9-58e6-bf8a-eb8b0be8bd22");
        assert_eq!(customer.one_off("order-1").to_string(), "c996c547-1c18-5db1-98db-504cc5a9d1ed");
        assert_ne!(InstanceId::random(), InstanceId::random());
    }
}
