//! A process falls asleep over one answer of Stripe's, for longer than its leases last; others go on, and it wakes up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recurd::demo::InProcess;
use recurd::flows::{Ctx, Job};
use recurd::store::{ChargeFilter, NewEvent};
use recurd::stripe::{self, Client, ClientOptions, Response, Transport, TransportError};

use crate::recovery::one_off;
use crate::{Scene, drain};

/// The first answer to such a request, and what the others do meanwhile.
struct Nap {
    method: http::Method,
    path: &'static str,
    /// For how long before each of the others works. 0: each takes one charge at this moment.
    hours: u64,
    /// Whether each of the others has something of its own to collect.
    they_charge: bool,
}

impl Nap {
    /// While each of the others charges.
    fn of(method: http::Method, path: &'static str, hours: u64) -> Self {
        Self { method, path, hours, they_charge: true }
    }
}

/// The line of a process that falls asleep.
struct Sleeper {
    line: InProcess,
    nap: Nap,
    others: Vec<Ctx>,
    has_slept: AtomicBool,
}

#[async_trait::async_trait]
impl Transport for Sleeper {
    async fn send(&self, request: stripe::Request) -> Result<Response, TransportError> {
        let sleeps = request.method == self.nap.method && request.path.starts_with(self.nap.path);
        let answer = self.line.send(request).await;
        if sleeps && !self.has_slept.swap(true, Ordering::SeqCst) {
            for other in &self.others {
                if self.nap.hours == 0 {
                    other.run_once(Job::Collect, 1).await.unwrap();
                    continue;
                }
                other.clock.advance(Duration::from_secs(self.nap.hours * 3600));
                if self.nap.they_charge {
                    one_off(other).await;
                }
                drain(other).await;
            }
        }
        answer
    }
}

impl Scene {
    /// The same process, which will fall asleep.
    fn asleep(&self, ctx: &Ctx, nap: Nap, others: Vec<Ctx>) -> (Ctx, Arc<Sleeper>) {
        let line = InProcess::new(self.world.sandbox.clone(), ctx.config.stripe.timeout);
        let sleeper = Arc::new(Sleeper { line, nap, others, has_slept: AtomicBool::new(false) });
        let options = ClientOptions::new("sk_test_sleeper".into(), self.world.clock.clone());
        let mut slow = ctx.clone();
        slow.stripe = Client::new(sleeper.clone(), options).unwrap();
        (slow, sleeper)
    }

    /// Two more processes.
    async fn two_others(&self) -> Vec<Ctx> {
        let store = &self.world.ctx.store;
        vec![self.on(store.clone()).await, self.on(store.clone()).await]
    }
}

impl Sleeper {
    fn must_have_slept(&self) {
        assert!(self.has_slept.load(Ordering::SeqCst), "it never asked");
    }
}

/// One process sleeps for hours over its first answer to such a request while two others charge, and wakes up.
async fn one_sleeps(nap: Nap) -> Scene {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let process = scene.on(scene.world.ctx.store.clone()).await;
    let (slow, sleeper) = scene.asleep(&process, nap, scene.two_others().await);
    drain(&slow).await;
    sleeper.must_have_slept();
    scene
}

#[tokio::test]
async fn who_slept_over_stripes_lists_while_a_copy_charged_looks_at_the_witness_again() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    drain(ctx).await;
    one_off(ctx).await;
    scene.back_up();
    // For longer than Stripe keeps a key.
    let nap = Nap::of(http::Method::GET, "/v1/payment_intents", 80);
    let (slow, sleeper) = scene.asleep(ctx, nap, vec![scene.on_backup().await]);
    let report = slow.run_once(Job::Collect, 100).await.unwrap();
    sleeper.must_have_slept();
    assert_eq!(scene.collected(), [1; 3], "the copy's three, and none of them again: {report:?}");
    assert!(report.stopped.is_some_and(|why| why.contains("Stripe knows")));
}

#[tokio::test]
async fn who_slept_since_before_the_first_mark_takes_nobody_for_a_stranger() {
    let scene = one_sleeps(Nap::of(http::Method::GET, "/v1/customers/", 1)).await;
    assert_eq!(scene.world.ctx.store.halted().await.unwrap(), None);
}

#[tokio::test]
async fn of_processes_that_begin_at_the_same_moment_none_takes_another_for_a_stranger() {
    for (method, path) in [(http::Method::GET, "/v1/customers/"), (http::Method::POST, "/v1/customers")] {
        let scene = Scene::new(&["pm_card_visa"; 3]).await;
        scene.world.ctx.run_once(Job::Materialize, 100).await.unwrap();
        let process = scene.on(scene.world.ctx.store.clone()).await;
        // The others take one charge each while the first waits for its answer.
        let (slow, sleeper) = scene.asleep(&process, Nap::of(method, path, 0), scene.two_others().await);
        slow.run_once(Job::Collect, 1).await.unwrap();
        sleeper.must_have_slept();
        assert_eq!(scene.world.ctx.store.halted().await.unwrap(), None, "{path}");
        assert_eq!(scene.collected(), [1; 3], "{path}");
    }
}

#[tokio::test]
async fn who_slept_since_before_the_witness_was_made_follows_the_one_on_record() {
    // Who asked Stripe to make it makes it; by the time the others do, the key is forgotten.
    let cases = [(http::Method::GET, "/v1/payment_intents", 1), (http::Method::POST, "/v1/customers", 2)];
    for (method, path, witnesses) in cases {
        let scene = one_sleeps(Nap::of(method, path, 80)).await;
        scene.days(2).await;
        assert_eq!(scene.world.ctx.store.halted().await.unwrap(), None, "asleep over {path}");
        let log = scene.world.sandbox.books().requests;
        let made = log.iter().filter(|one| one.method == "POST" && one.path == "/v1/customers").count();
        assert_eq!(made, witnesses, "asleep over {path}");
    }
}

#[tokio::test]
async fn who_slept_over_a_decline_that_an_event_told_of_does_not_take_it_for_one_of_the_next_attempt() {
    let scene = Scene::new(&["pm_card_visa"]).await;
    let ctx = &scene.world.ctx;
    let script = "processing 10h generic_decline, processing 5d ok";
    scene.world.sandbox.script_card("pm_card_visa_0", script).unwrap();
    scene.tick().await;
    scene.world.clock.advance(Duration::from_secs(11 * 3600));
    scene.world.sandbox.tick();
    let refused = scene.world.sandbox.books().payment_intents.remove(0);
    let event = NewEvent {
        id: "evt_1".into(),
        kind: "payment_intent.payment_failed".into(),
        object_id: Some(refused.id.clone()),
        object_type: Some("payment_intent".into()),
        charge_id: refused.metadata.get("recurd_charge").cloned(),
        created: ctx.now().as_second(),
    };
    ctx.store.store_event(&event, ctx.now()).await.unwrap();
    // The first of the others hears of the decline as well, and the second goes the ladder's first retry.
    let nap =
        Nap { method: http::Method::GET, path: "/v1/payment_intents/pi_", hours: 90, they_charge: false };
    let (slow, sleeper) = scene.asleep(ctx, nap, scene.two_others().await);
    slow.run_once(Job::Receive, 1).await.unwrap();
    sleeper.must_have_slept();
    let found = ctx
        .store
        .list_charges(&ChargeFilter { limit: 1, ..ChargeFilter::default() })
        .await
        .unwrap()
        .remove(0);
    let attempts = ctx.store.attempts(found.charge.id).await.unwrap();
    let states: Vec<&str> = attempts.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states, ["declined", "processing"]);
    assert_eq!(found.charge.state.as_str(), "processing");
    assert_eq!(found.charge.dunning.as_ref().map(|case| case.declines), Some(1));
    // Whoever was overtaken keeps nothing, and the money comes.
    scene.days(6).await;
    assert_eq!(scene.states().await, ["paid"]);
    assert_eq!(scene.collected(), [1]);
}
