//! The loop: who goes on next, and what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::Result;

use super::database::Database;
use super::drive::{Boxed, Signal, poll_to_rest};
use super::mirror::Mirror;
use super::people::{Act, People};
use super::post::Parcel;
use super::rng::Rng;
use super::stage::{self, Stage};
use super::world::{self, Dir, Replica};
use super::{Options, Outcome, Violation, bank, ending};
use crate::config::Config;
use crate::failpoint;
use crate::flows::pay_link::Opened;
use crate::flows::{Ctx, Job};
use crate::template::Templates;

/// Limit: a run that takes more steps does not come to rest.
const STEPS_MAX: u64 = 2_000_000;
/// How long everything works before the books are closed.
const QUIET_DAYS: i64 = 9;
/// What is unfinished after them is looked at again so often.
const HOURS_MORE: i64 = 2;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// What comes of a task.
pub(super) enum End {
    /// A job has no more to do, or failed.
    Job,
    /// An event was taken, or was not.
    Accepted(Box<Parcel>, bool),
    /// A click led somewhere.
    Clicked(super::people::Click, Option<Opened>),
    /// An operator knows what a recovery would do, or could not be told.
    Planned(Option<String>),
    /// Something that needs no answer.
    Done,
}

/// Something under way in a process.
struct Task {
    replica: usize,
    job: Option<Job>,
    future: Boxed<End>,
    signal: Arc<Signal>,
}

/// What happens next.
pub(super) enum Action {
    /// On the copy, if there is one and the second says so.
    Tick(Job, bool),
    Release {
        task: u64,
        ticket: u64,
        place: &'static str,
    },
    Deliver(Box<Parcel>),
    Act(Act),
}

/// One run.
pub(super) struct Sim {
    pub(super) config: Config,
    pub(super) templates: Templates,
    /// The database that counts.
    pub(super) main: Database,
    /// One that runs beside it, and should not.
    pub(super) copy: Option<Database>,
    /// What databases knew that are gone.
    pub(super) past: Vec<Mirror>,
    /// Those on the copy come last.
    pub(super) replicas: Vec<Replica>,
    pub(super) people: People,
    pub(super) bank: bank::Shared,
    pub(super) rng: Rng,
    pub(super) steps: u64,
    pub(super) places: BTreeMap<&'static str, (u64, u64)>,
    queue: BTreeMap<(i64, u64), Action>,
    numbers: u64,
    tasks: BTreeMap<u64, Task>,
    scheduled: BTreeSet<u64>,
    pub(super) dir: PathBuf,
    /// Copies of the database that were written: what was known of it then.
    pub(super) files: Vec<Mirror>,
}

/// Runs a seed.
pub(super) async fn run(options: &Options) -> Outcome {
    let dir = Dir::new().expect("a directory for the database");
    let mut sim = Sim::new(options, &dir).await.expect("the world can be set up");
    let violation = sim.story(options).await.err();
    let struck_places = std::mem::take(&mut sim.places);
    let states = sim.main.mirror.states();
    let (steps, tasks) = (sim.steps, std::mem::take(&mut sim.tasks));
    drop(tasks);
    failpoint::disarm();
    sim.main.store.close().await;
    if let Some(copy) = &sim.copy {
        copy.store.close().await;
    }
    drop(sim);
    let stage = stage::take().expect("a stage was set");
    Outcome {
        seed: options.seed,
        violation,
        steps,
        digest: stage.digest,
        faults: stage.faults.reached.iter().map(|(kind, count)| (kind.as_str(), *count)).collect(),
        places: struck_places,
        states,
        struck: stage.faults.struck,
        trace: stage.trace.unwrap_or_default(),
    }
}

impl Sim {
    async fn new(options: &Options, dir: &Dir) -> Result<Self> {
        failpoint::disarm();
        crate::chance::seed(Some(options.seed));
        let mut rng = Rng::new(options.seed, "world");
        let start = world::beginning(&mut rng);
        let hand = Arc::new(AtomicI64::new(start.as_millisecond()));
        let (sandbox, bank) = world::stripe(options.seed, hand.clone());
        stage::set(Some(Stage::new(options, hand, sandbox)));
        let config = world::config(&mut rng)?;
        let templates = world::templates()?;
        let main = Database::new(world::database().await?, Mirror::default());
        let mut sim = Self {
            config,
            templates,
            main,
            copy: None,
            past: Vec::new(),
            replicas: Vec::new(),
            people: People::new(options.seed),
            bank,
            rng: Rng::new(options.seed, "order"),
            steps: 0,
            places: BTreeMap::new(),
            queue: BTreeMap::new(),
            numbers: 0,
            tasks: BTreeMap::new(),
            scheduled: BTreeSet::new(),
            dir: dir.0.clone(),
            files: Vec::new(),
        };
        for _ in 0..rng.between(1, 4) {
            let skew_ms = rng.between(-55_000, 55_000);
            let replica = sim.start_replica(skew_ms, false).await?;
            sim.replicas.push(replica);
        }
        world::populate(&sim.replicas[0].ctx, &mut rng, start).await?;
        Ok(sim)
    }

    /// Whether a process is at this job already.
    pub(super) fn is_busy(&self, replica: usize, job: Job) -> bool {
        self.tasks.values().any(|task| task.replica == replica && task.job == Some(job))
    }

    pub(super) async fn start_replica(&self, skew_ms: i64, is_copy: bool) -> Result<Replica> {
        let hand = Arc::new(AtomicI64::new(stage::now_ms() + skew_ms));
        let database = self.copy.as_ref().filter(|_| is_copy).unwrap_or(&self.main);
        let store = database.store.clone();
        let (ctx, mails) = world::boot(store, hand.clone(), &self.config, &self.templates, is_copy).await?;
        Ok(Replica { ctx, mails, hand, skew_ms, paused_until_ms: 0, down_until_ms: 0, is_copy })
    }

    async fn story(&mut self, options: &Options) -> Result<(), Violation> {
        failpoint::arm(Box::new(super::mishaps::database_fails));
        let begin = stage::now_ms();
        stage::with(|stage| stage.faults.is_quiet = false);
        self.people
            .begin(begin, options.days)
            .into_iter()
            .for_each(|(at, act)| self.at(at, Action::Act(act)));
        self.check()?;
        self.live(begin + options.days * DAY_MS).await?;
        self.end_trouble().await;
        let end = begin + (options.days + QUIET_DAYS) * DAY_MS;
        self.live(end).await?;
        // What a customer or a bank began in the last minute gets time to finish.
        for hours in 1..=HOURS_MORE {
            if ending::check(self).await.is_ok() {
                return Ok(());
            }
            self.live(end + hours * HOUR_MS).await?;
        }
        ending::check(self).await
    }

    async fn end_trouble(&mut self) {
        stage::with(|stage| {
            stage.faults.is_quiet = true;
            stage.note(|| "nothing goes wrong any more".to_owned());
        });
        self.people.is_quiet = true;
        self.stop_copy().await;
        // Whoever is behind by then is recovered, at the latest on the third try.
        for hours in [1, 12, 36] {
            self.act_in(hours * 3_600_000, Act::Recover);
        }
        self.main.needs_a_plan = true;
        let now_ms = stage::now_ms();
        for replica in &mut self.replicas {
            replica.skew_ms = replica.skew_ms.clamp(-50_000, 50_000);
            replica.paused_until_ms = replica.paused_until_ms.min(now_ms + 60_000);
            replica.down_until_ms = replica.down_until_ms.min(now_ms + 60_000);
        }
        // What slept for days wakes up now.
        let late: Vec<(i64, u64)> = self.queue.keys().copied().filter(|(at, _)| *at > now_ms).collect();
        for key in late {
            if matches!(self.queue.get(&key), Some(Action::Release { .. }))
                && let Some(action) = self.queue.remove(&key)
            {
                self.queue.insert((key.0.min(now_ms + 60_000), key.1), action);
            }
        }
    }

    /// Lets something happen at an instant, not before now.
    pub(super) fn at(&mut self, at_ms: i64, action: Action) {
        self.numbers += 1;
        self.queue.insert((at_ms.max(stage::now_ms()), self.numbers), action);
    }

    async fn live(&mut self, until_ms: i64) -> Result<(), Violation> {
        loop {
            let soon = self.queue.keys().next().is_some_and(|(at, _)| *at <= stage::now_ms() + 1000);
            if !soon {
                self.plan();
            }
            let job_ms = stage::with(|stage| stage.sandbox.next_job_ms()).unwrap_or(i64::MAX);
            let next_ms = self.queue.keys().next().map_or(i64::MAX, |(at, _)| *at);
            if next_ms.min(job_ms) > until_ms {
                self.move_to(until_ms);
                return Ok(());
            }
            if job_ms < next_ms {
                self.move_to(job_ms);
                self.check()?;
                continue;
            }
            let Some(((at_ms, _), action)) = self.queue.pop_first() else { return Ok(()) };
            self.move_to(at_ms);
            self.perform(action).await;
            self.check()?;
            self.steps += 1;
            if self.steps > STEPS_MAX {
                let text = format!("more than {STEPS_MAX} steps");
                return Err(Violation { invariant: "INV10", text });
            }
        }
    }

    fn move_to(&self, at_ms: i64) {
        let now_ms = stage::with(|stage| {
            stage.move_to(at_ms);
            stage.now_ms()
        });
        self.replicas.iter().for_each(|one| one.set_clock(now_ms));
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Tick(job, is_copy) => self.tick(job, is_copy).await,
            Action::Release { task, ticket, place } => self.release(task, ticket, place).await,
            Action::Deliver(parcel) => self.deliver(*parcel).await,
            Action::Act(act) => self.act(act).await,
        }
    }

    /// Begins something in a process.
    pub(super) async fn spawn(
        &mut self,
        replica: usize,
        job: Option<Job>,
        begin: impl FnOnce(Ctx) -> Boxed<End>,
    ) {
        self.numbers += 1;
        let number = self.numbers;
        let mut ctx = self.replicas[replica].ctx.clone();
        ctx.worker = format!("replica-{replica}-task-{number}").into();
        let signal = Arc::new(Signal::default());
        // The runtime's budget is counted by how fast the database's thread answers: nothing may depend on it.
        let future = Box::pin(tokio::task::unconstrained(begin(ctx)));
        self.tasks.insert(number, Task { replica, job, future, signal });
        self.go_on(number).await;
    }

    async fn go_on(&mut self, number: u64) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        let end = poll_to_rest(number, &mut task.future, &task.signal).await;
        self.collect_mails();
        if let Some(end) = end {
            self.tasks.remove(&number);
            self.finish(end);
            return;
        }
        for stop in failpoint::stops(number) {
            if !self.scheduled.insert(stop.ticket) {
                continue;
            }
            self.places.entry(stop.place).or_default().0 += 1;
            let slow = stage::with(|stage| {
                stage.faults.strike(super::faults::Kind::Slow).map(|rng| rng.between(1_000, 90_000))
            });
            let wait = slow.unwrap_or_else(|| self.rng.between(0, 40));
            let at = (stage::now_ms() + wait).max(stop.not_before_ms);
            self.at(at, Action::Release { task: number, ticket: stop.ticket, place: stop.place });
        }
    }

    async fn release(&mut self, number: u64, ticket: u64, place: &'static str) {
        let Some(task) = self.tasks.get(&number) else {
            self.scheduled.remove(&ticket);
            return;
        };
        let replica = task.replica;
        let now_ms = stage::now_ms();
        let wakes_ms = self.replicas[replica].paused_until_ms;
        if wakes_ms > now_ms {
            let at = wakes_ms + self.rng.between(0, 500);
            self.at(at, Action::Release { task: number, ticket, place });
            return;
        }
        if self.process_fails(replica, place).await {
            // It died, and this task with it; or it sleeps, and goes on when it wakes.
            if self.tasks.contains_key(&number) {
                self.at(now_ms, Action::Release { task: number, ticket, place });
            }
            return;
        }
        self.prepare_mail_server(replica, place);
        self.interfere(place).await;
        stage::with(|stage| {
            stage.stir(place);
            stage.note(|| format!("  task {number} goes on at {place:?}"));
        });
        self.scheduled.remove(&ticket);
        failpoint::release(ticket);
        self.go_on(number).await;
    }

    /// A process ends: all it was doing is gone, also what waits at a failpoint.
    pub(super) fn kill(&mut self, replica: usize) {
        self.tasks.retain(|_, task| task.replica != replica);
        self.plan_anew();
    }

    fn finish(&mut self, end: End) {
        match end {
            End::Job => self.plan_anew(),
            End::Planned(hash) => self.planned_recovery(hash),
            End::Accepted(parcel, taken) => self.delivered(*parcel, taken),
            End::Clicked(click, opened) => self.clicked(click, opened),
            End::Done => {}
        }
    }

    pub(super) fn plan_anew(&mut self) {
        self.main.needs_a_plan = true;
        if let Some(copy) = &mut self.copy {
            copy.needs_a_plan = true;
        }
    }
}
