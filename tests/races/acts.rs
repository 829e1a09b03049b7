//! Who does what: the first is stopped on the way, the second is not.

use std::time::Duration;

use http::Method;
use recurd::clock::Clock;
use recurd::flows::manage::{self, ChargeCommand};
use recurd::flows::pay_link::{self, CLICK_LIFE};
use recurd::flows::{Job, enrol, receive};
use recurd::sandbox::{CardEntry, PageStep, Request};

use crate::stage::{Situation, Stage};
use crate::walk::{self, Boxed, all};

/// What is under way, and is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Collect,
    Dun,
    Notify,
    Reconcile,
    Receive,
    Click,
    Return,
    CancelSubscription,
    CancelCharge,
    MarkPaid,
}

/// What happens in the meantime, from beginning to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// Another replica does everything that is due.
    Tick,
    /// Events arrive, and another replica reads them.
    Events,
    /// An hour passes, and another replica does what is due: pages and leases end.
    AnHour,
    /// A day passes.
    ADay,
    /// A click opens the page, or finds it.
    Click,
    /// And the customer pays.
    Pays,
    /// In the second of two tabs; the first one tries as well.
    PaysInTwoTabs,
    /// From a bank account: five days later Stripe knows.
    PaysByDebit,
    /// And then the bank says no.
    DebitFails,
    /// And pays after the first has gone on.
    PaysAfterwards,
    /// 3-D Secure asks; the customer answers after the first has gone on.
    ConfirmsAfterwards,
    /// And the card on the page is refused.
    IsRefused,
    /// The customer pays, and the merchant gives it back at once.
    PaysAndIsRefunded,
    /// The customer pays, and asks the bank for the money.
    PaysAndDisputes,
    /// The customer asks the bank for what was paid before.
    Disputes,
    /// The customer saves another card.
    SavesACard,
    /// Somebody removes the card at Stripe.
    DetachesTheCard,
    /// Somebody deletes the customer at Stripe.
    DeletesTheCustomer,
    CancelSubscription,
    CancelCharge,
    Pause,
    MarkPaid,
    CollectNow,
}

impl Second {
    pub const ALL: [Self; 23] = [
        Self::Tick,
        Self::Events,
        Self::AnHour,
        Self::ADay,
        Self::Click,
        Self::Pays,
        Self::PaysInTwoTabs,
        Self::PaysByDebit,
        Self::DebitFails,
        Self::PaysAfterwards,
        Self::ConfirmsAfterwards,
        Self::IsRefused,
        Self::PaysAndIsRefunded,
        Self::PaysAndDisputes,
        Self::Disputes,
        Self::SavesACard,
        Self::DetachesTheCard,
        Self::DeletesTheCustomer,
        Self::CancelSubscription,
        Self::CancelCharge,
        Self::Pause,
        Self::MarkPaid,
        Self::CollectNow,
    ];
}

/// What the customer does when the first has gone on.
pub enum Afterwards {
    Nothing,
    Pays(String),
    Confirms(String),
}

/// What came of the second act.
pub struct Done {
    pub afterwards: Afterwards,
    /// From now on no machine may try Ann's charge.
    pub stops: bool,
}

/// The act that will be stopped.
pub fn first(stage: &Stage, act: First) -> Boxed<()> {
    let (mut ctx, id, subscription) = (stage.first.clone(), stage.charge, stage.subscription);
    let page = stage.page.clone().unwrap_or_default();
    if act == First::Reconcile && stage.page.is_some() {
        // A clock that is two hours fast: by it the page should be over, and at Stripe it is open.
        ctx.clock = Clock::manual(ctx.now().checked_add(Duration::from_secs(7200)).unwrap());
    }
    Box::pin(async move {
        let _ = match act {
            First::Collect => ctx.run_once(Job::Collect, 100).await.map(|_| ()),
            First::Dun => ctx.run_once(Job::Dun, 100).await.map(|_| ()),
            First::Notify => ctx.run_once(Job::Notify, 100).await.map(|_| ()),
            First::Reconcile => ctx.run_once(Job::Reconcile, 100).await.map(|_| ()),
            First::Receive => ctx.run_once(Job::Receive, 100).await.map(|_| ()),
            First::Click => pay_link::open(&ctx, id, CLICK_LIFE).await.map(|_| ()),
            First::Return => receive::returned(&ctx, &page).await,
            First::CancelSubscription => manage::cancel(&ctx, subscription, "test", "x").await.map(|_| ()),
            First::CancelCharge => {
                manage::command(&ctx, id, ChargeCommand::Cancel, "test", "x").await.map(|_| ())
            }
            First::MarkPaid => {
                manage::command(&ctx, id, ChargeCommand::MarkPaid, "test", "x").await.map(|_| ())
            }
        };
    })
}

/// What must have happened before the first begins. Who reads an event got one; nobody else hears of a payment.
pub async fn before(stage: &mut Stage, situation: Situation, act: First) {
    if situation != Situation::PaidUnheard {
        return;
    }
    if act == First::Receive {
        stage.world.sandbox.tick();
        walk::events(stage).await;
    } else {
        stage.is_deaf = true;
    }
}

/// The act in the meantime.
#[expect(clippy::too_many_lines, reason = "an arm for each act, read from top to bottom")]
pub async fn second(stage: &mut Stage, act: Second) -> Done {
    let mut done = Done { afterwards: Afterwards::Nothing, stops: false };
    match act {
        Second::Tick => walk::tick(stage).await,
        Second::Events => {
            stage.world.sandbox.tick();
            walk::events(stage).await;
            job(stage, Job::Receive).await;
        }
        Second::AnHour | Second::ADay => {
            let hours = if act == Second::ADay { 25 } else { 1 };
            stage.world.clock.advance(Duration::from_secs(hours * 3600 + 120));
            walk::tick(stage).await;
            walk::tick(stage).await;
        }
        Second::Click => drop(stage.open().await),
        Second::Pays => drop(pays(stage).await),
        Second::PaysInTwoTabs => {
            let tabs = [stage.open().await, stage.open().await];
            for page in tabs.into_iter().rev().flatten() {
                gives(stage, &page, "pm_card_mastercard");
            }
        }
        Second::PaysByDebit | Second::DebitFails => {
            if let Some(page) = stage.open().await {
                let pays = act == Second::PaysByDebit;
                gives(stage, &page, if pays { "pm_sandbox_sepaPaid" } else { "pm_sandbox_sepaFailed" });
                walk::tick(stage).await;
            }
        }
        Second::PaysAfterwards => {
            done.afterwards = stage.open().await.map_or(Afterwards::Nothing, Afterwards::Pays);
        }
        Second::ConfirmsAfterwards => {
            if let Some(page) = stage.open().await
                && gives(stage, &page, "pm_card_authenticationRequired") == Some(PageStep::Authenticate)
            {
                done.afterwards = Afterwards::Confirms(page);
            }
        }
        Second::IsRefused => {
            if let Some(page) = stage.open().await {
                gives(stage, &page, "pm_card_chargeDeclined");
            }
        }
        Second::PaysAndIsRefunded | Second::PaysAndDisputes => {
            done.stops = pays(stage).await && !stage.is_deaf;
            given_back(stage, act == Second::PaysAndDisputes);
            walk::events(stage).await;
            job(stage, Job::Receive).await;
        }
        Second::Disputes => {
            stage.world.sandbox.dispute(&stage.earlier);
            walk::events(stage).await;
            job(stage, Job::Receive).await;
            done.stops = !stage.is_deaf;
        }
        Second::SavesACard => saves_a_card(stage).await,
        Second::DetachesTheCard => {
            let path = format!("/v1/payment_methods/{}/detach", stage.card);
            at_stripe(stage, &Request::post(path, &[]));
            walk::events(stage).await;
            job(stage, Job::Receive).await;
            done.stops = !stage.is_deaf;
        }
        Second::DeletesTheCustomer => {
            at_stripe(stage, &Request { method: Method::DELETE, ..Request::get("/v1/customers/cus_ann") });
            walk::events(stage).await;
            job(stage, Job::Receive).await;
            done.stops = !stage.is_deaf;
        }
        Second::CancelSubscription => {
            let (ctx, id) = (stage.world.ctx.clone(), stage.subscription);
            done.stops =
                all(Box::pin(async move { manage::cancel(&ctx, id, "test", "x").await.is_ok() })).await;
        }
        Second::Pause => {
            let (ctx, id) = (stage.world.ctx.clone(), stage.subscription);
            done.stops =
                all(Box::pin(async move { manage::pause(&ctx, id, "test", "x").await.is_ok() })).await;
        }
        Second::CancelCharge => done.stops = command(stage, ChargeCommand::Cancel).await,
        Second::MarkPaid => done.stops = command(stage, ChargeCommand::MarkPaid).await,
        Second::CollectNow => {
            command(stage, ChargeCommand::CollectNow).await;
            job(stage, Job::Collect).await;
        }
    }
    done
}

/// The customer goes on with what was begun.
pub fn afterwards(stage: &Stage, what: Afterwards) {
    match what {
        Afterwards::Nothing => {}
        Afterwards::Pays(page) => drop(gives(stage, &page, "pm_card_mastercard")),
        Afterwards::Confirms(page) => drop(stage.world.sandbox.answer_three_d_secure(&page, true)),
    }
}

async fn job(stage: &Stage, job: Job) {
    let ctx = stage.world.ctx.clone();
    all(Box::pin(async move { ctx.run_once(job, 100).await.unwrap() })).await;
}

async fn command(stage: &Stage, command: ChargeCommand) -> bool {
    let (ctx, id) = (stage.world.ctx.clone(), stage.charge);
    all(Box::pin(async move { manage::command(&ctx, id, command, "test", "x").await.is_ok() })).await
}

/// Gives a card to a page. `None`: the page takes none any more.
fn gives(stage: &Stage, page: &str, card: &str) -> Option<PageStep> {
    let entry = CardEntry { card: card.into(), ..CardEntry::default() };
    stage.world.sandbox.submit_card(page, &entry).ok()
}

async fn pays(stage: &Stage) -> bool {
    let Some(page) = stage.open().await else { return false };
    matches!(gives(stage, &page, "pm_card_mastercard"), Some(PageStep::Done { .. }))
}

/// What was paid for Ann's charge goes back.
fn given_back(stage: &Stage, disputed: bool) {
    let id = stage.charge.to_string();
    let books = stage.world.sandbox.books();
    let paid = books
        .charges
        .iter()
        .find(|one| one.status == "succeeded" && one.metadata.get("recurd_charge") == Some(&id));
    match paid {
        Some(paid) if disputed => stage.world.sandbox.dispute(&paid.id),
        Some(paid) => at_stripe(stage, &Request::post("/v1/refunds", &[("charge", paid.id.as_str())])),
        None => {}
    }
}

async fn saves_a_card(stage: &Stage) {
    let ctx = stage.world.ctx.clone();
    let id = ctx.instance.customer("cus_ann");
    let customer = ctx.store.find_customer(id).await.unwrap().unwrap();
    let url = all(Box::pin(async move { enrol::open(&ctx, &customer, None).await })).await.unwrap();
    let page = url.split(['/', '?', '#']).find(|part| part.starts_with("cs_")).unwrap().to_owned();
    gives(stage, &page, "pm_card_amex");
    let ctx = stage.world.ctx.clone();
    all(Box::pin(async move { enrol::complete(&ctx, &page).await })).await.unwrap();
    job(stage, Job::Notify).await;
}

fn at_stripe(stage: &Stage, request: &Request) {
    let outcome = stage.world.sandbox.handle(request);
    assert_eq!(
        outcome.response().expect("an answer").status,
        200,
        "{:?}",
        outcome.response().map(|one| one.value())
    );
}
