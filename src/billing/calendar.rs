//! When a period falls due: `anchor + n x interval` in the subscription's own time zone.
//!
//! Always computed from the anchor, so 31 January is followed by 28 February and then by 31 March. Local times
//! that a clock change skips move forward by the gap; local times that happen twice take the first occurrence.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// Limit: nobody bills less often than every ten years; larger counts are typing mistakes.
pub const INTERVAL_COUNT_MAX: u32 = 3660;

/// The unit of an [`Interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Calendar days.
    Day,
    /// Seven calendar days.
    Week,
    /// Calendar months; days past a month's end fall on its last day.
    Month,
    /// Calendar years; 29 February falls on the 28th outside leap years.
    Year,
}

/// How long a period is: a count of calendar units, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// How many units, 1 to [`INTERVAL_COUNT_MAX`].
    pub count: u32,
    /// Which unit.
    pub unit: Unit,
}

/// Which day of its period a subscription is charged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The day it started on.
    Start,
    /// A fixed day of the month, 1 to 31; short months use their last day.
    DayOfMonth(u8),
    /// A fixed day of the week, 1 (Monday) to 7 (Sunday).
    Weekday(u8),
}

/// Why a date cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Not of the form `1 month`.
    #[error("{0:?} is not an interval; write a count and a unit, such as \"1 month\" or \"14 days\"")]
    Interval(String),
    /// Not in the tz database.
    #[error("{0:?} is not a time zone; use an IANA name such as \"Europe/Berlin\"")]
    Zone(String),
    /// Neither a date nor an instant.
    #[error("{0:?} is neither a date (2026-01-31) nor an instant (2026-01-31T09:00:00Z)")]
    Start(String),
    /// Beyond the years a calendar has.
    #[error("the date of period {0} is out of range")]
    OutOfRange(u32),
}

impl Interval {
    /// The span of `n` intervals.
    fn times(self, n: u32) -> Option<Span> {
        let count = i64::from(self.count.checked_mul(n)?);
        match self.unit {
            Unit::Day => Span::new().try_days(count).ok(),
            Unit::Week => Span::new().try_weeks(count).ok(),
            Unit::Month => Span::new().try_months(count).ok(),
            Unit::Year => Span::new().try_years(count).ok(),
        }
    }

    /// `date` plus this interval, clamped to the last day of a short month.
    #[must_use]
    pub fn after(self, date: Date) -> Option<Date> {
        date.checked_add(self.times(1)?).ok()
    }

    /// A lower bound of the interval's length in seconds, for guards that compare instants.
    #[must_use]
    pub fn min_secs(self) -> i64 {
        let days = match self.unit {
            Unit::Day => 1,
            Unit::Week => 7,
            Unit::Month => 28,
            Unit::Year => 365,
        };
        i64::from(self.count) * days * 86_400
    }
}

impl std::str::FromStr for Interval {
    type Err = CalendarError;

    /// Reads `1 month`, `14 days`, `2 weeks`, `1 year`.
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let wrong = || CalendarError::Interval(text.to_owned());
        let (count, unit) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let count: u32 = count.parse().map_err(|_| wrong())?;
        let unit = match unit.trim().trim_end_matches('s') {
            "day" => Unit::Day,
            "week" => Unit::Week,
            "month" => Unit::Month,
            "year" => Unit::Year,
            _ => return Err(wrong()),
        };
        if !(1..=INTERVAL_COUNT_MAX).contains(&count) {
            return Err(wrong());
        }
        Ok(Self { count, unit })
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.unit {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        };
        write!(f, "{} {unit}{}", self.count, if self.count == 1 { "" } else { "s" })
    }
}

/// When a subscription was said to begin, as written by the operator or the import file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A date: charged within the plan's local window on that day.
    Date(Date),
    /// An instant: charged exactly then.
    Instant(Timestamp),
}

impl std::str::FromStr for Start {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        if let Ok(date) = text.parse::<Date>()
            && text.len() == 10
        {
            return Ok(Self::Date(date));
        }
        text.parse().map(Self::Instant).map_err(|_| CalendarError::Start(text.to_owned()))
    }
}

/// Looks a time zone up.
///
/// # Errors
/// [`CalendarError::Zone`] when the tz database has no such name.
pub fn zone(name: &str) -> Result<TimeZone, CalendarError> {
    TimeZone::get(name).map_err(|_| CalendarError::Zone(name.to_owned()))
}

/// The frozen timetable of one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// Local date of period 0.
    pub anchor: Date,
    /// The day of the month meant, where the anchor's month was too short for it (anchor 31, first due in April).
    pub day: Option<u8>,
    /// Local time of day of every period.
    pub time: Time,
    /// The customer's zone when the subscription was sold.
    pub zone: TimeZone,
    /// Length of a period.
    pub interval: Interval,
}

impl Timetable {
    /// The instant at which period `index` falls due.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] past the year 9999.
    pub fn due_at(&self, index: u32) -> Result<Timestamp, CalendarError> {
        let out_of_range = || CalendarError::OutOfRange(index);
        let span = self.interval.times(index).ok_or_else(out_of_range)?;
        let mut date = self.anchor.checked_add(span).map_err(|_| out_of_range())?;
        if mutant!(AnchorDrifts) {
            let step = self.interval.times(1).ok_or_else(out_of_range)?;
            let drift = |date: Date, _| date.checked_add(step).unwrap_or(date);
            date = (0..index).fold(self.anchor, drift);
        }
        if let Some(day) = self.day {
            date = on_day(date, day);
        }
        instant(date, self.time, &self.zone).ok_or_else(out_of_range)
    }
}

/// The first timetable date for a start and an anchor: on or after `from`.
#[must_use]
pub fn first_date(from: Date, anchor: Anchor) -> Date {
    match anchor {
        Anchor::Start => from,
        Anchor::DayOfMonth(day) => {
            let here = on_day(from, day);
            if here >= from {
                return here;
            }
            from.first_of_month().checked_add(1.month()).map_or(from, |next| on_day(next, day))
        }
        Anchor::Weekday(day) => {
            let weekday =
                Weekday::from_monday_one_offset(i8::try_from(day).unwrap_or(1)).unwrap_or(from.weekday());
            let ahead = from.weekday().until(weekday);
            from.checked_add(i64::from(ahead).days()).unwrap_or(from)
        }
    }
}

/// A local date and time as an instant: a gap moves forward by its length, an overlap takes the first.
#[must_use]
pub fn instant(date: Date, time: Time, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok()
}

/// `day` of the month of `date`, or that month's last day.
fn on_day(date: Date, day: u8) -> Date {
    let last = date.days_in_month();
    let day = i8::try_from(day).unwrap_or(31).clamp(1, last);
    date.with().day(day).build().unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};

    fn monthly(anchor: Date) -> Timetable {
        table(anchor, "1 month", "UTC", time(9, 0, 0, 0))
    }

    fn table(anchor: Date, interval: &str, name: &str, time: Time) -> Timetable {
        Timetable { anchor, day: None, time, zone: zone(name).unwrap(), interval: interval.parse().unwrap() }
    }

    fn local_date(table: &Timetable, index: u32) -> Date {
        table.due_at(index).unwrap().to_zoned(table.zone.clone()).date()
    }

    #[test]
    fn the_31st_is_clamped_and_comes_back() {
        let table = monthly(date(2026, 1, 31));
        let dates: Vec<String> = (0..5).map(|n| local_date(&table, n).to_string()).collect();
        assert_eq!(dates, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]);
    }

    #[test]
    fn the_29th_of_february_comes_back_in_leap_years() {
        let table = table(date(2024, 2, 29), "1 year", "UTC", time(9, 0, 0, 0));
        assert_eq!(local_date(&table, 1), date(2025, 2, 28));
        assert_eq!(local_date(&table, 4), date(2028, 2, 29));
        // 2100 is no leap year.
        assert_eq!(local_date(&table, 76), date(2100, 2, 28));
    }

    #[test]
    fn no_anchor_ever_drifts_in_a_hundred_years() {
        for day in 1..=31 {
            let table = monthly(date(2026, 1, day));
            for n in 0..1200 {
                let due = local_date(&table, n);
                assert_eq!(due.day(), day.min(due.days_in_month()), "anchor {day}, period {n}");
                assert_eq!(i64::from(due.year() - 2026) * 12 + i64::from(due.month()) - 1, i64::from(n));
            }
        }
    }

    #[test]
    fn clock_changes_neither_skip_nor_repeat_a_period() {
        // Berlin: 02:30 does not exist on 29 March 2026 and happens twice on 25 October 2026.
        let table = table(date(2026, 3, 28), "1 day", "Europe/Berlin", time(2, 30, 0, 0));
        assert_eq!(table.due_at(1).unwrap().to_string(), "2026-03-29T01:30:00Z");
        let autumn = super::tests::table(date(2026, 10, 25), "1 day", "Europe/Berlin", time(2, 30, 0, 0));
        assert_eq!(autumn.due_at(0).unwrap().to_string(), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn no_zone_lets_a_later_period_come_first() {
        for name in
            ["Pacific/Apia", "America/Sao_Paulo", "Asia/Tehran", "Africa/Cairo", "Australia/Lord_Howe"]
        {
            let table = table(date(2009, 12, 1), "1 day", name, time(0, 15, 0, 0));
            for n in 0..2000 {
                // Samoa skipped all of 30 December 2011: those two days fall due together, under two indexes.
                assert!(table.due_at(n).unwrap() <= table.due_at(n + 1).unwrap(), "{name} {n}");
            }
        }
    }

    #[test]
    fn fixed_anchors_find_their_first_day() {
        assert_eq!(first_date(date(2026, 1, 20), Anchor::DayOfMonth(15)), date(2026, 2, 15));
        assert_eq!(first_date(date(2026, 1, 15), Anchor::DayOfMonth(15)), date(2026, 1, 15));
        assert_eq!(first_date(date(2026, 2, 10), Anchor::DayOfMonth(31)), date(2026, 2, 28));
        assert_eq!(first_date(date(2026, 1, 1), Anchor::Weekday(1)), date(2026, 1, 5));
        let table = Timetable { day: Some(31), ..monthly(date(2026, 2, 28)) };
        assert_eq!(local_date(&table, 1), date(2026, 3, 31));
    }

    #[test]
    fn intervals_are_read_strictly() {
        assert_eq!("2 weeks".parse::<Interval>().unwrap().to_string(), "2 weeks");
        for text in ["", "month", "0 months", "-1 day", "1.5 days", "1 fortnight", "99999 days", "1month"] {
            assert!(text.parse::<Interval>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_shortest_an_interval_can_be_is_known() {
        let day = 86_400;
        for (text, days) in [("3 days", 3), ("2 weeks", 14), ("2 months", 56), ("2 years", 730)] {
            assert_eq!(text.parse::<Interval>().unwrap().min_secs(), days * day, "{text}");
        }
    }

    #[test]
    fn a_start_is_a_date_or_an_instant() {
        assert_eq!("2026-01-31".parse::<Start>().unwrap(), Start::Date(date(2026, 1, 31)));
        assert!(matches!("2026-01-31T09:00:00+01:00".parse::<Start>(), Ok(Start::Instant(_))));
        assert!("31.01.2026".parse::<Start>().is_err());
    }
}
