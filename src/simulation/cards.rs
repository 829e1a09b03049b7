//! What comes between: customers who save a card while something is under way, operators with bad timing.

use super::people::{Act, Click, command, pick};
use super::sim::{End, Sim};
use super::stage;
use crate::flows::enrol::{self, Person};
use crate::flows::manage::ChargeCommand;
use crate::flows::pay_link::Opened;
use crate::flows::{Ctx, FlowError};
use crate::sandbox;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Sim {
    /// While nobody knows what became of an attempt, its customer may well look for another card.
    pub(super) fn worry(&mut self, charge: String) {
        if self.people.rng.chance(3000) {
            let most = if self.people.rng.chance(5000) { HOUR_MS / 3 } else { 3 * HOUR_MS };
            let wait = self.people.rng.between(0, most);
            self.act_in(wait, Act::NewCard { charge });
        }
    }

    pub(super) async fn new_card(&mut self, charge: &str) {
        let (Some(at), Some(charge)) = (self.any_replica(), self.main.mirror.charges.get(charge)) else {
            return;
        };
        let customer = charge.customer.clone();
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let url = open_card_page(&ctx, &customer).await;
                stage::note(|| format!("  a page for another card: {url:?}"));
                shown_page(url)
            })
        })
        .await;
    }

    /// An operator puts a customer on hold just when a worker is about to write an attempt down.
    pub(super) async fn interfere(&mut self, place: &'static str) {
        if place != "P4..P5" || self.people.is_quiet || !self.people.rng.chance(100) {
            return;
        }
        let now = stage::now_ms() / 1000;
        let awake = self.main.mirror.charges.values().filter(|one| one.next_at.is_some_and(|at| at <= now));
        let customers: Vec<String> = awake
            .filter_map(|one| self.main.mirror.customers.get(&one.customer))
            .map(|one| one.stripe.clone())
            .collect();
        let (Some(at), false) = (self.any_replica(), customers.is_empty()) else { return };
        let customer = self.people.rng.pick(&customers).clone();
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let held = ctx.store.hold_customer(&customer, Some("a call from the customer")).await;
                stage::note(|| format!("  operator holds {customer}: {held:?}"));
                End::Done
            })
        })
        .await;
    }

    /// Somebody with a page open calls, and pays all the same, just before or after what they asked for is done.
    pub(super) fn changes_their_mind(&mut self, session: &str, pays_in_ms: i64) {
        let rng = &mut self.people.rng;
        if rng.chance(700) {
            let wait = pays_in_ms - rng.between(-5_000, 2 * 60_000);
            self.act_in(wait.max(0), Act::Call { session: session.to_owned() });
        }
    }

    /// An operator ends the charge that a page is for.
    pub(super) async fn end_charge_of(&mut self, session: &str) {
        let charge = stage::with(|stage| {
            let page = stage.truth.sessions.get(session)?;
            page.metadata.get("recurd_charge").cloned()
        });
        let Some(at) = self.any_replica().filter(|_| charge.is_some()) else { return };
        let what = *self.people.rng.pick(&[ChargeCommand::Cancel, ChargeCommand::MarkPaid]);
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let done = command(&ctx, charge, what).await;
                stage::note(|| format!("  operator {what:?}: {done:?}"));
                End::Done
            })
        })
        .await;
    }

    pub(super) async fn enrol(&mut self, number: u32) {
        let Some(at) = self.any_replica() else { return };
        let now_ms = stage::now_ms();
        let day = jiff::Timestamp::from_millisecond(now_ms + 2 * DAY_MS).unwrap_or_default();
        let start = day.strftime("%Y-%m-%d").to_string();
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let url = open_enrolment(&ctx, number, &start).await;
                stage::note(|| format!("  enrolment: {url:?}"));
                shown_page(url)
            })
        })
        .await;
    }

    /// Somebody gives money back on Stripe's own pages, or a bank takes it back.
    pub(super) fn dashboard(&mut self) {
        let rng = &mut self.people.rng;
        stage::with(|stage| {
            let paid: Vec<String> = stage
                .truth
                .tries
                .values()
                .filter(|one| one.status == "succeeded")
                .map(|one| one.id.clone())
                .collect();
            let Some(charge) = pick(rng, &paid) else { return };
            if rng.chance(2000) {
                stage.note(|| format!("  a bank disputes {charge}"));
                stage.sandbox.dispute(&charge);
            } else {
                let request = sandbox::Request::post("/v1/refunds", &[("charge", charge.as_str())]);
                let outcome = stage.sandbox.handle(&request);
                stage
                    .note(|| format!("  refund of {charge}: {:?}", outcome.response().map(|one| one.status)));
            }
        });
    }
}

/// Whoever asked for a page goes there.
fn shown_page(url: Result<String, FlowError>) -> End {
    let session = url.ok().and_then(|url| url.rsplit('/').next().map(str::to_owned));
    End::Clicked(Click::straight(), session.map(Opened::Url))
}

async fn open_card_page(ctx: &Ctx, customer: &str) -> Result<String, FlowError> {
    let id = customer.parse().map_err(|_| FlowError::Refused(format!("no customer {customer}")))?;
    match ctx.store.find_customer(id).await? {
        Some(customer) => enrol::open(ctx, &customer, None).await,
        None => Err(FlowError::Refused("gone".into())),
    }
}

async fn open_enrolment(ctx: &Ctx, number: u32, start: &str) -> Result<String, FlowError> {
    let person = Person {
        stripe_customer: None,
        email: format!("new{number}@example.com"),
        name: "New".to_owned(),
        locale: "en".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
    };
    let customer = enrol::add_customer(ctx, &person).await?;
    let state = crate::billing::subscription::SubscriptionState::Pending;
    let subscription = enrol::add_subscription(ctx, &customer, "basic", 1, start, state).await?;
    if number.is_multiple_of(2) {
        return enrol::open_pay_now(ctx, &subscription).await;
    }
    enrol::open(ctx, &customer, Some(subscription.subscription_id())).await
}
