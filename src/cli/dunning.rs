//! The ladders, and what they did.

use super::show;
use crate::billing::ladder::{Finally, Ladder, LadderStep, Slot};
use crate::config::Dunning;

/// All ladders with their headings.
pub(super) fn ladders(dunning: &Dunning) -> Vec<(String, comfy_table::Table)> {
    let all = std::iter::once((String::new(), &dunning.all));
    let plans = dunning.plans.iter().map(|(plan, ladders)| (format!(", plan {plan}"), ladders));
    let mut found = Vec::new();
    for (whose, ladders) in all.chain(plans) {
        found.push((format!("after a decline{whose}"), table(&ladders.ladder)));
        for (class, ladder) in &ladders.classes {
            found.push((format!("after a decline of the class {}{whose}", class.as_str()), table(ladder)));
        }
    }
    found
}

fn table(ladder: &Ladder) -> comfy_table::Table {
    let mut secs = 0;
    let mut rows: Vec<[String; 2]> = Vec::new();
    for step in &ladder.steps {
        secs += step.after_secs;
        rows.push([at(secs, !step.on.is_empty()), what(step)]);
    }
    let late = ladder.steps.iter().any(|step| !step.on.is_empty());
    let finally = match ladder.finally {
        Finally::Cancel => "the end: the subscription is canceled",
        Finally::Pause => "the end: the subscription pauses",
        Finally::Uncollectible => "the end: this charge is given up, the subscription goes on",
    };
    rows.push([at(secs + ladder.finally_after_secs, late), finally.to_owned()]);
    let when = [
        ladder.window.map(|window| format!("{:02} to {:02} h", window.from_hour, window.to_hour)),
        (!ladder.weekdays.is_empty())
            .then(|| ladder.weekdays.iter().map(|day| weekday(*day)).collect::<Vec<_>>().join(", ")),
    ];
    let when: Vec<String> = when.into_iter().flatten().collect();
    if !when.is_empty() {
        rows.push(["steps only".to_owned(), format!("{}, local time of the customer", when.join(", "))]);
    }
    if let Some(grace) = ladder.grace_secs {
        rows.push([at(grace, false), "the service ends, the ladder goes on".to_owned()]);
    }
    show::table(["when", "what happens"], rows)
}

fn at(secs: u64, or_later: bool) -> String {
    #[expect(clippy::cast_precision_loss, reason = "days for a table, not money")]
    let days = secs as f64 / 86_400.0;
    format!("day {days}{}", if or_later { " or later" } else { "" })
}

fn what(step: &LadderStep) -> String {
    let what = match (step.retry, step.mail) {
        (true, Some(mail)) => format!("try the card; if declined, mail {}", mail.as_str()),
        (true, None) => "try the card".to_owned(),
        (false, Some(mail)) => format!("mail {}", mail.as_str()),
        (false, None) => "nothing".to_owned(),
    };
    if step.on.is_empty() {
        return what;
    }
    let days: Vec<String> = step.on.iter().map(|slot| day(*slot)).collect();
    format!("{what}, on {}", days.join(", "))
}

fn day(slot: Slot) -> String {
    match slot {
        Slot::DayOfMonth(day) => format!("day {day}"),
        Slot::LastBusinessDay => "the last business day".to_owned(),
        Slot::Weekday(day) => weekday(day).to_owned(),
    }
}

fn weekday(day: i8) -> &'static str {
    match day {
        1 => "Monday",
        2 => "Tuesday",
        3 => "Wednesday",
        4 => "Thursday",
        5 => "Friday",
        6 => "Saturday",
        _ => "Sunday",
    }
}
