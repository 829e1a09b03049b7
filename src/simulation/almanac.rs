//! When a period falls due, reckoned in another way than the product does: by numbers of days and months alone.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Violation;
use super::invariants::broken;
use super::rows::SubscriptionRow;

/// INV8: the local date of a period is its anchor's, so many months or days later; short months end early.
pub(super) fn check(subscription: &SubscriptionRow, period: i64, due_at: i64) -> Result<(), Violation> {
    let (Ok(anchor), Ok(zone)) = (subscription.anchor.parse::<Date>(), TimeZone::get(&subscription.zone))
    else {
        return broken("INV8", format!("subscription {} has no timetable", subscription.id));
    };
    let due = Timestamp::from_second(due_at).unwrap_or_default().to_zoned(zone).date();
    let right = match subscription.plan.as_str() {
        "tokyo" | "told" => days(due) - days(anchor) == 14 * period,
        "weekly" => days(due) - days(anchor) == 7 * period,
        "ask" => days(due) - days(anchor) == 10 * period,
        _ => {
            let months = |date: Date| 12 * i64::from(date.year()) + i64::from(date.month());
            let day = anchor.day().min(month_length(due.year(), due.month()));
            months(due) - months(anchor) == period && due.day() == day
        }
    };
    if right {
        return Ok(());
    }
    broken(
        "INV8",
        format!("period {period} of subscription {} ({anchor}) falls due on {due}", subscription.id),
    )
}

fn month_length(year: i16, month: i8) -> i8 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since some day, by adding up months.
fn days(date: Date) -> i64 {
    let years: i64 = (2000..date.year()).map(|year| 365 + i64::from(month_length(year, 2) - 28)).sum();
    let months: i64 = (1..date.month()).map(|month| i64::from(month_length(date.year(), month))).sum();
    years + months + i64::from(date.day())
}
