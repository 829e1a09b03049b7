//! The loop: who goes on next, and what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use anyhow::Result;

use super::drive::{Boxed, Signal, poll_to_rest};
use super::mirror::Mirror;
use super::people::{Act, People};
use super::post::Parcel;
use super::rng::Rng;
use super::stage::{self, Stage};
use super::world::{self, Dir, Replica};
use super::{Options, Outcome, Violation, bank, ending, invariants};
use crate::config::Config;
use crate::failpoint;
use crate::flows::pay_link::Opened;
use crate::flows::{Ctx, Job};
use crate::store::Store;
use crate::store::journal::Wake;
use crate::template::Templates;

/// Limit: a run that takes more steps does not come to rest.
const STEPS_MAX: u64 = 2_000_000;
/// How long everything works before the books are closed.
const QUIET_DAYS: i64 = 9;
const DAY_MS: i64 = 86_400_000;

/// What comes of a task.
pub(super) enum End {
    /// A job has no more to do, or failed.
    Job,
    /// An event was taken, or was not.
    Accepted(Box<Parcel>, bool),
    /// A click led somewhere.
    Clicked(super::people::Click, Option<Opened>),
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
    Tick(Job),
    Release { task: u64, ticket: u64, place: &'static str },
    Deliver(Box<Parcel>),
    Act(Act),
}

/// One run.
pub(super) struct Sim {
    pub(super) config: Config,
    pub(super) templates: Templates,
    pub(super) store: Store,
    pub(super) replicas: Vec<Replica>,
    pub(super) mirror: Mirror,
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
    pub(super) backups: Vec<PathBuf>,
    pub(super) planned: BTreeMap<Job, i64>,
    pub(super) ticked: BTreeMap<Job, i64>,
    pub(super) planned_at_writes: Option<u64>,
    pub(super) checked_at_writes: Option<u64>,
    /// When each job has work next; see [`Sim::look_for_work`].
    pub(super) wakes: Vec<Wake>,
    pub(super) wakes_at_writes: Option<u64>,
}

/// Runs a seed.
pub(super) async fn run(options: &Options) -> Outcome {
    let dir = Dir::new().expect("a directory for the database");
    let mut sim = Sim::new(options, &dir).await.expect("the world can be set up");
    let violation = sim.story(options).await.err();
    let struck_places = std::mem::take(&mut sim.places);
    let states = sim.mirror.states();
    let (steps, tasks) = (sim.steps, std::mem::take(&mut sim.tasks));
    drop(tasks);
    failpoint::disarm();
    sim.store.close().await;
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
        let store = world::database().await?;
        let mut sim = Self {
            config,
            templates,
            store,
            replicas: Vec::new(),
            mirror: Mirror::default(),
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
            backups: Vec::new(),
            planned: BTreeMap::new(),
            ticked: BTreeMap::new(),
            planned_at_writes: None,
            checked_at_writes: None,
            wakes: Vec::new(),
            wakes_at_writes: None,
        };
        for _ in 0..rng.between(1, 4) {
            let skew_ms = rng.between(-55_000, 55_000);
            let replica = sim.start_replica(skew_ms).await?;
            sim.replicas.push(replica);
        }
        world::populate(&sim.replicas[0].ctx, &mut rng, start).await?;
        Ok(sim)
    }

    /// Whether a process is at this job already.
    pub(super) fn is_busy(&self, replica: usize, job: Job) -> bool {
        self.tasks.values().any(|task| task.replica == replica && task.job == Some(job))
    }

    async fn start_replica(&self, skew_ms: i64) -> Result<Replica> {
        let hand = Arc::new(AtomicI64::new(stage::now_ms() + skew_ms));
        let (ctx, mails) =
            world::boot(self.store.clone(), hand.clone(), &self.config, &self.templates).await?;
        Ok(Replica { ctx, mails, hand, skew_ms, paused_until_ms: 0, down_until_ms: 0 })
    }

    async fn story(&mut self, options: &Options) -> Result<(), Violation> {
        failpoint::arm(Box::new(super::mishaps::database_fails));
        let begin = stage::now_ms();
        stage::with(|stage| stage.faults.is_quiet = false);
        self.people
            .begin(begin, options.days)
            .into_iter()
            .for_each(|(at, act)| self.at(at, Action::Act(act)));
        self.check().await?;
        self.live(begin + options.days * DAY_MS).await?;
        self.end_trouble();
        self.live(begin + (options.days + QUIET_DAYS) * DAY_MS).await?;
        self.look_for_work().await;
        ending::check(self)
    }

    fn end_trouble(&mut self) {
        stage::with(|stage| {
            stage.faults.is_quiet = true;
            stage.note(|| "nothing goes wrong any more".to_owned());
        });
        self.people.is_quiet = true;
        self.planned_at_writes = None;
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
                self.plan().await;
            }
            let job_ms = stage::with(|stage| stage.sandbox.next_job_ms()).unwrap_or(i64::MAX);
            let next_ms = self.queue.keys().next().map_or(i64::MAX, |(at, _)| *at);
            if next_ms.min(job_ms) > until_ms {
                self.move_to(until_ms);
                return Ok(());
            }
            if job_ms < next_ms {
                self.move_to(job_ms);
                self.check().await?;
                continue;
            }
            let Some(((at_ms, _), action)) = self.queue.pop_first() else { return Ok(()) };
            self.move_to(at_ms);
            self.perform(action).await;
            self.check().await?;
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
            Action::Tick(job) => self.tick(job).await,
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
        self.planned_at_writes = None;
    }

    fn finish(&mut self, end: End) {
        match end {
            End::Job => self.planned_at_writes = None,
            End::Accepted(parcel, taken) => self.delivered(*parcel, taken),
            End::Clicked(click, opened) => self.clicked(click, opened),
            End::Done => {}
        }
    }

    /// Learns what the last step changed, and checks every invariant that may be touched by it.
    async fn check(&mut self) -> Result<(), Violation> {
        let fresh = stage::with(|stage| {
            let changes = stage.sandbox.take_changes();
            stage.truth.learn(changes)
        });
        self.collect_events();
        let mut touched = stage::with(|stage| std::mem::take(&mut stage.touched));
        touched.charges.extend(fresh.charges);
        touched.tries.extend(fresh.tries);
        let writes = Some(self.store.journal_writes());
        if writes != self.checked_at_writes {
            let changes = self.store.changes(self.mirror.seq).await.unwrap_or_default();
            self.checked_at_writes = writes;
            stage::with(|stage| {
                for change in &changes {
                    stage.stir(&change.row);
                    stage.note(|| format!("    {} {}", change.kind, change.row));
                }
            });
            self.mirror.learn(changes, stage::now_ms(), &mut touched);
            std::mem::take(&mut touched.unknown).into_iter().for_each(|charge| self.worry(charge));
        }
        let bank = self.bank.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stage::with(|stage| invariants::check(&self.mirror, &stage.truth, &bank, &touched, stage.now_ms()))
    }
}
