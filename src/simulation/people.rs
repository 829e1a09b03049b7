//! Customers who read mails and click, and operators who decide.

use super::rng::Rng;
use super::sim::{End, Sim};
use super::stage;
use super::truth::Letter;
use crate::flows::enrol;
use crate::flows::manage::{self, ChargeCommand};
use crate::flows::pay_link::{self, CLICK_LIFE, Opened};
use crate::flows::{Ctx, FlowError, card_link, receive};
use crate::sandbox::{CardEntry, PageStep};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const CARDS: &[&str] = &["pm_card_visa", "pm_card_mastercard", "pm_card_amex", "pm_card_discover"];

/// What somebody does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Follows the link of a mail.
    Click(Click),
    /// Gives a card on Stripe's page.
    Pay { session: String, tries: u32 },
    /// Answers the bank's question.
    Confirm { session: String },
    /// Lets Stripe's page bring them back.
    Return { session: String },
    /// Calls because of the page they have open, and an operator ends the charge.
    Call { session: String },
    /// An operator looks at a random thing.
    Operate,
    /// A new customer is enrolled.
    Enrol { number: u32 },
    /// An operator looks at what waits for a person.
    Review,
    /// A customer saves another card, without being asked.
    NewCard { charge: String },
    /// The nightly backup.
    BackUp,
    /// It comes back; or the old one `stays` beside it.
    Restore { file: usize, stays: bool },
    /// It is started beside the database.
    Fork { file: usize },
    /// Somebody stops the copy.
    StopCopy,
    /// An operator looks whether the database is behind, and how far.
    Recover,
    /// An operator agrees to a plan.
    Agree { hash: String },
    /// Somebody gives money back on Stripe's own pages, or a bank takes it back.
    Dashboard,
}

/// A customer with a mail open.
#[derive(Clone, Debug)]
pub(super) struct Click {
    token: String,
    /// How often they come back when the page is busy.
    patience: u32,
    /// They only look.
    leaves: bool,
}

impl Click {
    /// Who is shown Stripe's page at once.
    pub(super) fn straight() -> Self {
        Self { token: String::new(), patience: 0, leaves: false }
    }
}

/// All of them.
pub(super) struct People {
    pub(super) rng: Rng,
    /// Nobody begins anything new.
    pub(super) is_quiet: bool,
}

impl People {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed, "people"), is_quiet: false }
    }

    /// What is on the calendar: instants and acts.
    pub(super) fn begin(&mut self, begin_ms: i64, days: i64) -> Vec<(i64, Act)> {
        let mut acts = Vec::new();
        for day in 0..days {
            let mut at = || begin_ms + day * DAY_MS + self.rng.between(0, DAY_MS);
            acts.push((at(), Act::Review));
            acts.push((at(), Act::Operate));
            acts.push((at(), Act::BackUp));
            if day % 4 == 0 {
                acts.push((at(), Act::Dashboard));
            }
            if day % 15 == 3 {
                let number = u32::try_from(day).unwrap_or(0);
                acts.push((at(), Act::Enrol { number }));
            }
        }
        acts
    }

    /// A mail arrives: some follow its link, late, twice, or never.
    pub(super) fn read(&mut self, letter: &Letter) -> Vec<(i64, Act)> {
        let Some(token) = letter.token() else { return Vec::new() };
        let rng = &mut self.rng;
        let click =
            |rng: &mut Rng| Act::Click(Click { token: token.clone(), patience: 3, leaves: rng.chance(2000) });
        match rng.below(10) {
            0..4 => Vec::new(),
            4 | 5 => vec![(rng.between(MINUTE_MS, 8 * HOUR_MS), click(rng))],
            // Just when the machine tries again.
            6 => vec![(rng.between(1, 5) * DAY_MS + rng.between(-30_000, 30_000), click(rng))],
            7 => {
                let first = rng.between(MINUTE_MS, 4 * DAY_MS);
                let second = first + rng.between(0, 2_000);
                vec![(first, click(rng)), (second, click(rng))]
            }
            8 => vec![(rng.between(10 * DAY_MS, 40 * DAY_MS), click(rng))],
            _ => {
                let first = rng.between(MINUTE_MS, DAY_MS);
                vec![(first, click(rng)), (first + rng.between(HOUR_MS, 3 * DAY_MS), click(rng))]
            }
        }
    }
}

impl Sim {
    pub(super) async fn act(&mut self, act: Act) {
        stage::note(|| format!("{act:?}"));
        match act {
            Act::Click(click) => self.click(click).await,
            Act::Pay { session, tries } => self.pay(&session, tries),
            Act::Confirm { session } => {
                let passed = self.people.rng.chance(8000);
                let step = stage::with(|stage| stage.sandbox.answer_three_d_secure(&session, passed));
                self.after_page(session, step.ok(), 9);
            }
            Act::Return { session } => {
                let Some(at) = self.any_replica() else { return };
                self.spawn(at, None, |ctx| {
                    Box::pin(async move {
                        // As the page does: first a card page, then a payment.
                        if !matches!(enrol::complete(&ctx, &session).await, Ok(enrol::Completed::Saved)) {
                            let _ = receive::returned(&ctx, &session).await;
                        }
                        End::Done
                    })
                })
                .await;
            }
            Act::Operate
            | Act::Review
            | Act::BackUp
            | Act::Dashboard
            | Act::NewCard { .. }
            | Act::Restore { .. }
            | Act::Fork { .. }
            | Act::Enrol { .. }
                if self.people.is_quiet => {}
            Act::Call { session } => self.end_charge_of(&session).await,
            Act::Operate => self.operate().await,
            Act::Review => self.review().await,
            Act::NewCard { charge } => self.new_card(&charge).await,
            Act::BackUp => {
                self.look_at_cards().await;
                self.go_dark().await;
                self.back_up().await;
            }
            Act::Dashboard => self.dashboard(),
            Act::Restore { file, stays } => self.restore(file, stays).await,
            Act::Fork { file } => self.fork(file).await,
            Act::StopCopy => self.stop_copy().await,
            Act::Recover => self.plan_recovery().await,
            Act::Agree { hash } => self.confirm_recovery(hash).await,
            Act::Enrol { number } => self.enrol(number).await,
        }
    }

    async fn click(&mut self, click: Click) {
        let Some(at) = self.any_replica() else { return };
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let opened = follow(&ctx, &click.token).await.ok().flatten();
                stage::note(|| format!("  the click leads to {opened:?}"));
                End::Clicked(click, opened)
            })
        })
        .await;
    }

    /// The page is there, or something else is.
    pub(super) fn clicked(&mut self, click: Click, opened: Option<Opened>) {
        match opened {
            Some(Opened::Url(_)) if click.leaves => {}
            Some(Opened::Url(url)) => {
                let session = url.rsplit('/').next().unwrap_or_default().to_owned();
                // Most pay within minutes; some come back when the page is long dead.
                let wait = match self.people.rng.below(10) {
                    0..7 => self.people.rng.between(20_000, 10 * MINUTE_MS),
                    7 | 8 => self.people.rng.between(50 * MINUTE_MS, 62 * MINUTE_MS),
                    _ => self.people.rng.between(0, 3000),
                };
                self.changes_their_mind(&session, wait);
                self.act_in(wait, Act::Pay { session, tries: 0 });
            }
            Some(Opened::Busy) | None if click.patience > 0 => {
                let wait = self.people.rng.between(1000, 5 * MINUTE_MS);
                self.act_in(wait, Act::Click(Click { patience: click.patience - 1, ..click }));
            }
            Some(Opened::Busy | Opened::Later(_) | Opened::Paid | Opened::Closed) | None => {}
        }
    }

    fn pay(&mut self, session: &str, tries: u32) {
        let card = (*self.people.rng.pick(CARDS)).to_owned();
        let entry = CardEntry { card, terms_accepted: true, save: true, ..CardEntry::default() };
        let step = stage::with(|stage| stage.sandbox.submit_card(session, &entry));
        self.after_page(session.to_owned(), step.ok(), tries);
    }

    fn after_page(&mut self, session: String, step: Option<PageStep>, tries: u32) {
        stage::note(|| format!("  the page says {step:?}"));
        let rng = &mut self.people.rng;
        match step {
            Some(PageStep::Done { .. }) if rng.chance(6000) => {
                let wait = rng.between(200, 5_000);
                self.act_in(wait, Act::Return { session });
            }
            Some(PageStep::Authenticate) if rng.chance(8500) => {
                let wait = rng.between(5_000, 20 * MINUTE_MS);
                self.act_in(wait, Act::Confirm { session });
            }
            Some(PageStep::Refused { .. }) if tries < 3 && rng.chance(6000) => {
                let wait = rng.between(10_000, 10 * MINUTE_MS);
                self.act_in(wait, Act::Pay { session, tries: tries + 1 });
            }
            Some(_) | None => {}
        }
    }

    /// One of the commands that operators have, on something at random.
    async fn operate(&mut self) {
        let Some(at) = self.any_replica() else { return };
        let rng = &mut self.people.rng;
        let subscriptions: Vec<String> = self.main.mirror.subscriptions.keys().cloned().collect();
        let open = self.main.mirror.open_charges();
        let customers: Vec<String> = self.main.mirror.customers.keys().cloned().collect();
        let (Some(subscription), Some(customer)) = (pick(rng, &subscriptions), pick(rng, &customers)) else {
            return;
        };
        let charge = pick(rng, &open);
        let (choice, number, wait) = (rng.below(20), rng.between(1, 9_999), rng.between(0, 6 * DAY_MS));
        let held = self
            .main
            .mirror
            .customers
            .get(&customer)
            .and_then(|one| one.hold.as_ref().map(|_| one.stripe.clone()));
        let one_off = u32::try_from(number).unwrap_or(1);
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let done = match choice {
                    0 => cancel(&ctx, &subscription).await,
                    1 => pause(&ctx, &subscription).await,
                    2..6 => resume(&ctx, &subscription).await,
                    6..8 => command(&ctx, charge, ChargeCommand::CollectNow).await,
                    8 => command(&ctx, charge, ChargeCommand::Cancel).await,
                    9 => command(&ctx, charge, ChargeCommand::MarkPaid).await,
                    10..14 => add_one_off(&ctx, &customer, one_off, wait).await,
                    _ => match held {
                        Some(stripe) => {
                            ctx.store.hold_customer(&stripe, None).await.map(|_| ()).map_err(Into::into)
                        }
                        None => Ok(()),
                    },
                };
                stage::note(|| format!("  operator {choice}: {done:?}"));
                End::Done
            })
        })
        .await;
    }

    /// Decides what waits for a person.
    async fn review(&mut self) {
        self.release_some().await;
        if self.main.is_behind() && self.people.rng.chance(2000) {
            self.plan_recovery().await;
        }
        let waiting = self.main.mirror.waiting_charges();
        let Some(charge) = pick(&mut self.people.rng, &waiting) else { return };
        let Some(at) = self.any_replica() else { return };
        let choice = *self.people.rng.pick(&[
            ChargeCommand::CollectNow,
            ChargeCommand::CollectNow,
            ChargeCommand::Cancel,
            ChargeCommand::MarkPaid,
        ]);
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let done = command(&ctx, Some(charge), choice).await;
                stage::note(|| format!("  operator {choice:?}: {done:?}"));
                End::Done
            })
        })
        .await;
    }

    /// Nobody is held, and nothing is paused, for ever.
    async fn release_some(&mut self) {
        let held: Vec<String> = self
            .main
            .mirror
            .customers
            .values()
            .filter(|one| one.hold.is_some())
            .map(|one| one.stripe.clone())
            .collect();
        let paused = self.main.mirror.subscriptions.values().filter(|one| one.state == "paused");
        let paused: Vec<String> = paused.map(|one| one.id.clone()).collect();
        let rng = &mut self.people.rng;
        let held = pick(rng, &held).filter(|_| rng.chance(3000));
        let paused = pick(rng, &paused).filter(|_| rng.chance(3000));
        let Some(at) = self.any_replica() else { return };
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                // What halted itself is looked at, and goes on.
                let _ = crate::flows::guard::resume(&ctx.store, "operator", "looked at", ctx.now()).await;
                if let Some(customer) = held {
                    let _ = ctx.store.hold_customer(&customer, None).await;
                }
                if let Some(subscription) = paused {
                    let _ = resume(&ctx, &subscription).await;
                }
                End::Done
            })
        })
        .await;
    }
}

pub(super) fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| rng.pick(of).clone())
}

async fn follow(ctx: &Ctx, token: &str) -> Result<Option<Opened>, FlowError> {
    if let Some(claimed) = pay_link::find(ctx, token).await? {
        return pay_link::open(ctx, claimed.charge.id, CLICK_LIFE).await.map(Some);
    }
    let Some(customer) = card_link::find(ctx, token).await? else { return Ok(None) };
    Ok(match card_link::open(ctx, &customer).await? {
        card_link::Opened::Url(url) => Some(Opened::Url(url)),
        card_link::Opened::Saved => None,
    })
}

async fn cancel(ctx: &Ctx, subscription: &str) -> Result<(), FlowError> {
    let Ok(id) = subscription.parse() else { return Ok(()) };
    manage::cancel(ctx, id, "operator", "as asked").await.map(|_| ())
}

async fn pause(ctx: &Ctx, subscription: &str) -> Result<(), FlowError> {
    let Ok(id) = subscription.parse() else { return Ok(()) };
    manage::pause(ctx, id, "operator", "as asked").await
}

async fn resume(ctx: &Ctx, subscription: &str) -> Result<(), FlowError> {
    let Ok(id) = subscription.parse() else { return Ok(()) };
    manage::resume(ctx, id, "operator").await
}

pub(super) async fn command(ctx: &Ctx, charge: Option<String>, what: ChargeCommand) -> Result<(), FlowError> {
    let Some(id) = charge.and_then(|id| id.parse().ok()) else { return Ok(()) };
    manage::command(ctx, id, what, "operator", "as decided").await.map(|_| ())
}

async fn add_one_off(ctx: &Ctx, customer: &str, number: u32, wait_ms: i64) -> Result<(), FlowError> {
    let Ok(id) = customer.parse() else { return Ok(()) };
    let currency = "eur"
        .parse()
        .map_err(|error: crate::billing::money::MoneyError| FlowError::Refused(error.to_string()))?;
    let amount = crate::billing::money::Money::from_minor(i64::from(number) + 100, currency)
        .map_err(|error| FlowError::Refused(error.to_string()))?;
    let due = jiff::Timestamp::from_millisecond(stage::now_ms() + wait_ms).unwrap_or_default();
    let due = jiff::Timestamp::from_second(due.as_second()).unwrap_or_default();
    manage::add_one_off(ctx, id, amount, due, "One-off", &format!("reference {number}")).await.map(|_| ())
}
