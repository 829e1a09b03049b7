//! What came of declines, in figures: how many charges were recovered and how, and when retries succeed. They describe
//! this operator's own past and claim nothing else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Result;
use crate::billing::calendar::zone;
use crate::billing::share::Share;
use crate::store::{CaseRow, Store, TryRow};

/// Limit: rows held at once.
const PAGE: i64 = 2_000;
/// Limit: days that the picture of recovery shows; what comes later counts in the last.
const DAYS: usize = 31;

/// Charges that were declined, and what became of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recovery {
    /// First declines since this instant, Unix seconds.
    pub since: i64,
    /// Charges that were declined at least once.
    pub cases: u64,
    /// Not decided yet; they are in none of the shares.
    pub open: u64,
    /// Sums by currency.
    pub sums: BTreeMap<String, Sums>,
    /// All that are decided.
    pub all: Decided,
    /// By class of the first decline.
    pub by_class: BTreeMap<String, Decided>,
    /// By brand of the customer's present card.
    pub by_brand: BTreeMap<String, Decided>,
    /// By ladder step: of the decided cases that reached it, those recovered while they stood there.
    pub by_step: Vec<Share>,
    /// How many were recovered on each day after the first decline; the last one holds all later ones.
    pub days: Vec<Day>,
}

/// Money, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Of all cases.
    pub declined_minor: i64,
    /// Of those that were paid in the end.
    pub recovered_minor: i64,
}

/// Cases that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Decided {
    /// Paid by a retry.
    pub by_machine: u64,
    /// Paid by the customer on a page.
    pub by_link: u64,
    /// Paid by other means, says the operator.
    pub outside: u64,
    /// Given up or canceled.
    pub unpaid: u64,
    /// Paid by a retry or on a page, of all.
    pub recovered: Share,
}

/// Recoveries of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Day {
    /// By a retry.
    pub by_machine: u64,
    /// On a page.
    pub by_link: u64,
}

impl Decided {
    fn count(&mut self, row: &CaseRow) {
        match row.state.as_str() {
            "paid" if row.by_machine => self.by_machine += 1,
            "paid" => self.by_link += 1,
            "settled" => self.outside += 1,
            _ => self.unpaid += 1,
        }
        let recovered = self.by_machine + self.by_link;
        self.recovered = Share::new(recovered, recovered + self.outside + self.unpaid);
    }
}

impl Recovery {
    fn count(&mut self, row: &CaseRow) {
        self.cases += 1;
        let sums = self.sums.entry(row.currency.clone()).or_default();
        sums.declined_minor += row.amount_minor;
        let Some(settled_at) = row.settled_at else {
            self.open += 1;
            return;
        };
        let paid = row.state == "paid";
        self.all.count(row);
        let key = |word: &Option<String>| word.clone().unwrap_or_else(|| "unknown".to_owned());
        self.by_class.entry(key(&row.class)).or_default().count(row);
        self.by_brand.entry(key(&row.brand)).or_default().count(row);
        let step = usize::try_from(row.dunning_step).unwrap_or(0);
        self.by_step.resize(self.by_step.len().max(step + 1), Share::default());
        for (number, share) in self.by_step.iter_mut().enumerate().take(step + 1) {
            *share = Share::new(share.count + u64::from(paid && number == step), share.of + 1);
        }
        if paid {
            sums.recovered_minor += row.amount_minor;
            let day = usize::try_from((settled_at - row.dunning_since) / 86_400).unwrap_or(0).min(DAYS - 1);
            self.days.resize(self.days.len().max(day + 1), Day::default());
            *(if row.by_machine { &mut self.days[day].by_machine } else { &mut self.days[day].by_link }) += 1;
        }
    }

    /// The day by which half of the recoveries had come; none without recoveries.
    #[must_use]
    pub fn median_day(&self) -> Option<usize> {
        let all = self.all.by_machine + self.all.by_link;
        let mut seen = 0;
        self.days.iter().position(|day| {
            seen += day.by_machine + day.by_link;
            2 * seen >= all && seen > 0
        })
    }
}

/// What became of the charges whose first decline came since an instant. `progress` hears how many were read.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn recovery(store: &Store, since: Timestamp, progress: impl Fn(u64)) -> Result<Recovery> {
    let mut figures = Recovery { since: since.as_second(), ..Recovery::default() };
    let mut after = String::new();
    loop {
        let page = store.cases(since, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(figures) };
        after.clone_from(&last.id);
        page.iter().for_each(|row| figures.count(row));
        progress(figures.cases);
    }
}

/// When tries by machine succeed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timing {
    /// Of charges due since this instant, Unix seconds.
    pub since: i64,
    /// Answered tries, first ones included.
    pub tries: u64,
    /// Paid, by number of the attempt within its charge.
    pub by_attempt: BTreeMap<String, Share>,
    /// Paid retries, by class of the decline before.
    pub by_class: BTreeMap<String, Share>,
    /// Paid retries, by brand.
    pub by_brand: BTreeMap<String, Share>,
    /// Paid retries, by weekday where the customer lives.
    pub by_weekday: BTreeMap<String, Share>,
    /// Paid retries, by hour where the customer lives.
    pub by_hour: BTreeMap<String, Share>,
}

impl Timing {
    /// `before`: class of the decline before it, for a retry.
    fn count(&mut self, row: &TryRow, before: Option<&str>) {
        self.tries += 1;
        let paid = row.state == "paid";
        let add = |groups: &mut BTreeMap<String, Share>, key: String| {
            let share = groups.entry(key).or_default();
            *share = Share::new(share.count + u64::from(paid), share.of + 1);
        };
        add(&mut self.by_attempt, format!("{:02}", row.number));
        let Some(before) = before else { return };
        add(&mut self.by_class, before.to_owned());
        add(&mut self.by_brand, row.brand.clone().unwrap_or_else(|| "unknown".to_owned()));
        let zone = zone(&row.time_zone).unwrap_or(TimeZone::UTC);
        let at = Timestamp::from_second(row.first_sent_at).unwrap_or_default().to_zoned(zone);
        add(&mut self.by_weekday, at.strftime("%u %A").to_string());
        add(&mut self.by_hour, at.strftime("%H").to_string());
    }
}

/// When tries by machine succeeded, of charges due since an instant. `progress` hears how many were read.
///
/// # Errors
/// [`super::FlowError::Store`].
pub async fn timing(store: &Store, since: Timestamp, progress: impl Fn(u64)) -> Result<Timing> {
    let mut figures = Timing { since: since.as_second(), ..Timing::default() };
    let mut after = (String::new(), 0);
    // The decline before, and whose it was.
    let mut before: Option<(String, String)> = None;
    loop {
        let page = store.tries(since, (&after.0, after.1), PAGE).await?;
        let Some(last) = page.last() else { return Ok(figures) };
        after = (last.charge_id.clone(), last.number);
        for row in &page {
            let class = before.as_ref().filter(|(charge, _)| *charge == row.charge_id);
            figures.count(row, class.map(|(_, class)| class.as_str()));
            before = row.class.clone().map(|class| (row.charge_id.clone(), class));
        }
        progress(figures.tries);
    }
}
