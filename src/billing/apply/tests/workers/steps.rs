//! Each step that is possible now, and the world after it.

use super::*;
use crate::billing::dunning::Action;
use crate::billing::unknown::{Inquiry, inquiry};

type Steps = Vec<(String, World)>;

impl World {
    pub(super) fn next(&self) -> Steps {
        let mut steps = Steps::new();
        self.time_passes(&mut steps);
        self.the_rest_of_the_world(&mut steps);
        for who in 0..self.workers.len() {
            let worker = &self.workers[who];
            if worker.hand == Hand::Nothing {
                self.begins(who, &mut steps);
                continue;
            }
            self.with(&mut steps, format!("worker {who} dies at {:?}", worker.hand), 1, |world| {
                world.workers[who].hand = Hand::Nothing;
            });
            match worker.hand {
                Hand::Ready(request) => self.sends(who, request, &mut steps),
                hand => self.with(&mut steps, format!("worker {who} goes on from {hand:?}"), 0, |world| {
                    world.goes_on(who, hand);
                }),
            }
        }
        steps
    }

    /// A step that costs so many faults, if so many are left.
    fn with(&self, steps: &mut Steps, name: String, faults: u8, change: impl FnOnce(&mut Self)) {
        if faults > self.faults {
            return;
        }
        let mut world = self.clone();
        world.faults -= faults;
        change(&mut world);
        let state = world.charge.state.as_str();
        steps.push((format!("{:>3} h  {name} -> {state}", self.now / HOUR), world));
    }

    /// Whoever is in the middle of something sleeps meanwhile, which is a fault.
    fn time_passes(&self, steps: &mut Steps) {
        let Some(now) = INSTANTS.into_iter().find(|instant| *instant > self.now) else { return };
        if self.stripe.late.iter().any(|(_, until, _)| *until < now) {
            return;
        }
        let asleep = self.workers.iter().any(|worker| worker.hand != Hand::Nothing);
        self.with(steps, "time passes".to_owned(), u8::from(asleep), |world| {
            world.now = now;
            for (_, page) in &mut world.stripe.pages {
                if matches!(page, Page::Open(until) if *until <= now) {
                    *page = Page::Expired;
                }
            }
        });
    }

    fn the_rest_of_the_world(&self, steps: &mut Steps) {
        for (index, (_, page)) in self.stripe.pages.iter().enumerate() {
            if matches!(page, Page::Open(_)) {
                self.with(steps, "the customer pays on the page".to_owned(), 0, |world| {
                    world.stripe.pages[index].1 = Page::Paid;
                });
            }
        }
        for (index, (request, _, forced)) in self.stripe.late.iter().enumerate() {
            for (stripe, answer) in self.stripe.carry_out(*request, self.now, *forced) {
                self.with(steps, format!("{request:?} arrives late: {answer:?}"), 0, |world| {
                    world.stripe = stripe;
                    world.stripe.late.remove(index);
                });
            }
        }
    }

    /// What a worker with empty hands may take up.
    fn begins(&self, who: usize, steps: &mut Steps) {
        if !self.free() {
            return;
        }
        if self.charge.wake().is_some_and(|(_, due)| due <= at(self.now)) {
            self.with(steps, format!("worker {who} claims"), 0, |world| world.claim(who, false));
        }
        if self.clicks > 0 && !self.charge.state.is_terminal() {
            self.with(steps, format!("the customer clicks at worker {who}"), 0, |world| {
                world.clicks -= 1;
                world.claim(who, true);
            });
        }
        if self.stripe.is_paid() && !matches!(self.charge.state, State::Paid { .. }) {
            self.with(steps, format!("an event tells worker {who}"), 0, |world| {
                world.claim(who, false);
                world.workers[who].hand = Hand::Read(Saying::Paid);
            });
        }
    }

    /// The bytes leave, or do not, or nobody knows.
    fn sends(&self, who: usize, request: Request, steps: &mut Steps) {
        let page = matches!(request, Request::Page { .. });
        let marked = self.workers[who].copy.open_attempt().and_then(|one| match one.phase {
            Phase::Sending(sent) => Some(sent.last_at),
            Phase::Prepared { .. } | Phase::Unknown(_) => None,
        });
        if !page && marked.is_some_and(|marked| marked < at(self.now)) && self.flaw != Flaw::Sleepwalks {
            let number = self.workers[who].copy.attempts;
            let not_run = answer(number, Outcome::NotRun { not_before: at(self.now) });
            self.with(steps, format!("worker {who} woke too late to send"), 0, |world| {
                world.commit(who, &[not_run], None);
            });
            return;
        }
        for (stripe, said) in self.stripe.carry_out(request, self.now, false) {
            for (what, heard, faults) in [("answers", Some(said), 0), ("answers, lost:", None, 1)] {
                self.with(steps, format!("Stripe {what} {request:?} {said:?}"), faults, |world| {
                    world.stripe = stripe.clone();
                    world.workers[who].hand = Hand::Heard(request, heard);
                });
            }
            self.with(steps, format!("500 after {request:?} {said:?}"), 1, |world| {
                world.stripe = stripe.clone();
                world.answers_500(who, request);
            });
        }
        self.with(steps, format!("{request:?} is lost"), 1, |world| {
            world.workers[who].hand = Hand::Heard(request, None);
        });
        self.with(steps, format!("{request:?} is late"), 1, |world| {
            world.stripe.late.push((request, world.now + LATE, false));
            world.workers[who].hand = Hand::Heard(request, None);
        });
        if !self.stripe.keys.contains_key(&request) {
            self.with(steps, format!("500, and {request:?} is carried out later"), 1, |world| {
                world.stripe.late.push((request, world.now + FORWARD, true));
                world.answers_500(who, request);
            });
        }
    }

    fn answers_500(&mut self, who: usize, request: Request) {
        self.stripe.keys.insert(request, (Answer::ServerError, self.now));
        self.workers[who].hand = Hand::Heard(request, Some(Answer::ServerError));
    }

    fn goes_on(&mut self, who: usize, hand: Hand) {
        match hand {
            Hand::Nothing | Hand::Ready(_) => {}
            Hand::Claimed if self.workers[who].is_click => self.opens_page(who),
            Hand::Claimed => self.works(who),
            Hand::Looked(saying, adopt) => self.writes(who, saying, adopt),
            Hand::Heard(request, heard) => self.hears(who, request, heard),
            Hand::Read(saying) => self.settle(who, saying),
        }
    }

    fn works(&mut self, who: usize) {
        let copy = self.workers[who].copy.clone();
        match &copy.state {
            State::Due { .. }
            | State::PastDue { next: Next { action: Action::Collect, .. } }
            | State::Collecting { attempt: Attempt { phase: Phase::Prepared { .. }, .. } } => {
                self.looks(who, &copy);
            }
            State::PastDue { next: Next { action: Action::Remind, .. } } => {
                self.commit(who, &[Event::StepDue], None);
            }
            State::PastDue { .. } => match copy.collector.as_ref() {
                None => self.commit(who, &[Event::StepDue], None),
                Some(collector) => self.closes(who, &copy, collector),
            },
            State::Collecting {
                attempt: Attempt { phase: Phase::Sending(sent) | Phase::Unknown(sent), .. },
            } => {
                let may = inquiry(sent, at(self.now)) == Inquiry::Resend;
                if may || (self.flaw == Flaw::OldKey && !sent.poisoned) {
                    let hand = request_of(&copy).map(Hand::Ready);
                    return self.commit(who, &[Event::Sending], hand);
                }
                self.workers[who].hand = Hand::Read(self.finds(&copy));
            }
            State::LinkOpen { until, .. } => match copy.collector.as_ref() {
                Some(collector) if *until <= at(self.now) || collector.stripe_id.is_none() => {
                    self.closes(who, &copy, collector);
                }
                _ => self.let_go(who),
            },
            _ => self.let_go(who),
        }
    }

    /// Cancels or expires a collector and reads it back; one without a name is looked for.
    fn closes(&mut self, who: usize, copy: &Charge, collector: &Collector) {
        let saying = match (self.stripe.close(collector), collector.kind) {
            (Some(saying), _) => Some(saying),
            (None, CollectorKind::PaymentIntent) => {
                let intents = self.stripe.intents.iter();
                let mut of_it = intents.filter(|(generation, _)| *generation == collector.generation);
                match of_it.next().map(|(_, status)| *status) {
                    Some(Intent::Paid) => Some(Saying::Paid),
                    Some(Intent::Declined(_)) => None,
                    Some(Intent::Canceled) | None => copy.open_attempt().is_none().then_some(Saying::Dead),
                }
            }
            (None, CollectorKind::CheckoutSession) => {
                let page = self.stripe.pages.iter().rposition(|(one, _)| *one == collector.generation);
                match page.map(|index| (index, self.stripe.pages[index].1)) {
                    Some((_, Page::Paid)) => Some(Saying::Paid),
                    Some((index, Page::Open(_))) => Some(Saying::Opened(index)),
                    Some((_, Page::Expired)) => Some(Saying::Dead),
                    None => {
                        let State::LinkOpen { until, .. } = copy.state else { return self.let_go(who) };
                        (until < at(self.now)).then_some(Saying::Dead)
                    }
                }
            }
        };
        match saying {
            Some(saying) => self.workers[who].hand = Hand::Read(saying),
            None => self.let_go(who),
        }
    }

    /// Stripe's lists, before a PaymentIntent is made.
    fn looks(&mut self, who: usize, copy: &Charge) {
        if let Some(collector) = &copy.collector {
            if collector.kind == CollectorKind::CheckoutSession {
                return self.closes(who, copy, collector);
            }
            if collector.stripe_id.is_some() {
                self.workers[who].hand = Hand::Looked(None, None);
                return;
            }
        }
        let adopt = self.stripe.intents.iter().position(|(_, one)| matches!(one, Intent::Declined(_)));
        let paid = self.stripe.is_paid().then_some(Saying::Paid);
        for (_, page) in &mut self.stripe.pages {
            if matches!(page, Page::Open(_)) {
                *page = Page::Expired;
            }
        }
        self.workers[who].hand = Hand::Looked(paid, adopt);
    }

    fn writes(&mut self, who: usize, saying: Option<Saying>, adopt: Option<usize>) {
        if let Some(saying) = saying {
            return self.settle(who, saying);
        }
        let copy = self.workers[who].copy.clone();
        if let Some(intent) = adopt {
            let (generation, kind) = (self.stripe.intents[intent].0, CollectorKind::PaymentIntent);
            let collector = Collector { generation, kind, stripe_id: Some(format!("pi_{intent}")) };
            let adopt = Event::Adopt { collector, attempt: copy.attempts, is_pending: false };
            return self.commit(who, &[adopt], None);
        }
        let mut events = if copy.open_attempt().is_some() { vec![] } else { vec![Event::Begin] };
        events.push(Event::Sending);
        self.commit(who, &events, Some(Hand::Claimed));
        if self.workers[who].hand == Hand::Claimed {
            match request_of(&self.workers[who].copy) {
                Some(request) => self.workers[who].hand = Hand::Ready(request),
                None => self.let_go(who),
            }
        }
    }

    /// What became of an attempt, read and not sent.
    fn finds(&self, copy: &Charge) -> Saying {
        if self.stripe.is_paid() {
            return Saying::Paid;
        }
        let named = copy.collector.as_ref().and_then(index_of);
        let ours = |index: usize, generation: u32| match named {
            Some(id) => id == index,
            None => copy.collector.as_ref().is_some_and(|one| one.generation == generation),
        };
        let found = self.stripe.intents.iter().enumerate().find(|(index, (one, _))| ours(*index, *one));
        match found {
            Some((index, (_, Intent::Declined(times)))) if self.known != Some((index, *times)) => {
                Saying::Declined(index, *times)
            }
            Some((_, (_, Intent::Canceled))) => Saying::Dead,
            Some(_) | None => Saying::Missing,
        }
    }

    fn hears(&mut self, who: usize, request: Request, heard: Option<Answer>) {
        let number = self.workers[who].copy.attempts;
        let saying = match heard {
            Some(Answer::Paid(_)) => Saying::Paid,
            Some(Answer::Declined(intent, times)) => Saying::Declined(intent, times),
            Some(Answer::Dead | Answer::Refused) => Saying::Dead,
            Some(Answer::Page(index)) => Saying::Opened(index),
            None | Some(Answer::ServerError) if matches!(request, Request::Page { .. }) => {
                return self.let_go(who);
            }
            None if self.flaw == Flaw::UnknownIsDecline => {
                let refused = Decline { payment_intent: None, ..decline("insufficient_funds") };
                return self.commit(who, &[answer(number, Outcome::Declined(refused))], None);
            }
            None | Some(Answer::ServerError) => {
                let unknown = Outcome::Unknown { poisoned: heard.is_some() };
                return self.commit(who, &[answer(number, unknown)], None);
            }
        };
        self.workers[who].is_click = false;
        self.settle(who, saying);
    }

    fn opens_page(&mut self, who: usize) {
        let copy = self.workers[who].copy.clone();
        match (&copy.state, copy.collector.as_ref()) {
            (State::LinkOpen { until, .. }, Some(Collector { generation, stripe_id: None, .. })) => {
                let (generation, expires) = (*generation, until.as_second() - MINUTE);
                self.workers[who].hand = Hand::Ready(Request::Page { generation, expires });
            }
            (State::Due { .. } | State::PastDue { .. }, Some(collector)) if self.flaw != Flaw::LinkBeside => {
                self.closes(who, &copy, collector);
            }
            (State::Due { .. } | State::PastDue { .. }, _) => {
                let mut events = vec![Event::OpenLink { until: at(self.now + HOUR + MINUTE) }];
                if copy.collector.is_some() {
                    events.insert(0, Event::CollectorDead);
                }
                let generation = copy.generation + 1;
                let expires = self.now + HOUR;
                self.commit(who, &events, Some(Hand::Ready(Request::Page { generation, expires })));
            }
            _ => self.let_go(who),
        }
    }
}
