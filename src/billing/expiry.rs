//! Which saved cards expire soon enough to write to their owners: a month before, and a week before.

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

/// Days before the end of a card's month at which its owner is written to.
pub const FIRST_DAYS: i64 = 30;
/// And once more.
pub const SECOND_DAYS: i64 = 7;

/// Cards of one month whose owners hear of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// The year on the card.
    pub year: i16,
    /// The month on the card, 1 to 12.
    pub month: i8,
    /// A card is valid to the end of its month: from this instant on (by UTC) it is not.
    pub ends_at: Timestamp,
    /// Which of the two mails: [`FIRST_DAYS`] or [`SECOND_DAYS`].
    pub days: i64,
}

/// The months whose cards expire within [`FIRST_DAYS`] of `now`, with the mail that is due.
#[must_use]
pub fn expiring(now: Timestamp) -> Vec<Expiring> {
    let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let next = first.last_of_month().tomorrow().unwrap_or(first);
    [first, next].into_iter().filter_map(|month| of_month(month, now)).collect()
}

fn of_month(month: Date, now: Timestamp) -> Option<Expiring> {
    let ends_at = end_of(month.year(), month.month())?;
    let left = ends_at.as_second() - now.as_second();
    let days = [SECOND_DAYS, FIRST_DAYS].into_iter().find(|days| left <= days * 86_400)?;
    (left > 0).then_some(Expiring { year: month.year(), month: month.month(), ends_at, days })
}

/// The end of a card's month; `None` for what is no month.
#[must_use]
pub fn end_of(year: i16, month: i8) -> Option<Timestamp> {
    let in_range = (1..=12).contains(&month) && (1..=9998).contains(&year);
    let last = in_range.then(|| date(year, month, 1).last_of_month())?;
    Some(last.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: &str) -> Vec<(i16, i8, i64)> {
        expiring(now.parse().unwrap()).iter().map(|one| (one.year, one.month, one.days)).collect()
    }

    #[test]
    fn a_card_is_told_of_a_month_and_a_week_before_its_month_is_over() {
        assert_eq!(at("2026-01-01T23:59:59Z"), []);
        assert_eq!(at("2026-01-02T00:00:00Z"), [(2026, 1, 30)]);
        assert_eq!(at("2026-01-24T23:59:59Z"), [(2026, 1, 30)]);
        assert_eq!(at("2026-01-25T00:00:00Z"), [(2026, 1, 7)]);
        assert_eq!(at("2026-01-31T23:59:59Z"), [(2026, 1, 7), (2026, 2, 30)]);
        assert_eq!(at("2026-12-31T00:00:00Z"), [(2026, 12, 7)]);
        assert_eq!(end_of(2026, 12), Some("2027-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!([end_of(2026, 13), end_of(0, 0)], [None, None]);
    }
}
