//! One customer on one plan, and which periods of it have come.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Time};

use super::calendar::{CalendarError, Start, Timetable, first_date, zone};
use super::ids::SubscriptionId;
use super::plan::{CatchUp, Terms, Window};

/// Limit: a tick turns at most this many periods of one subscription into charges; the next tick goes on.
pub const PERIODS_PER_STEP_MAX: usize = 500;

/// How late a period may be and still count as in time (a weekend's outage and a day).
pub const GRACE: Duration = Duration::from_secs(72 * 3600);

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Waits for the customer to save a card.
    Pending,
    /// Charges fall due.
    Active,
    /// Stopped by the operator or by the end of a ladder; can be resumed.
    Paused,
    /// Ended early; no charge will ever fall due again.
    Canceled,
    /// All installments have fallen due.
    Completed,
}

impl SubscriptionState {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Canceled => "canceled",
            Self::Completed => "completed",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Active, Self::Paused, Self::Canceled, Self::Completed]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// The part of a subscription that never changes after it was sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Local date of period 0.
    pub anchor: Date,
    /// Local time of day, drawn once.
    pub time: Time,
    /// IANA name of the customer's zone.
    pub zone: String,
}

impl Frozen {
    /// Freezes the timetable of a new subscription: start, trial, anchor day, and the hour it will be charged at.
    ///
    /// # Errors
    /// [`CalendarError`] for an unknown zone or a trial that leaves the calendar.
    pub fn new(
        id: SubscriptionId,
        terms: &Terms,
        start: Start,
        zone_name: &str,
    ) -> Result<Self, CalendarError> {
        let zone = zone(zone_name)?;
        let (from, time) = match start {
            Start::Date(date) => (date, time_in_window(id, terms.window)),
            Start::Instant(at) => {
                let local = at.to_zoned(zone);
                (local.date(), local.time())
            }
        };
        let from = match terms.trial {
            Some(trial) => trial.after(from).ok_or(CalendarError::OutOfRange(0))?,
            None => from,
        };
        Ok(Self { anchor: first_date(from, terms.anchor), time, zone: zone_name.to_owned() })
    }

    /// The timetable under the plan's interval.
    ///
    /// # Errors
    /// [`CalendarError::Zone`] when the zone is no longer known.
    pub fn timetable(&self, terms: &Terms) -> Result<Timetable, CalendarError> {
        let day = match terms.anchor {
            super::calendar::Anchor::DayOfMonth(day) => Some(day),
            super::calendar::Anchor::Start | super::calendar::Anchor::Weekday(_) => None,
        };
        let zone = zone(&self.zone)?;
        Ok(Timetable { anchor: self.anchor, day, time: self.time, zone, interval: terms.every })
    }
}

/// A stable moment inside the window, so that not everybody falls due at the stroke of nine.
fn time_in_window(id: SubscriptionId, window: Window) -> Time {
    let from = u64::from(window.from_hour) * 3600;
    let length = (u64::from(window.to_hour) * 3600).saturating_sub(from).max(1);
    let second = from + (id.0.as_u128() % u128::from(length)) as u64;
    let part = |value: u64| i8::try_from(value).unwrap_or(0);
    Time::new(part(second / 3600), part(second / 60 % 60), part(second % 60), 0).unwrap_or(Time::midnight())
}

/// What becomes of a period whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Collect from this instant on.
    Due(Timestamp),
    /// Visible, but never collected by the machine.
    Missed,
    /// Waits for a person to decide.
    Ask,
}

/// One period that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Its number, from 0.
    pub index: u32,
    /// When it fell due by the timetable.
    pub due_at: Timestamp,
    /// What to do about it.
    pub fate: Fate,
}

/// The periods from `next_index` on that have come by `now` (or, where they are told of first, will come soon), and the next
/// one that has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Periods to turn into charges, each exactly once, in order.
    pub periods: Vec<Reached>,
    /// The first index not turned into a charge.
    pub next_index: u32,
    /// When that one falls due; `None` once the plan's installments are used up.
    pub next_due_at: Option<Timestamp>,
}

/// Computes which periods have come.
///
/// # Errors
/// [`CalendarError`] when the timetable leaves the calendar.
pub fn reach(
    terms: &Terms,
    table: &Timetable,
    next_index: u32,
    now: Timestamp,
) -> Result<Reach, CalendarError> {
    let horizon = Timestamp::from_second(now.as_second().saturating_add(terms.ahead_secs()));
    let horizon = horizon.unwrap_or(Timestamp::MAX);
    let mut due = Vec::new();
    let mut index = next_index;
    let mut next_due_at = None;
    while terms.has_period(index) {
        let due_at = table.due_at(index)?;
        if due_at > horizon || due.len() == PERIODS_PER_STEP_MAX {
            next_due_at = Some(due_at);
            break;
        }
        due.push((index, due_at));
        index += 1;
    }
    let more_waiting = next_due_at.is_some_and(|at| at <= now);
    // What is not due yet is in time, whatever was missed before it.
    let (come, soon) = due.split_at(due.partition_point(|&(_, due_at)| due_at <= now));
    let fates = fates(terms, come, more_waiting, now)
        .into_iter()
        .chain(soon.iter().map(|&(_, due_at)| Fate::Due(due_at)));
    let periods =
        due.iter().zip(fates).map(|(&(index, due_at), fate)| Reached { index, due_at, fate }).collect();
    Ok(Reach { periods, next_index: index, next_due_at })
}

fn fates(terms: &Terms, due: &[(u32, Timestamp)], more_waiting: bool, now: Timestamp) -> Vec<Fate> {
    let last = due.len().saturating_sub(1);
    let late = |at: Timestamp| now.duration_since(at).unsigned_abs() > GRACE;
    let gap_secs = terms.every.min_secs() / 2;
    due.iter()
        .enumerate()
        .map(|(position, &(_, due_at))| match terms.catch_up {
            CatchUp::Latest if position == last && !more_waiting => Fate::Due(due_at),
            CatchUp::Latest if mutant!(MonthsAtOnce) => Fate::Due(due_at),
            CatchUp::Latest => Fate::Missed,
            CatchUp::None if late(due_at) => Fate::Missed,
            CatchUp::None => Fate::Due(due_at),
            CatchUp::Ask if due.len() > 1 || more_waiting => Fate::Ask,
            CatchUp::Ask => Fate::Due(due_at),
            CatchUp::All if position == 0 => Fate::Due(due_at),
            CatchUp::All => Fate::Due(spaced(now, gap_secs, position)),
        })
        .collect()
}

fn spaced(now: Timestamp, gap_secs: i64, position: usize) -> Timestamp {
    let wait = gap_secs.saturating_mul(i64::try_from(position).unwrap_or(i64::MAX));
    Timestamp::from_second(now.as_second().saturating_add(wait)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::plan::NoticeFor;
    use super::*;
    use crate::billing::calendar::Anchor;

    fn terms(catch_up: CatchUp, installments: Option<u32>) -> Terms {
        Terms {
            name: "Pro".into(),
            price_minor: 2900,
            currency: "usd".into(),
            every: "1 month".parse().unwrap(),
            anchor: Anchor::Start,
            trial: None,
            installments,
            catch_up,
            window: Window::default(),
            statement_suffix: None,
            notice_secs: 0,
            notice_for: NoticeFor::default(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn id(n: u128) -> SubscriptionId {
        SubscriptionId(uuid::Uuid::from_u128(n))
    }

    fn reached(terms: &Terms, next_index: u32, now: &str) -> Reach {
        let start = "2026-01-31T08:00:00Z".parse().unwrap();
        let table = Frozen::new(id(1), terms, start, "UTC").unwrap().timetable(terms).unwrap();
        reach(terms, &table, next_index, at(now)).unwrap()
    }

    fn fates_of(reach: &Reach) -> Vec<(u32, Fate)> {
        reach.periods.iter().map(|period| (period.index, period.fate)).collect()
    }

    #[test]
    fn a_period_is_reached_exactly_at_its_instant() {
        let terms = terms(CatchUp::Latest, None);
        assert!(reached(&terms, 0, "2026-01-31T07:59:59Z").periods.is_empty());
        let reach = reached(&terms, 0, "2026-01-31T08:00:00Z");
        assert_eq!(fates_of(&reach), [(0, Fate::Due(at("2026-01-31T08:00:00Z")))]);
        assert_eq!((reach.next_index, reach.next_due_at), (1, Some(at("2026-02-28T08:00:00Z"))));
    }

    #[test]
    fn after_a_hundred_days_down_each_policy_keeps_every_period_visible() {
        let now = "2026-05-10T00:00:00Z";
        let newest = at("2026-04-30T08:00:00Z");
        let latest = reached(&terms(CatchUp::Latest, None), 0, now);
        assert_eq!(
            fates_of(&latest),
            [(0, Fate::Missed), (1, Fate::Missed), (2, Fate::Missed), (3, Fate::Due(newest))]
        );
        let none = reached(&terms(CatchUp::None, None), 0, now);
        assert!(none.periods.iter().all(|period| period.fate == Fate::Missed));
        let ask = reached(&terms(CatchUp::Ask, None), 0, now);
        assert!(ask.periods.iter().all(|period| period.fate == Fate::Ask));
        let all = reached(&terms(CatchUp::All, None), 0, now);
        let dues: Vec<i64> = all
            .periods
            .iter()
            .map(|period| match period.fate {
                Fate::Due(at) => at.as_second(),
                Fate::Missed | Fate::Ask => panic!("{period:?}"),
            })
            .collect();
        let two_weeks = |count: i64| at(now).as_second() + count * 14 * 86_400;
        let first = at("2026-01-31T08:00:00Z").as_second();
        assert_eq!(dues, [first, two_weeks(1), two_weeks(2), two_weeks(3)]);
    }

    #[test]
    fn within_three_days_nothing_is_late() {
        let none = terms(CatchUp::None, None);
        let due = Fate::Due(at("2026-01-31T08:00:00Z"));
        assert_eq!(fates_of(&reached(&none, 0, "2026-02-03T08:00:00Z")), [(0, due)]);
        assert_eq!(fates_of(&reached(&none, 0, "2026-02-03T08:00:01Z")), [(0, Fate::Missed)]);
        let ask = terms(CatchUp::Ask, None);
        assert_eq!(
            fates_of(&reached(&ask, 0, "2026-02-20T00:00:00Z")),
            [(0, due)],
            "one period is no question"
        );
    }

    #[test]
    fn installments_end() {
        let reach = reached(&terms(CatchUp::Latest, Some(2)), 1, "2026-12-01T00:00:00Z");
        assert_eq!(fates_of(&reach), [(1, Fate::Due(at("2026-02-28T08:00:00Z")))]);
        assert_eq!(reach.next_due_at, None);
    }

    #[test]
    fn a_date_is_charged_within_the_window_and_the_moment_is_stable() {
        let terms = terms(CatchUp::Latest, None);
        for n in 0..2000 {
            let frozen =
                Frozen::new(id(n * 7919), &terms, "2026-03-01".parse().unwrap(), "Asia/Tokyo").unwrap();
            assert!((9..11).contains(&frozen.time.hour()), "{:?}", frozen.time);
            let again =
                Frozen::new(id(n * 7919), &terms, "2026-03-01".parse().unwrap(), "Asia/Tokyo").unwrap();
            assert_eq!(frozen, again);
        }
    }

    #[test]
    fn a_period_that_is_told_of_first_becomes_a_charge_so_long_before_and_does_not_pass_for_a_late_one() {
        let mut terms = terms(CatchUp::Latest, None);
        terms.notice_secs = 7 * 86_400;
        let (first, second) = (at("2026-01-31T08:00:00Z"), at("2026-02-28T08:00:00Z"));
        assert!(reached(&terms, 0, "2026-01-24T06:59:59Z").periods.is_empty());
        assert_eq!(fates_of(&reached(&terms, 0, "2026-01-24T07:00:00Z")), [(0, Fate::Due(first))]);
        assert_eq!(
            fates_of(&reached(&terms, 0, "2026-02-25T08:00:00Z")),
            [(0, Fate::Due(first)), (1, Fate::Due(second))]
        );
        terms.catch_up = CatchUp::Ask;
        assert_eq!(
            fates_of(&reached(&terms, 1, "2026-02-25T08:00:00Z")),
            [(1, Fate::Due(second))],
            "no question"
        );
        terms.catch_up = CatchUp::None;
        assert_eq!(
            fates_of(&reached(&terms, 0, "2026-02-25T08:00:00Z")),
            [(0, Fate::Missed), (1, Fate::Due(second))]
        );
    }

    #[test]
    fn the_first_charge_right_after_it_was_agreed_to_needs_no_notice() {
        let mut terms = terms(CatchUp::Latest, None);
        let (sold, soon, later) =
            (at("2026-01-01T00:00:00Z"), at("2026-01-07T23:59:59Z"), at("2026-01-08T00:00:00Z"));
        assert!(!terms.needs_notice(3, later, sold), "none is asked for");
        terms.notice_secs = 7 * 86_400;
        assert_eq!([terms.needs_notice(0, soon, sold), terms.needs_notice(0, later, sold)], [false, true]);
        assert!(terms.needs_notice(1, soon, sold));
        terms.trial = Some("3 days".parse().unwrap());
        assert!(terms.needs_notice(0, soon, sold), "a trial's end is told of");
        for (only, told) in [(NoticeFor::TrialEnd, [true, false]), (NoticeFor::Renewal, [false, true])] {
            terms.notice_for = only;
            assert_eq!([0, 1].map(|index| terms.needs_notice(index, soon, sold)), told, "{only:?}");
        }
    }

    #[test]
    fn a_trial_moves_the_first_charge_by_calendar_days() {
        let mut terms = terms(CatchUp::Latest, None);
        terms.trial = Some("30 days".parse().unwrap());
        // A clock change lies inside: the local time of day must not move.
        let start = "2026-03-10T09:00:00+01:00".parse().unwrap();
        let frozen = Frozen::new(id(1), &terms, start, "Europe/Berlin").unwrap();
        assert_eq!(frozen.anchor, jiff::civil::date(2026, 4, 9));
        assert_eq!(frozen.time.hour(), 9);
    }

    #[test]
    fn a_step_is_bounded_and_the_next_one_goes_on() {
        let mut terms = terms(CatchUp::Latest, None);
        terms.every = "1 day".parse().unwrap();
        let first = reached(&terms, 0, "2030-01-01T00:00:00Z");
        assert_eq!(first.periods.len(), PERIODS_PER_STEP_MAX);
        assert!(first.periods.iter().all(|period| period.fate == Fate::Missed));
        let second = reached(&terms, first.next_index, "2030-01-01T00:00:00Z");
        assert_eq!(second.periods[0].index, first.next_index);
        let newest = |reach: &Reach| reach.periods.last().unwrap().fate;
        let full = reached(&terms, 0, "2027-06-14T08:00:00Z");
        assert_eq!(full.periods.len(), PERIODS_PER_STEP_MAX, "just as many as fit");
        assert_eq!(newest(&full), Fate::Due(at("2027-06-14T08:00:00Z")));
        assert_eq!(newest(&reached(&terms, 0, "2027-06-15T08:00:00Z")), Fate::Missed, "one more waits");
        terms.catch_up = CatchUp::Ask;
        assert_eq!(newest(&reached(&terms, 0, "2027-06-15T08:00:00Z")), Fate::Ask);
    }

    #[test]
    fn the_moment_in_the_window_follows_from_the_id() {
        let terms = terms(CatchUp::Latest, None);
        let frozen = Frozen::new(id(12_345), &terms, "2026-03-01".parse().unwrap(), "UTC").unwrap();
        // Once around the two hours from nine on, and 5,145 seconds.
        assert_eq!(frozen.time, Time::constant(10, 25, 45, 0));
    }
}
