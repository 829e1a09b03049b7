//! The ladder as it was configured: its steps, on which days and in which local hours they happen, and the end.
//! [`super::dunning`] goes it.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::dunning::MailKind;
use super::plan::Window;

/// A ladder on record. A case keeps the one it began on, whatever the configuration says later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LadderId(pub u32);

/// One rung of the ladder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LadderStep {
    /// Seconds after the previous step; for the first step, after the decline.
    pub after_secs: u64,
    /// Whether the machine tries the saved card again. The networks' ceilings may move it later or forbid it.
    pub retry: bool,
    /// The mail that leaves when the step has not collected.
    pub mail: Option<MailKind>,
    /// The days it waits for, such as pay-days; empty: any day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Slot>,
}

/// A kind of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// A day of the month, 1 to 31; short months use their last day.
    DayOfMonth(i8),
    /// The last Monday to Friday of the month. Bank holidays are not known.
    LastBusinessDay,
    /// A day of the week, 1 (Monday) to 7 (Sunday).
    Weekday(i8),
}

impl Slot {
    fn is(self, date: Date) -> bool {
        match self {
            Self::DayOfMonth(day) => date.day() == day.min(date.days_in_month()),
            Self::Weekday(day) => date.weekday().to_monday_one_offset() == day,
            Self::LastBusinessDay => {
                let last = date.last_of_month();
                let back = match last.weekday() {
                    Weekday::Saturday => 1,
                    Weekday::Sunday => 2,
                    Weekday::Monday
                    | Weekday::Tuesday
                    | Weekday::Wednesday
                    | Weekday::Thursday
                    | Weekday::Friday => 0,
                };
                date == last.saturating_sub(back.days())
            }
        }
    }
}

/// What becomes of the subscription when the ladder ends unpaid. The charge is uncollectible in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finally {
    /// The subscription is canceled.
    #[default]
    Cancel,
    /// The subscription is paused until somebody resumes it.
    Pause,
    /// Only this charge is given up; the next period falls due as usual.
    Uncollectible,
}

/// What happens after a decline, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ladder {
    /// The rungs in order.
    pub steps: Vec<LadderStep>,
    /// Seconds between the last step and the end.
    pub finally_after_secs: u64,
    /// The end.
    pub finally: Finally,
    /// Seconds after the first decline for which the service stays on; `None`: until the ladder ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_secs: Option<u64>,
    /// The customer's local hours in which steps happen; `None`: at any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The weekdays on which steps happen, 1 (Monday) to 7 (Sunday); empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<i8>,
}

impl Default for Ladder {
    /// Mail at once, three retries within twelve days, a last notice with the last of them, the end after 15 days.
    fn default() -> Self {
        const DAY: u64 = 86_400;
        let step =
            |days: u64, retry, mail| LadderStep { after_secs: days * DAY, retry, mail, on: Vec::new() };
        Self {
            steps: vec![
                step(0, false, Some(MailKind::PaymentFailed)),
                step(3, true, None),
                step(4, true, Some(MailKind::PaymentFailed)),
                step(5, true, Some(MailKind::LastNotice)),
            ],
            finally_after_secs: 3 * DAY,
            finally: Finally::Cancel,
            grace_secs: None,
            window: None,
            weekdays: Vec::new(),
        }
    }
}

/// Limit: every kind of day comes within a month, and a permitted weekday within six days of it.
const DAYS_AHEAD: i32 = 40;

impl Ladder {
    /// The rung of this number, from 0; none past the last.
    #[must_use]
    pub fn step(&self, number: u32) -> Option<&LadderStep> {
        self.steps.get(usize::try_from(number).ok()?)
    }

    /// The first instant, not before `at`, that lies in the ladder's hours and on a day that `step` waits for. Such a day
    /// on a weekday without steps counts on the next weekday that has them.
    #[must_use]
    pub fn slot(&self, step: &LadderStep, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let local = at.to_zoned(zone.clone());
        for ahead in 0..DAYS_AHEAD {
            let Ok(date) = local.date().checked_add(ahead.days()) else { break };
            if !self.fits(step, date) {
                continue;
            }
            let time = match (self.window, ahead) {
                (None, 0) => return at,
                (None, _) => local.time(),
                (Some(window), 0) if window.holds(local.time()) => return at,
                (Some(window), 0) if local.time() >= window.opens() => continue,
                (Some(window), _) => window.opens(),
            };
            let found = date.to_datetime(time).to_zoned(zone.clone()).map(|found| found.timestamp());
            return found.map_or(at, |found| found.max(at));
        }
        at
    }

    fn fits(&self, step: &LadderStep, date: Date) -> bool {
        let waited_for = |date: Date| step.on.is_empty() || step.on.iter().any(|slot| slot.is(date));
        if !self.works_on(date) {
            return false;
        }
        let before = (1..7).map(|back: i32| date.saturating_sub(back.days()));
        waited_for(date) || before.take_while(|day| !self.works_on(*day)).any(waited_for)
    }

    fn works_on(&self, date: Date) -> bool {
        self.weekdays.is_empty() || self.weekdays.contains(&date.weekday().to_monday_one_offset())
    }

    /// Until when the service stays on, for a case that began at `since`; `None`: until the ladder ends.
    #[must_use]
    pub fn grace_until(&self, since: Timestamp) -> Option<Timestamp> {
        let grace = std::time::Duration::from_secs(self.grace_secs?);
        Some(since.checked_add(grace).unwrap_or(Timestamp::MAX))
    }
}

impl Window {
    fn opens(self) -> Time {
        Time::midnight().saturating_add(i32::from(self.from_hour).hours())
    }

    fn holds(self, time: Time) -> bool {
        (self.from_hour..self.to_hour).contains(&time.hour().unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn step(on: &[Slot]) -> LadderStep {
        LadderStep { on: on.to_vec(), ..LadderStep::default() }
    }

    /// The four days on which salaries come.
    const PAYDAYS: [Slot; 4] =
        [Slot::DayOfMonth(1), Slot::DayOfMonth(15), Slot::LastBusinessDay, Slot::Weekday(5)];

    #[test]
    fn without_days_and_hours_a_step_happens_at_once() {
        let at = utc("2026-11-21T02:34:56Z");
        assert_eq!(Ladder::default().slot(&step(&[]), at, &berlin()), at);
    }

    #[test]
    fn a_step_waits_for_the_window_in_the_customers_zone() {
        let ladder = Ladder { window: Some(Window { from_hour: 9, to_hour: 11 }), ..Ladder::default() };
        let slot = |at| ladder.slot(&step(&[]), utc(at), &berlin());
        assert_eq!(slot("2026-11-21T02:34:56Z"), utc("2026-11-21T08:00:00Z"), "the night: this morning");
        assert_eq!(slot("2026-11-21T09:59:59Z"), utc("2026-11-21T09:59:59Z"), "within");
        assert_eq!(slot("2026-11-21T10:00:00Z"), utc("2026-11-22T08:00:00Z"), "past it: tomorrow");
        assert_eq!(slot("2026-03-28T12:00:00Z"), utc("2026-03-29T07:00:00Z"), "summer time begins");
    }

    #[test]
    fn a_step_waits_for_the_next_payday() {
        let ladder = Ladder::default();
        let slot = |at| ladder.slot(&step(&PAYDAYS), utc(at), &berlin());
        assert_eq!(slot("2026-11-21T12:00:00Z"), utc("2026-11-27T12:00:00Z"), "Saturday: Friday");
        assert_eq!(slot("2026-11-28T12:00:00Z"), utc("2026-11-30T12:00:00Z"), "the last business day");
        assert_eq!(slot("2026-11-30T23:30:00Z"), utc("2026-11-30T23:30:00Z"), "the 1st already, in Berlin");
        assert_eq!(slot("2026-12-12T12:00:00Z"), utc("2026-12-15T12:00:00Z"), "the 15th");
        let last = |at| ladder.slot(&step(&[Slot::LastBusinessDay]), utc(at), &berlin());
        assert_eq!(last("2027-01-30T12:00:00Z"), utc("2027-02-26T12:00:00Z"), "28 February 2027 is a Sunday");
        let short = |at| ladder.slot(&step(&[Slot::DayOfMonth(31)]), utc(at), &berlin());
        assert_eq!(short("2027-02-01T12:00:00Z"), utc("2027-02-28T12:00:00Z"), "short months");
    }

    #[test]
    fn a_payday_on_a_day_off_counts_on_the_next_day_at_work() {
        let ladder = Ladder {
            weekdays: vec![1, 2, 3, 4, 5],
            window: Some(Window { from_hour: 9, to_hour: 11 }),
            ..Ladder::default()
        };
        let slot = |at| ladder.slot(&step(&[Slot::DayOfMonth(15)]), utc(at), &berlin());
        // 15 August 2026 is a Saturday.
        assert_eq!(slot("2026-08-03T12:00:00Z"), utc("2026-08-17T07:00:00Z"));
        assert_eq!(
            slot("2026-08-17T07:00:00Z"),
            utc("2026-08-17T07:00:00Z"),
            "asked again, it says the same"
        );
        assert_eq!(slot("2026-08-16T12:00:00Z"), utc("2026-08-17T07:00:00Z"));
        assert_eq!(slot("2026-08-17T12:00:00Z"), utc("2026-09-15T07:00:00Z"), "the hours are over");
        assert_eq!(
            ladder.slot(&step(&[]), utc("2026-08-15T08:00:00Z"), &berlin()),
            utc("2026-08-17T07:00:00Z")
        );
    }

    #[test]
    fn asked_again_a_slot_stays() {
        let ladders = [
            Ladder::default(),
            Ladder { weekdays: vec![2], ..Ladder::default() },
            Ladder { window: Some(Window { from_hour: 23, to_hour: 24 }), ..Ladder::default() },
        ];
        for ladder in &ladders {
            for on in [&[][..], &PAYDAYS, &[Slot::LastBusinessDay], &[Slot::DayOfMonth(31), Slot::Weekday(7)]]
            {
                for hours in 0..2000_i64 {
                    let at = Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap();
                    let found = ladder.slot(&step(on), at, &berlin());
                    assert!(found >= at);
                    assert_eq!(ladder.slot(&step(on), found, &berlin()), found, "{on:?} from {at}");
                }
            }
        }
    }

    #[test]
    fn grace_is_counted_from_the_first_decline() {
        let ladder = Ladder { grace_secs: Some(86_400), ..Ladder::default() };
        assert_eq!(ladder.grace_until(utc("2026-11-21T12:00:00Z")), Some(utc("2026-11-22T12:00:00Z")));
        assert_eq!(Ladder::default().grace_until(utc("2026-11-21T12:00:00Z")), None);
    }
}
