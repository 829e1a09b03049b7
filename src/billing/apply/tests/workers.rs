//! Two workers, one charge, one link, a Stripe that loses answers, and up to three faults: every order there is.
//!
//! What is decided is decided by the real [`apply`] and `inquiry`. Around them stand small models: of the flows (claim,
//! look, write, send, settle; click; read), of the database (a row with a version and a lease), and of Stripe (its
//! objects, its keys, and requests that are still on their way). The explorer takes each possible step from each state.

mod steps;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{Hash as _, Hasher as _};

use super::*;

/// When things happen: between two of them each lease, each wait for a lost answer, or each key runs out.
const INSTANTS: [i64; 6] = [0, 10 * MINUTE, 2 * HOUR, 22 * HOUR, 2 * DAY, 6 * DAY];
const LEASE: i64 = 5 * MINUTE;
/// Stripe keeps a key so long, and forgets it as soon as it may.
const KEY_LIVES: i64 = DAY;
/// A request that is late arrives within an hour; work that was answered with a 500 is finished within two days.
const LATE: i64 = HOUR;
const FORWARD: i64 = 2 * DAY;

/// A mistake of the flows, to show that the explorer would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Whoever writes last wins.
    NoVersion,
    /// A key is sent at any age.
    OldKey,
    /// A sleeper sends what it marked long ago.
    Sleepwalks,
    /// A lost answer counts as a refusal.
    UnknownIsDecline,
    /// A page is opened beside a PaymentIntent that was not canceled.
    LinkBeside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Request {
    Create { generation: u32, number: u32 },
    Confirm { intent: usize, number: u32 },
    Page { generation: u32, expires: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Paid(usize),
    /// By the intent, the how many-th time.
    Declined(usize, u32),
    Dead,
    Page(usize),
    Refused,
    ServerError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Intent {
    Declined(u32),
    Paid,
    Canceled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Page {
    Open(i64),
    Paid,
    Expired,
}

#[derive(Clone, Debug, Default, Hash)]
struct Stripe {
    intents: Vec<(u32, Intent)>,
    pages: Vec<(u32, Page)>,
    keys: BTreeMap<Request, (Answer, i64)>,
    has_refused: bool,
    /// Requests on their way: until when at the latest, and whether their key was answered already.
    late: Vec<(Request, i64, bool)>,
}

/// What a reading of Stripe, or its answer, says of the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Saying {
    Paid,
    Declined(usize, u32),
    Dead,
    Missing,
    Opened(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Hand {
    Nothing,
    Claimed,
    /// Stripe's lists were looked through; what may be adopted.
    Looked(Option<Saying>, Option<usize>),
    /// Committed as sending; the next step is the first byte.
    Ready(Request),
    Heard(Request, Option<Answer>),
    Read(Saying),
}

#[derive(Clone, Debug)]
struct Worker {
    hand: Hand,
    is_click: bool,
    copy: Charge,
}

#[derive(Clone, Debug)]
struct World {
    flaw: Flaw,
    now: i64,
    charge: Charge,
    lease: Option<(usize, i64)>,
    /// The newest decline on record.
    known: Option<(usize, u32)>,
    stripe: Stripe,
    workers: [Worker; 2],
    clicks: u8,
    faults: u8,
}

impl Stripe {
    /// All outcomes that carrying out a request may have. What was answered before is answered the same again.
    fn carry_out(&self, request: Request, now: i64, forced: bool) -> Vec<(Self, Answer)> {
        let remembered = self.keys.get(&request).filter(|(_, first)| now - first < KEY_LIVES);
        if let Some((answer, _)) = remembered.filter(|_| !forced) {
            return vec![(self.clone(), *answer)];
        }
        let mut results = Vec::new();
        for pays in [true, false] {
            let mut after = self.clone();
            let answer = match request {
                Request::Create { generation, .. } => {
                    let status = if pays { Intent::Paid } else { Intent::Declined(1) };
                    after.has_refused |= !pays;
                    after.intents.push((generation, status));
                    let id = after.intents.len() - 1;
                    if pays { Answer::Paid(id) } else { Answer::Declined(id, 1) }
                }
                Request::Confirm { intent, .. } => match &mut after.intents[intent].1 {
                    Intent::Paid => Answer::Paid(intent),
                    Intent::Canceled => Answer::Dead,
                    status @ Intent::Declined(_) if pays => {
                        *status = Intent::Paid;
                        Answer::Paid(intent)
                    }
                    Intent::Declined(times) => {
                        *times += 1;
                        Answer::Declined(intent, *times)
                    }
                },
                // Stripe wants a page to live for half an hour at least.
                Request::Page { expires, .. } if expires < now + 30 * MINUTE => Answer::Refused,
                Request::Page { generation, expires } => {
                    after.pages.push((generation, Page::Open(expires)));
                    Answer::Page(after.pages.len() - 1)
                }
            };
            if !forced && answer != Answer::Refused {
                after.keys.insert(request, (answer, now));
            }
            results.push((after, answer));
        }
        results.dedup_by_key(|(_, answer)| *answer);
        results
    }

    fn is_paid(&self) -> bool {
        self.intents.iter().any(|(_, one)| *one == Intent::Paid)
            || self.pages.iter().any(|(_, one)| *one == Page::Paid)
    }

    /// How often the money was taken, and how many objects may still take it.
    fn takers(&self) -> (usize, usize) {
        let paid = self.intents.iter().filter(|(_, one)| *one == Intent::Paid).count()
            + self.pages.iter().filter(|(_, one)| *one == Page::Paid).count();
        let living = self.intents.iter().filter(|(_, one)| matches!(one, Intent::Declined(_))).count()
            + self.pages.iter().filter(|(_, one)| matches!(one, Page::Open(_))).count();
        (paid, living)
    }

    fn close(&mut self, collector: &Collector) -> Option<Saying> {
        let index = index_of(collector)?;
        match collector.kind {
            CollectorKind::PaymentIntent => {
                let status = &mut self.intents[index].1;
                if *status == Intent::Paid {
                    return Some(Saying::Paid);
                }
                *status = Intent::Canceled;
            }
            CollectorKind::CheckoutSession => {
                let status = &mut self.pages[index].1;
                if *status == Page::Paid {
                    return Some(Saying::Paid);
                }
                *status = Page::Expired;
            }
        }
        Some(Saying::Dead)
    }
}

fn index_of(collector: &Collector) -> Option<usize> {
    collector.stripe_id.as_deref()?.split_once('_')?.1.parse().ok()
}

fn request_of(charge: &Charge) -> Option<Request> {
    let attempt = charge.open_attempt()?;
    let collector = charge.collector.as_ref()?;
    Some(match attempt.operation {
        Operation::Create => Request::Create { generation: collector.generation, number: attempt.number },
        Operation::Confirm => Request::Confirm { intent: index_of(collector)?, number: attempt.number },
    })
}

fn event_of(charge: &Charge, saying: Saying, now: i64) -> Event {
    let waiting = charge.open_attempt().filter(|one| !matches!(one.phase, Phase::Prepared { .. }));
    let number = charge.attempts;
    match (saying, waiting) {
        (Saying::Paid, _) => Event::Paid(receipt(at(now))),
        (Saying::Declined(intent, _), _) => {
            let payment_intent = Some(format!("pi_{intent}"));
            answer(number, Outcome::Declined(Decline { payment_intent, ..decline("insufficient_funds") }))
        }
        (Saying::Dead, Some(_)) => answer(number, Outcome::CollectorDead),
        (Saying::Dead, None) => Event::CollectorDead,
        (Saying::Missing, _) => answer(number, Outcome::Missing),
        (Saying::Opened(page), _) => Event::LinkOpened { session: format!("cs_{page}") },
    }
}

impl World {
    fn new(flaw: Flaw, faults: u8) -> Self {
        let worker = Worker { hand: Hand::Nothing, is_click: false, copy: due() };
        Self {
            flaw,
            now: 0,
            charge: due(),
            lease: None,
            known: None,
            stripe: Stripe::default(),
            workers: [worker.clone(), worker],
            clicks: 1,
            faults,
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let facts = |charge: &Charge, hasher: &mut DefaultHasher| {
            (&charge.state, &charge.collector, charge.dunning, charge.generation, charge.attempts)
                .hash(hasher);
        };
        facts(&self.charge, &mut hasher);
        (self.now, self.lease, self.known, self.clicks, self.faults).hash(&mut hasher);
        self.stripe.hash(&mut hasher);
        for worker in &self.workers {
            (worker.hand, worker.is_click, worker.copy.version == self.charge.version).hash(&mut hasher);
            if worker.hand != Hand::Nothing {
                facts(&worker.copy, &mut hasher);
            }
        }
        hasher.finish()
    }

    fn free(&self) -> bool {
        self.lease.is_none_or(|(_, until)| until <= self.now)
    }

    fn claim(&mut self, who: usize, is_click: bool) {
        self.charge.version += 1;
        self.lease = Some((who, self.now + LEASE));
        self.workers[who] = Worker { hand: Hand::Claimed, is_click, copy: self.charge.clone() };
    }

    fn let_go(&mut self, who: usize) {
        if self.workers[who].copy.version == self.charge.version {
            self.lease = None;
        }
        self.workers[who].hand = Hand::Nothing;
    }

    /// Applies and commits, guarded by the version. `keeps`: what comes next, under the same lease.
    fn commit(&mut self, who: usize, events: &[Event], keeps: Option<Hand>) {
        let mut charge = self.workers[who].copy.clone();
        let current = charge.version == self.charge.version || self.flaw == Flaw::NoVersion;
        let (dunning, history) = (ladder(), [tried(at(self.now))]);
        let last = self.known.map(|_| decline("insufficient_funds"));
        let policy = Policy { rules: Rules::of(&dunning), history: &history, last_decline: last.as_ref() };
        for event in events {
            let Ok(step) = apply(&charge, event, &policy, at(self.now)) else { return self.let_go(who) };
            charge = step.charge;
        }
        if !current {
            return self.let_go(who);
        }
        (self.charge, self.workers[who].copy) = (charge.clone(), charge);
        match keeps {
            Some(hand) => {
                self.lease = Some((who, self.now + LEASE));
                self.workers[who].hand = hand;
            }
            None => self.let_go(who),
        }
    }

    fn settle(&mut self, who: usize, saying: Saying) {
        let goes_on = self.workers[who].is_click && saying == Saying::Dead;
        let event = event_of(&self.workers[who].copy, saying, self.now);
        let version = self.charge.version;
        self.commit(who, &[event], goes_on.then_some(Hand::Claimed));
        if let (Saying::Declined(intent, times), true) = (saying, self.charge.version != version) {
            self.known = Some((intent, times));
        }
    }
}

/// Limit: a story that needs more of these is not told.
const ATTEMPTS_MAX: u32 = 3;
const GENERATIONS_MAX: u32 = 3;

/// What must hold in each state.
fn broken(world: &World) -> Option<String> {
    let (paid, living) = world.stripe.takers();
    let state = &world.charge.state;
    if paid > 1 {
        return Some(format!("the money was taken {paid} times"));
    }
    if living > 1 || (living > 0 && paid > 0) {
        return Some(format!("{living} objects may take the money, {paid} did"));
    }
    if state.is_terminal() && living > 0 {
        return Some(format!("the charge is {}, and something may take its money", state.as_str()));
    }
    if matches!(state, State::Paid { .. }) && paid == 0 {
        return Some("it is booked as paid, and nothing was taken".to_owned());
    }
    if world.charge.dunning.is_some() && !world.stripe.has_refused {
        return Some("the customer is dunned, and no bank refused".to_owned());
    }
    None
}

/// Walks through every state, the nearest first. Returns how many there are, or the shortest story of a broken rule.
fn explore(flaw: Flaw, faults: u8) -> Result<usize, String> {
    let first = World::new(flaw, faults);
    let mut seen: HashSet<u64> = HashSet::from([first.hash()]);
    let mut told: Vec<(usize, String)> = vec![(0, String::new())];
    let mut waiting = VecDeque::from([(0, first)]);
    while let Some((at, world)) = waiting.pop_front() {
        for (step, after) in world.next() {
            if after.charge.attempts > ATTEMPTS_MAX
                || after.charge.generation > GENERATIONS_MAX
                || !seen.insert(after.hash())
            {
                continue;
            }
            told.push((at, step));
            if let Some(rule) = broken(&after) {
                return Err(format!("{}{rule}", story(&told, told.len() - 1)));
            }
            waiting.push_back((told.len() - 1, after));
        }
    }
    Ok(seen.len())
}

fn story(told: &[(usize, String)], mut at: usize) -> String {
    let mut lines = Vec::new();
    while at > 0 {
        lines.push(told[at].1.as_str());
        at = told[at].0;
    }
    lines.iter().rev().map(|line| format!("{line}\n")).collect()
}

#[test]
fn two_workers_a_link_and_three_faults_collect_once_in_every_order() {
    let states = explore(Flaw::None, 3).unwrap_or_else(|story| panic!("{story}"));
    println!("{states} states of two workers, one charge, one link and at most three faults");
    assert!(states > 50_000, "the world has shrunk to {states} states: are steps missing?");
}

#[test]
fn each_mistake_of_the_flows_is_found_in_some_order() {
    for flaw in [Flaw::NoVersion, Flaw::OldKey, Flaw::Sleepwalks, Flaw::UnknownIsDecline, Flaw::LinkBeside] {
        let found = explore(flaw, 3);
        println!("{flaw:?}: {found:?}");
        assert!(found.is_err(), "{flaw:?} was not noticed");
    }
}
