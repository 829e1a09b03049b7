//! What becomes of each kind of decline, against the table `data/demo_ends.csv`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::world::World;
use crate::billing::charge::{Charge, State};
use crate::billing::decline::Class;
use crate::billing::ids::CustomerId;
use crate::store::{AttemptRow, Claimed};

const TABLE: &str = include_str!("../../data/demo_ends.csv");

/// What became of a customer's first declined charge.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// Who.
    pub name: String,
    /// Class of its first decline; empty: nothing was declined.
    pub class: String,
    /// `collected`, `by retry`, `by link`, `given up` or `open`.
    pub end: &'static str,
}

/// What became of a charge.
#[derive(Clone, Copy)]
pub(super) enum End {
    Collected,
    ByRetry,
    ByLink,
    GivenUp,
    Open,
}

impl End {
    pub(super) fn of(charge: &Charge, by_link: bool) -> Self {
        match charge.state {
            State::Paid { .. } if by_link => Self::ByLink,
            State::Paid { .. } if charge.dunning.is_some() => Self::ByRetry,
            State::Paid { .. } | State::Settled { .. } => Self::Collected,
            State::Uncollectible { .. } | State::Canceled { .. } | State::Missed => Self::GivenUp,
            State::Due { .. }
            | State::Collecting { .. }
            | State::PastDue { .. }
            | State::LinkOpen { .. }
            | State::Processing { .. }
            | State::Closing { .. }
            | State::NeedsReview { .. } => Self::Open,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Collected => "collected",
            Self::ByRetry => "by retry",
            Self::ByLink => "by link",
            Self::GivenUp => "given up",
            Self::Open => "open",
        }
    }
}

/// Reads the ends from our own books, and what of them is not as the table says.
pub(super) async fn ends(
    world: &World,
    charges: &[Claimed],
    by_link: &BTreeSet<String>,
) -> Result<(Vec<Ended>, Vec<String>)> {
    let mut firsts: BTreeMap<CustomerId, Option<&Claimed>> = BTreeMap::new();
    for one in charges {
        let first = firsts.entry(one.charge.customer).or_default();
        let earlier = first.is_none_or(|first| one.charge.due_at < first.charge.due_at);
        if one.charge.dunning.is_some() && earlier {
            *first = Some(one);
        }
    }
    let store = &world.ctx.store;
    let mut ends = Vec::new();
    for (customer, first) in firsts {
        let name = store.find_customer(customer).await?.context("a charge of nobody")?.name;
        let Some(first) = first else {
            ends.push(Ended { name, class: String::new(), end: End::Collected.as_str() });
            continue;
        };
        let attempts = store.attempts(first.charge.id).await?;
        // A payment that failed after days was declined without an attempt being open: the case says as what.
        let declined = attempts.iter().find_map(AttemptRow::decline).map(|decline| decline.class());
        let class = declined.or(first.charge.dunning.map(|case| case.class)).map(Class::as_str);
        let end = End::of(&first.charge, by_link.contains(&first.charge.id.to_string()));
        ends.push(Ended { name, class: class.unwrap_or_default().to_owned(), end: end.as_str() });
    }
    ends.sort_by(|one, other| one.name.cmp(&other.name));
    let findings = compare(&ends)?;
    Ok((ends, findings))
}

fn compare(ends: &[Ended]) -> Result<Vec<String>> {
    let mut table = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(TABLE.as_bytes());
    let mut expected: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in table.deserialize() {
        let (name, class, end, _why): (String, String, String, String) = row?;
        expected.insert(name, (class, end));
    }
    let mut findings = Vec::new();
    for one in ends {
        let found = (one.class.clone(), one.end.to_owned());
        match expected.remove(&one.name) {
            Some(wanted) if wanted == found => {}
            wanted => findings.push(format!("{} ended as {found:?}, the table says {wanted:?}", one.name)),
        }
    }
    findings.extend(expected.keys().map(|name| format!("{name} is in the table and was never charged")));
    Ok(findings)
}
