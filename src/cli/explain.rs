//! `recurd explain`: the story of a charge.

use std::collections::BTreeMap;

use anyhow::Result;

use super::charges::Row;
use super::{Exit, Global, find, notice, setup, show};
use crate::billing::charge::{Charge, Work};
use crate::billing::decline::Class;
use crate::billing::money::Money;
use crate::clock::Clock;
use crate::flows::in_doubt;
use crate::store::{AttemptRow, Promise, Story};

/// Why a charge waits that was due before a recovery.
const IN_DOUBT: &str = ": until then Stripe may still make a payment that the lost database asked for";

/// The story of a charge, in order.
pub(super) async fn explain(global: &Global, typed: &str) -> Result<Exit> {
    let store = setup::store(&setup::config(global)?).await?;
    let found = find::charge(&store, typed).await?;
    let story = store.story(found.charge.id).await?;
    let row = Row::new(&found, notice::next(&store, &found).await?);
    if global.json {
        show::json(&serde_json::json!({ "charge": row, "story": story }));
        return Ok(Exit::Done);
    }
    let charge = &found.charge;
    let now = Clock::system().now();
    let in_doubt = in_doubt::over(store.instance(now).await?.recovered_at, now);
    let waits = in_doubt.is_some_and(|until| charge.wake() == Some((Work::Collect, until)));
    say!("Charge {} is {}.", charge.id, charge.state.as_str());
    say!("{} for {}, due {}.", charge.amount, charge.description, show::instant(charge.due_at.as_second()));
    if let Ok(back) = Money::from_minor(found.refunded_minor, charge.amount.currency())
        && !back.is_zero()
    {
        say!("{back} of it was given back.");
    }
    say!("");
    let mut lines = lines(&story);
    if let Some((at, why)) = untried(charge, &story) {
        lines.entry(at).or_default().insert(0, format!("no card was tried: {why}"));
    }
    for (secs, sentences) in lines {
        for sentence in sentences {
            say!("{}  {sentence}", show::instant(secs));
        }
    }
    say!("\nNext: {}{}.", row.next, if waits { IN_DOUBT } else { "" });
    Ok(Exit::Done)
}

/// Why a charge is past due that no bank was asked about, and since when.
fn untried(charge: &Charge, story: &Story) -> Option<(i64, &'static str)> {
    let case = charge.dunning.filter(|_| story.attempts.iter().all(|one| one.decline().is_none()))?;
    let why = match case.class {
        Class::Never => "a bank had refused the saved one for ever, for another charge",
        Class::FixData => "none was saved",
        _ => return None,
    };
    Some((case.since.as_second(), why))
}

type Lines = BTreeMap<i64, Vec<String>>;

fn say(lines: &mut Lines, at: i64, sentence: String) {
    lines.entry(at).or_default().push(sentence);
}

fn lines(story: &Story) -> Lines {
    let mut lines = Lines::new();
    for collector in &story.collectors {
        let what = collector.kind.replace('_', " ");
        let id = collector.stripe_id.as_deref().unwrap_or("(no id yet)");
        let born = format!("{what} {id} may take the money (collector {})", collector.generation);
        say(&mut lines, collector.opened_at, born);
    }
    for attempt in &story.attempts {
        attempt_lines(attempt, &mut lines);
    }
    for collector in &story.collectors {
        if let (Some(at), Some(id)) = (collector.closed_at, &collector.stripe_id) {
            say(&mut lines, at, format!("{} {id} is {}", collector.kind.replace('_', " "), collector.state));
        }
    }
    for promise in &story.promises {
        promise_lines(promise, &mut lines);
    }
    for event in &story.events {
        let came = format!("Stripe's event {} ({}) came: {}", event.id, event.kind, event.state);
        say(&mut lines, event.received_at, came);
    }
    for entry in &story.audit {
        let detail = if entry.detail.is_empty() { String::new() } else { format!(": {}", entry.detail) };
        say(&mut lines, entry.at, format!("{}: {}{detail}", entry.who, entry.what));
    }
    lines
}

fn attempt_lines(attempt: &AttemptRow, lines: &mut Lines) {
    let number = attempt.number;
    let key = &attempt.idempotency_key;
    say(
        lines,
        attempt.created_at,
        format!("attempt {number} was written down: {}, key {key}", attempt.operation),
    );
    if let Some(at) = attempt.first_sent_at {
        let again = if attempt.sends > 1 {
            format!(" ({} times in all, same key)", attempt.sends)
        } else {
            String::new()
        };
        say(lines, at, format!("attempt {number} was sent{again}"));
    }
    let reason =
        attempt.decline().map(|decline| format!(": {} ({})", decline.reason(), decline.class().as_str()));
    let request = attempt.request_id.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
    match (attempt.finished_at, &attempt.error) {
        (Some(at), _) => {
            say(
                lines,
                at,
                format!("attempt {number} {}{}{request}", attempt.state, reason.unwrap_or_default()),
            );
        }
        (None, Some(error)) => {
            say(lines, attempt.created_at, format!("attempt {number} has no answer: {error}"))
        }
        (None, None) => {}
    }
}

fn promise_lines(promise: &Promise, lines: &mut Lines) {
    let kind = promise.kind.replace('_', " ");
    let what = match &promise.template {
        Some(template) => format!("{kind} {template}"),
        None => kind,
    };
    say(lines, promise.created_at, format!("{what} was promised"));
    if let Some(at) = promise.done_at {
        let why = promise.error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let word = if promise.state == "done" { "left" } else { promise.state.as_str() };
        say(lines, at, format!("{what} {word}{why}"));
    }
}
