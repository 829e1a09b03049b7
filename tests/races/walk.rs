//! One case, step by step.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use recurd::failpoint;
use recurd::flows::{Job, receive};

use crate::Case;
use crate::acts::{self, First};
use crate::judge::Judge;
use crate::stage::{Situation, Stage};

/// When the books are closed: a day before the next period.
const END: &str = "2026-02-04T00:00:00Z";
/// Limit: what is not at rest after so many ticks goes in circles.
const TICKS_MAX: usize = 500;
/// Limit: a task that is polled so often without reaching a place waits for something that never comes.
const POLLS_MAX: usize = 100_000;

pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something under way that stops at each place.
pub struct Task<T> {
    number: u64,
    future: Boxed<T>,
}

/// Where a task stands.
pub enum Step<T> {
    At(&'static str),
    Done(T),
}

impl<T: 'static> Task<T> {
    pub fn new(future: Boxed<T>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            future: Box::pin(tokio::task::unconstrained(future)),
        }
    }

    /// Goes on to the next place.
    pub async fn step(&mut self) -> Step<T> {
        failpoint::stops(self.number).iter().for_each(|stop| failpoint::release(stop.ticket));
        for _ in 0..POLLS_MAX {
            failpoint::enter(self.number, 0);
            if let Poll::Ready(value) = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Step::Done(value);
            }
            if let Some(stop) = failpoint::stops(self.number).first() {
                return Step::At(stop.place);
            }
            tokio::task::yield_now().await;
        }
        panic!("a task waits for something that never comes");
    }
}

/// From beginning to end.
pub async fn all<T: 'static>(future: Boxed<T>) -> T {
    let mut task = Task::new(future);
    loop {
        if let Step::Done(value) = task.step().await {
            return value;
        }
    }
}

/// At how many places somebody is stopped who acts alone.
pub async fn places(situation: Situation, first: First) -> usize {
    let mut stage = Stage::set(situation).await;
    acts::before(&mut stage, situation, first).await;
    let mut task = Task::new(acts::first(&stage, first));
    let mut places = 0;
    while let Step::At(_) = task.step().await {
        places += 1;
    }
    places
}

/// Walks through a case: where the first was stopped, and what is wrong.
pub async fn walk(case: Case) -> (&'static str, Vec<String>) {
    recurd::chance::seed(Some(1));
    let mut stage = Stage::set(case.situation).await;
    acts::before(&mut stage, case.situation, case.first).await;
    let mut first = Some(Task::new(acts::first(&stage, case.first)));
    let mut place = "before it began";
    for _ in 0..=case.stopped {
        place = go_on(&mut first).await.unwrap_or(place);
    }
    let mut judge = Judge::new(&stage);
    let done = acts::second(&mut stage, case.second).await;
    judge.second_is_done(&stage, &done, place).await;
    while !case.dies && go_on(&mut first).await.is_some() {
        judge.look(&stage);
    }
    drop(first);
    acts::afterwards(&stage, done.afterwards);
    judge.look(&stage);
    rest(&stage, END.parse().unwrap(), |stage| judge.look(stage)).await;
    let found = judge.verdict(&stage, &case).await;
    failpoint::disarm();
    (place, found)
}

/// Lets somebody go on to the next place, unless all is done: a mistake that was built in may leave places out.
async fn go_on(first: &mut Option<Task<()>>) -> Option<&'static str> {
    match first.as_mut()?.step().await {
        Step::At(place) => Some(place),
        Step::Done(()) => {
            *first = None;
            None
        }
    }
}

/// Everything that is due, until an instant.
pub async fn rest_until(stage: &Stage, end: Timestamp) {
    rest(stage, end, |_| {}).await;
}

/// Everything that is due now.
pub async fn rest_now(stage: &Stage) {
    rest_until(stage, stage.world.clock.now()).await;
}

/// From one wake-up to the next.
async fn rest(stage: &Stage, end: Timestamp, mut look: impl FnMut(&Stage)) {
    for _ in 0..TICKS_MAX {
        tick(stage).await;
        look(stage);
        let now = stage.world.clock.now();
        let wakes = stage.world.ctx.store.wakes().await.unwrap();
        let ours = wakes.iter().map(|wake| wake.at).min();
        let stripes = stage.world.sandbox.next_job_ms().map(|ms| ms.div_euclid(1000) + 1);
        let next = ours.into_iter().chain(stripes).min().unwrap_or(i64::MAX);
        // What waits for a worker that is gone wakes when its lease is over.
        let next = next.max(now.as_second() + 60);
        if next > end.as_second() {
            if now < end {
                stage.world.clock.set(end);
            }
            return;
        }
        stage.world.clock.set(Timestamp::from_second(next).unwrap());
    }
    stage.errors.lock().unwrap().push(format!("not at rest after {TICKS_MAX} ticks"));
}

/// Stripe's events arrive, and every job runs once.
pub async fn tick(stage: &Stage) {
    stage.world.sandbox.tick();
    events(stage).await;
    let ctx = stage.world.ctx.clone();
    let errors = all(Box::pin(async move {
        let mut errors = Vec::new();
        for job in Job::ALL {
            errors.extend(ctx.run_once(job, 100).await.err().map(|error| error.to_string()));
        }
        errors
    }))
    .await;
    stage.errors.lock().unwrap().extend(errors);
}

/// Stripe's events arrive; nobody has read them yet.
pub async fn events(stage: &Stage) {
    for delivery in stage.world.sandbox.take_deliveries() {
        if stage.is_deaf {
            stage.world.sandbox.delivery_succeeded(&delivery);
            continue;
        }
        let header = delivery.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("stripe-signature"));
        let signature = header.map(|(_, value)| value.clone()).unwrap_or_default();
        let (ctx, body) = (stage.world.ctx.clone(), delivery.body.clone());
        all(Box::pin(async move { receive::accept(&ctx, &body, &signature).await.is_ok() })).await;
        stage.world.sandbox.delivery_succeeded(&delivery);
    }
}
