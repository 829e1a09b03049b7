//! The card networks' limits on trying again. A ceiling, never a setting.
//!
//! The numbers are `data/network_ceilings.csv`, each with its edition and days: our own for every card (one try in 24
//! hours, three in seven days, eight in thirty), and those of the card's network. What counts is a declined try of
//! one card, by its fingerprint, by machine or by the customer on a page.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::decline::{Decline, hours};

/// How far back the tries of a card must be known: the longest window of the table.
pub const HISTORY: Duration = Duration::from_secs(30 * 86_400);

/// A declined try of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// When.
    pub at: Timestamp,
    /// Whether for the amount in question; some limits count a card's tries of any amount.
    pub same_amount: bool,
    /// The card's brand in Stripe's spelling, if it was known.
    pub brand: Option<String>,
    /// Before when the network wants no other try for the same amount.
    pub not_before: Option<Timestamp>,
}

impl Try {
    /// For the amount in question.
    #[must_use]
    pub fn declined(decline: &Decline, at: Timestamp) -> Self {
        Self { at, same_amount: true, brand: decline.brand.clone(), not_before: decline.not_before(at) }
    }
}

/// A line of `data/network_ceilings.csv`.
struct Ceiling {
    brand: &'static str,
    tries: usize,
    window: Duration,
    /// Whether tries for other amounts count too.
    per_card: bool,
    /// Whether it holds for the first try of a charge too.
    binds_first: bool,
    from: Timestamp,
    until: Timestamp,
}

static CEILINGS: LazyLock<Vec<Ceiling>> = LazyLock::new(|| {
    include_str!("../../data/network_ceilings.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .skip(1)
        .map(|line| parse_row(line).expect("data/network_ceilings.csv is checked by a test"))
        .collect()
});

fn parse_row(line: &'static str) -> Option<Ceiling> {
    let [brand, tries, window, per, binds, from, until] =
        line.split(',').collect::<Vec<_>>().try_into().ok()?;
    let midnight = |day: Date| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp());
    Some(Ceiling {
        brand,
        tries: tries.parse().ok()?,
        window: hours(window)?,
        per_card: ["amount", "card"].iter().position(|one| *one == per)? == 1,
        binds_first: ["retry", "every"].iter().position(|one| *one == binds)? == 1,
        from: midnight(from.parse().ok()?)?,
        until: match until {
            "" => Timestamp::MAX,
            day => midnight(day.parse::<Date>().ok()?.tomorrow().ok()?)?,
        },
    })
}

impl Ceiling {
    fn holds(&self, brand: Option<&str>, at: Timestamp) -> bool {
        (self.brand == "*" || Some(self.brand) == brand) && self.from <= at && at < self.until
    }

    /// When one more try fits into every window, after `tries`, which are in order.
    fn room(&self, tries: &[&Try]) -> Option<Timestamp> {
        let counted = tries.iter().rev().filter(|one| self.per_card || one.same_amount);
        // The try that must have left the window: the newest but tries - 1.
        Some(after(counted.map(|one| one.at).nth(self.tries.checked_sub(1)?)?, self.window))
    }
}

/// The earliest instant, not before `wanted`, at which this card may be tried again for this amount.
///
/// `history` holds all tries of the same card within [`HISTORY`], the declined one included, in any order. `None`:
/// never by machine with this card.
#[must_use]
pub fn earliest_retry(decline: &Decline, history: &[Try], wanted: Timestamp) -> Option<Timestamp> {
    if !decline.class().allows_machine_retry() && !mutant!(NeverIgnored) {
        return None;
    }
    Some(within_ceilings(history, wanted))
}

/// Moves `at` forward until no advice asks to wait and one more try fits into every window.
#[must_use]
pub fn within_ceilings(history: &[Try], at: Timestamp) -> Timestamp {
    let advice = history.iter().filter(|one| one.same_amount && !mutant!(AdviceIgnored));
    let floor = advice.filter_map(|one| one.not_before).fold(at, Timestamp::max);
    within(CEILINGS.iter(), history, floor)
}

/// As [`within_ceilings`], for the first try of a charge: of another charge than those that were declined, though the network
/// sees the same card and amount.
#[must_use]
pub fn within_ceilings_of_first(history: &[Try], at: Timestamp) -> Timestamp {
    within(CEILINGS.iter().filter(|one| one.binds_first), history, at)
}

/// A card that was declined less often than this binds no first try.
#[must_use]
pub fn binds_first_from() -> usize {
    CEILINGS.iter().filter(|one| one.binds_first).map(|one| one.tries).min().unwrap_or(usize::MAX)
}

fn within(
    ceilings: impl Iterator<Item = &'static Ceiling> + Clone,
    history: &[Try],
    at: Timestamp,
) -> Timestamp {
    let mut tries: Vec<&Try> = if mutant!(CeilingsIgnored) { Vec::new() } else { history.iter().collect() };
    tries.sort_unstable_by_key(|one| one.at);
    let brand = tries.iter().rev().find_map(|one| one.brand.as_deref());
    let mut at = at;
    loop {
        // A later instant may fall under a later edition.
        let holding = ceilings.clone().filter(|ceiling| ceiling.holds(brand, at));
        let later = holding.filter_map(|ceiling| ceiling.room(&tries)).fold(at, Timestamp::max);
        if later == at {
            return at;
        }
        at = later;
    }
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// A try for the amount in question, of a card of any brand.
#[cfg(test)]
pub(super) fn tried(at: Timestamp) -> Try {
    Try::declined(&Decline::default(), at)
}

#[cfg(test)]
mod tests;
