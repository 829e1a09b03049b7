//! How much may be charged before a person has to look: caps of a day, and what a usual day looks like.

use std::collections::BTreeMap;

use super::money::{Currency, Money};

/// What was attempted in one UTC day, by all processes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Attempts.
    pub attempts: u64,
    /// Sums in minor units. An attempt counts when it is admitted, whatever becomes of it.
    pub sums: BTreeMap<Currency, i64>,
}

/// What a day may not exceed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayCaps {
    /// Attempts.
    pub attempts: Option<u64>,
    /// Sums, one per currency.
    pub sums: Vec<Money>,
}

impl Spent {
    /// Adds an attempt.
    pub fn add(&mut self, amount: Money) {
        self.attempts += 1;
        let sum = self.sums.entry(amount.currency()).or_default();
        *sum = sum.saturating_add(amount.minor());
    }

    /// How many of `wanted`, in their order, still fit below the caps, and why the next does not.
    #[must_use]
    pub fn fit(&self, caps: &DayCaps, wanted: &[Money]) -> (usize, Option<String>) {
        let mut spent = self.clone();
        for (admitted, amount) in wanted.iter().enumerate() {
            spent.add(*amount);
            if let Some(why) = spent.excess(caps) {
                return (admitted, Some(why));
            }
        }
        (wanted.len(), None)
    }

    fn excess(&self, caps: &DayCaps) -> Option<String> {
        if let Some(cap) = caps.attempts.filter(|cap| self.attempts > *cap) {
            return Some(format!("more than {cap} attempts today (guard.charges_per_day)"));
        }
        let over = caps.sums.iter().find(|cap| self.sum(cap.currency()) > cap.minor())?;
        Some(format!("more than {over} today (guard.sums_per_day)"))
    }

    fn sum(&self, currency: Currency) -> i64 {
        self.sums.get(&currency).copied().unwrap_or(0)
    }

    /// Why a day like this is not usual: it exceeds `times` the busiest day in attempts, or in a currency's sum.
    /// Fewer than `from` attempts are always usual; so is a currency that was never charged before.
    #[must_use]
    pub fn surge(&self, busiest: &Self, times: u32, from: u64) -> Option<String> {
        if self.attempts < from {
            return None;
        }
        if self.attempts > busiest.attempts.saturating_mul(u64::from(times)) {
            let (now, then) = (self.attempts, busiest.attempts);
            return Some(format!("{now} charges are due today; the busiest day so far had {then}"));
        }
        self.sums.iter().find_map(|(currency, sum)| {
            let then = busiest.sum(*currency);
            let usual = then == 0 || *sum <= then.saturating_mul(i64::from(times));
            let shown = |minor| {
                Money::from_minor(minor, *currency).map_or_else(|_| minor.to_string(), |sum| sum.to_string())
            };
            (!usual)
                .then(|| format!("{} is due today; the busiest day so far had {}", shown(*sum), shown(then)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn spent(amounts: &[&str]) -> Spent {
        let mut spent = Spent::default();
        amounts.iter().for_each(|amount| spent.add(money(amount)));
        spent
    }

    #[test]
    fn what_fits_is_admitted_in_order_and_the_cap_itself_is_allowed() {
        let caps = DayCaps { attempts: Some(3), sums: vec![money("100.00 USD")] };
        let day = spent(&["40.00 USD"]);
        assert_eq!(day.fit(&caps, &[money("60.00 USD"), money("5.00 EUR")]), (2, None));
        let (admitted, why) = day.fit(&caps, &[money("60.00 USD"), money("0.01 USD")]);
        assert_eq!((admitted, why.unwrap().as_str()), (1, "more than 100.00 USD today (guard.sums_per_day)"));
        let (admitted, why) = day.fit(&caps, &[money("1.00 EUR"), money("1.00 EUR"), money("1.00 EUR")]);
        assert_eq!(
            (admitted, why.unwrap().as_str()),
            (2, "more than 3 attempts today (guard.charges_per_day)")
        );
        assert_eq!(day.fit(&DayCaps::default(), &[money("9999.00 USD")]), (1, None));
    }

    #[test]
    fn a_surge_is_more_than_so_many_times_the_busiest_day() {
        let busiest = spent(&["10.00 USD", "10.00 USD"]);
        let six = spent(&["10.00 USD"; 6]);
        assert_eq!(six.surge(&busiest, 3, 5), None);
        let seven = spent(&["10.00 USD"; 7]);
        assert_eq!(seven.surge(&busiest, 3, 8), None, "few charges are never a surge");
        assert_eq!(
            seven.surge(&busiest, 3, 5).unwrap(),
            "7 charges are due today; the busiest day so far had 2"
        );
        let hundredfold = spent(&["1000.00 USD", "10.00 USD"]);
        assert_eq!(
            hundredfold.surge(&busiest, 3, 2).unwrap(),
            "1010.00 USD is due today; the busiest day so far had 20.00 USD"
        );
        assert_eq!(spent(&["1000.00 EUR"]).surge(&busiest, 3, 1), None, "a first day in a currency");
    }
}
