//! The operator's own past, gone again on another ladder: counts and intervals of what would have differed.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Result;
use crate::billing::calendar::zone;
use crate::billing::decline::Class;
use crate::billing::dunning::Rules;
use crate::billing::share::Share;
use crate::billing::what_if::{Past, Replay, replay};
use crate::config::Dunning;
use crate::store::{AttemptRow, CaseRow, Store};

/// Limit: rows held at once.
const PAGE: i64 = 500;
const DAY_SECS: i64 = 86_400;

/// What would have differed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WhatIf {
    /// First declines since this instant, Unix seconds.
    pub since: i64,
    /// Charges that were declined at least once, by what became of them.
    pub cases: u64,
    /// Paid by a retry: the other ladder tries within a day after that moment, ...
    pub tries_within_a_day: Share,
    /// ... later than that, ...
    pub tries_later: Share,
    /// ... or has given up before.
    pub gives_up_before: Share,
    /// For those tried later: days after the real payment, the middle one.
    pub median_delay_days: Option<i64>,
    /// Paid on a page: the other ladder has given up before.
    pub ends_before_the_link: Share,
    /// Retries that were declined, in reality.
    pub retries_real: u64,
    /// Retries that the other ladder makes before the end of the real case.
    pub retries_other: u64,
    /// Given up in reality.
    pub given_up: u64,
    /// Cases without a decline on record (no card to try); they are in no figure.
    pub not_replayed: u64,
    #[serde(skip)]
    delays: Vec<i64>,
}

impl WhatIf {
    fn count(&mut self, row: &CaseRow, past: &Past, other: Replay) {
        self.retries_real += past.declines.len().saturating_sub(1) as u64;
        self.retries_other += u64::from(other.retries);
        let add =
            |share: &mut Share, yes: bool| *share = Share::new(share.count + u64::from(yes), share.of + 1);
        match (row.state.as_str(), past.paid_by_machine) {
            ("paid", true) => {
                let delay = other.from_then_on.map(|at| at.as_second() - past.until.as_second());
                add(&mut self.tries_within_a_day, delay.is_some_and(|secs| secs <= DAY_SECS));
                add(&mut self.tries_later, delay.is_some_and(|secs| secs > DAY_SECS));
                add(&mut self.gives_up_before, delay.is_none());
                self.delays.extend(delay.filter(|secs| *secs > DAY_SECS).map(|secs| secs / DAY_SECS));
            }
            ("paid", false) => add(&mut self.ends_before_the_link, other.gives_up.is_some()),
            ("uncollectible", _) => self.given_up += 1,
            _ => {}
        }
    }
}

/// Goes the cases since an instant on the ladders of `other`. `progress` hears how many.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn simulate(
    store: &Store,
    other: &Dunning,
    since: Timestamp,
    now: Timestamp,
    progress: impl Fn(u64),
) -> Result<WhatIf> {
    let mut found = WhatIf { since: since.as_second(), ..WhatIf::default() };
    let mut after = String::new();
    loop {
        let page = store.cases(since, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.id);
        for row in &page {
            found.cases += 1;
            let Some(past) = past(store, row, now).await? else {
                found.not_replayed += 1;
                continue;
            };
            let class = past.declines.first().map_or(Class::Generic, |(_, decline)| decline.class());
            let zone = zone(&row.time_zone).unwrap_or(TimeZone::UTC);
            let ladder = other.of(&row.plan, class);
            let rules = Rules { retry: other.retry, zone: &zone, ..Rules::of(ladder) };
            let gave_up = row.state == "uncollectible";
            found.count(row, &past, replay(&past, gave_up, &rules));
        }
        progress(found.cases);
    }
    found.delays.sort_unstable();
    found.median_delay_days = found.delays.get(found.delays.len() / 2).copied();
    Ok(found)
}

async fn past(store: &Store, row: &CaseRow, now: Timestamp) -> Result<Option<Past>> {
    let Ok(charge) = row.id.parse() else { return Ok(None) };
    let attempts = store.attempts(charge).await?;
    let declined = |one: &AttemptRow| Some((Timestamp::from_second(one.finished_at?).ok()?, one.decline()?));
    let declines: Vec<_> = attempts.iter().filter_map(declined).collect();
    let until = row.settled_at.and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(now);
    let past = Past { declines, until, paid_by_machine: row.by_machine };
    Ok(Some(past).filter(|past| !past.declines.is_empty()))
}
