//! What must hold, whatever the order.

use std::collections::BTreeMap;

use recurd::billing::charge::State;
use recurd::demo::audit;
use recurd::sandbox::Books;

use crate::Case;
use crate::acts::{Done, First};
use crate::stage::{Situation, Stage};

/// Where a mail has been looked at for the last time, and leaves.
const LEAVING: &str = "P10..P11";

/// Looks at one case.
pub struct Judge {
    found: Vec<String>,
    /// When the second act was done: tries that reached a bank, attempts, and those without an answer; asking mails.
    tries: usize,
    attempts: usize,
    open: usize,
    asking: usize,
    stopped: bool,
    /// Our own books said paid before the first went on, and no mail was on its way.
    known_paid: bool,
}

impl Judge {
    pub fn new(_: &Stage) -> Self {
        Self {
            found: Vec::new(),
            tries: 0,
            attempts: 0,
            open: 0,
            asking: 0,
            stopped: false,
            known_paid: false,
        }
    }

    /// The second act is done: from here on, what it forbids must not happen.
    pub async fn second_is_done(&mut self, stage: &Stage, done: &Done, place: &str) {
        self.look(stage);
        let books = stage.world.sandbox.books();
        self.tries = machine_tries(&books, stage);
        let attempts = stage.world.ctx.store.attempts(stage.charge).await.unwrap();
        self.attempts = attempts.len();
        self.open = attempts.iter().filter(|one| one.finished_at.is_none()).count();
        self.asking = asking(stage);
        self.stopped = done.stops;
        let found = stage.world.ctx.store.find_charge(stage.charge).await;
        let paid = matches!(found, Ok(Some(one)) if matches!(one.charge.state, State::Paid { .. }));
        self.known_paid = paid && place != LEAVING;
    }

    /// At any time: at most one thing at Stripe may take the money.
    pub fn look(&mut self, stage: &Stage) {
        let alive = alive(&stage.world.sandbox.books(), stage);
        if alive.len() > 1 && self.found.is_empty() {
            self.found.push(format!("two living collectors: {alive:?}"));
        }
    }

    /// When everything rests.
    pub async fn verdict(mut self, stage: &Stage, case: &Case) -> Vec<String> {
        let books = stage.world.sandbox.books();
        let found = &mut self.found;
        let held = |finding: &String| self.stopped && finding.contains("has been due since");
        match audit(&stage.world).await {
            Ok(audit) => found.extend(audit.findings.into_iter().filter(|one| !held(one))),
            Err(error) => found.push(error.to_string()),
        }
        found.extend(stage.errors.lock().unwrap().first().cloned());
        let Ok(Some(claimed)) = stage.world.ctx.store.find_charge(stage.charge).await else {
            self.found.push("the charge cannot be read".into());
            return self.found;
        };
        let state = &claimed.charge.state;
        let rests =
            matches!(state, State::Collecting { .. } | State::Processing { .. } | State::Closing { .. });
        if rests || matches!(state, State::LinkOpen { .. } | State::Due { .. } if !self.stopped) {
            found.push(format!("the charge is still {}", state.as_str()));
        }
        let has_ended = matches!(state, State::Canceled { .. } | State::Settled { .. } | State::Paid { .. });
        if has_ended && !alive(&books, stage).is_empty() {
            found.push(format!("{} with a living collector", state.as_str()));
        }
        if self.stopped {
            let attempts = stage.world.ctx.store.attempts(stage.charge).await.unwrap().len();
            let tries = machine_tries(&books, stage);
            if attempts > self.attempts {
                found.push(format!("{} attempts after it was stopped", attempts - self.attempts));
            }
            if tries > self.tries + self.open {
                found.push(format!("{} tries after it was stopped", tries - self.tries));
            }
        }
        if self.known_paid && asking(stage) > self.asking {
            found.push("a mail asks for money that was paid".into());
        }
        for (id, times) in arrivals(stage) {
            // Who dies, or sleeps for long, between the mail server's yes and its own note sends it once more.
            if times > 2 {
                found.push(format!("mail {id} arrived {times} times"));
            }
        }
        if case.situation == Situation::Declined && case.first != First::Notify && self.tries == 0 {
            found.push("nothing was declined: the scene is not what it says".into());
        }
        self.found
    }
}

/// What may take the money of Ann's charge now.
fn alive(books: &Books, stage: &Stage) -> Vec<String> {
    let id = stage.charge.to_string();
    let intents = books
        .payment_intents
        .iter()
        .filter(|one| one.metadata.get("recurd_charge") == Some(&id))
        // What a page's customer has not paid yet counts with the page.
        .filter(|one| {
            one.status == "processing" || one.session.is_none() && one.status.starts_with("requires")
        })
        .map(|one| one.id.clone());
    let pages = books
        .sessions
        .iter()
        .filter(|one| one.metadata.get("recurd_charge") == Some(&id) && one.status == "open")
        .map(|one| one.id.clone());
    intents.chain(pages).collect()
}

/// How often a machine has tried a card for Ann's charge.
fn machine_tries(books: &Books, stage: &Stage) -> usize {
    let id = stage.charge.to_string();
    let of_charge = |one: &&recurd::sandbox::ChargeRow| one.metadata.get("recurd_charge") == Some(&id);
    books.charges.iter().filter(of_charge).filter(|one| !one.on_session).count()
}

/// How many mails asked Ann for money.
fn asking(stage: &Stage) -> usize {
    const ASK: [&str; 4] = ["didn't go through", "is still open", "Last reminder", "Please confirm"];
    let mails = stage.mails.mails();
    mails.iter().filter(|mail| ASK.iter().any(|words| mail.subject.as_str().contains(words))).count()
}

fn arrivals(stage: &Stage) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for mail in stage.mails.mails() {
        *times.entry(mail.message_id.as_str().to_owned()).or_default() += 1;
    }
    times
}
