//! The witness outside the database: how a restored backup, or a second copy, finds out that it is one.
//!
//! ```text
//! each hour   read the witness, then the database: does it know the nonces that the witness shows?
//!             with the newest      commit a new nonce, then show it
//!             older ones only      show the newest: somebody died, or was slow, between the two
//!             no, one is strange   look again, as long as others go on; then halt: only `recurd recover` lets charging go on
//! ```
//!
//! The newest sixteen are shown, each in the place that its first digit names: what Stripe writes late of an older one, days
//! after it was asked, hides none of the others.
//!
//! The witness is a customer at Stripe made for this: it survives the loss of the machine, and belongs to the account
//! that is charged. What an hour hides, idempotency keys cover: they are good for 20 hours.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use jiff::{SignedDuration, Timestamp};

use super::answers::{ATTEMPT, CHARGE, INSTANCE, is_of_page};
use super::{Ctx, FlowError, Result, guard};
use crate::billing::ids::ChargeId;
use crate::store::Instance;
use crate::stripe::customers::CustomerFields;
use crate::stripe::payment_intents::PaymentIntent;

/// How long an agreement counts, in seconds.
const AGREED_SECS: i64 = 3600;
/// A place for a nonce in the witness's metadata; a hexadecimal digit follows.
const NONCE: &str = "recurd_nonce_";
/// What a witness shows that somebody deleted: no database knows it.
pub(super) const DELETED: &str = "(deleted)";
/// How much longer ago than the newest nonce a recovery looks.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);
/// Limit: pages of the account's PaymentIntents, a hundred on each, that are read before the first witness is called.
const PAGES_MAX: usize = 100;
/// A nonce is shown within this time of its commit or not at all; the next look makes up for it.
const SHOW_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// What this process knows of the witness.
#[derive(Default)]
pub(super) struct Known {
    agreed_at: AtomicI64,
    recoveries: AtomicU32,
    /// Unix seconds; 0: never.
    recovered_at: AtomicI64,
}

impl Known {
    /// Takes note of a recovery, also one by another process.
    pub(super) fn learn(&self, instance: &Instance) {
        self.recoveries.store(instance.recoveries, Ordering::SeqCst);
        let recovered_at = instance.recovered_at.map_or(0, Timestamp::as_second);
        self.recovered_at.store(recovered_at, Ordering::SeqCst);
    }

    /// How often the database was recovered.
    pub(super) fn recoveries(&self) -> u32 {
        self.recoveries.load(Ordering::SeqCst)
    }

    /// When it was recovered last.
    pub(super) fn recovered_at(&self) -> Option<Timestamp> {
        let at = self.recovered_at.load(Ordering::SeqCst);
        Timestamp::from_second(at).ok().filter(|_| at > 0)
    }
}

/// What the witness says. Without its agreement nothing is charged, mailed or given up.
pub(super) enum View {
    /// The database is up to date.
    Agrees,
    /// It may not know what happened, or the key is refused: nothing goes on without a person.
    Differs(String),
    /// Stripe could not be asked: a little later.
    Unseen(String),
}

/// Looks at the witness, unless this process did so within the hour. Who has nothing to do need not look.
pub(super) async fn look(ctx: &Ctx) -> Result<View> {
    match differs(ctx).await {
        Ok(None) => Ok(View::Agrees),
        Ok(Some(why)) => Ok(View::Differs(why)),
        // A refusal will be one tomorrow too.
        Err(FlowError::Stripe(error @ crate::stripe::Error::Rejected(_))) => {
            Ok(View::Differs(error.to_string()))
        }
        Err(FlowError::Stripe(error)) => Ok(View::Unseen(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether it is on record that this database does not know what Stripe knows.
pub(super) async fn is_behind(ctx: &Ctx) -> Result<bool> {
    Ok(!mutant!(WitnessIgnored) && ctx.store.instance(ctx.now()).await?.behind_since.is_some())
}

async fn differs(ctx: &Ctx) -> Result<Option<String>> {
    let now = ctx.now();
    let agreed_secs = now.as_second() - ctx.witness.agreed_at.load(Ordering::SeqCst);
    if (0..AGREED_SECS).contains(&agreed_secs) || mutant!(WitnessIgnored) {
        return Ok(None);
    }
    let known = ctx.store.instance(now).await?;
    if known.behind_since.is_some() {
        return Ok(known.halted_why);
    }
    let why = match &known.witness {
        None => call(ctx, &known).await?,
        Some(witness) => compare(ctx, witness).await?,
    };
    if why.is_none() {
        ctx.witness.learn(&known);
        ctx.witness.agreed_at.store(now.as_second(), Ordering::SeqCst);
    }
    Ok(why)
}

/// Makes a backup from before this moment older than Stripe: called after what only the database knows, and Stripe could
/// not tell. Best effort: without it, a restored backup is found out at the next mark.
pub(super) async fn mark(ctx: &Ctx) {
    let marked = async {
        match ctx.store.instance(ctx.now()).await?.witness {
            Some(witness) => compare(ctx, &witness).await.map(|_| ()),
            None => Ok(()),
        }
    };
    let marked: Result<()> = marked.await;
    if let Err(error) = marked {
        tracing::warn!("No mark was left at Stripe: {error}");
    }
}

/// Reads the witness before the database: whoever changed the one had committed the other.
async fn compare(ctx: &Ctx, witness: &str) -> Result<Option<String>> {
    let mut seen_before = None;
    loop {
        let shown = shown(ctx, witness).await?;
        let now = ctx.now();
        let known = ctx.store.instance(now).await?;
        let newest = known.nonce.as_deref();
        let before: Vec<&str> = known.nonces_before.split_whitespace().collect();
        let is_known = |one: &str| newest == Some(one) || before.contains(&one);
        let all_known = shown.iter().all(|one| is_known(one));
        let shows_newest = newest.map_or(shown.is_empty(), |newest| shown.iter().any(|one| one == newest));
        if all_known && shows_newest {
            let new = after(newest);
            if ctx.store.next_nonce(newest, &new, now).await? {
                failpoint!("nonce committed");
                show(ctx, witness, &new, now).await?;
            }
            return Ok(None);
        }
        // Somebody died before the newest was shown. A witness that shows none is a new one.
        let is_new = shown.is_empty() && before.is_empty();
        if let Some(newest) = newest.filter(|_| is_new || (all_known && !shown.is_empty())) {
            show(ctx, witness, newest, now).await?;
            return Ok(None);
        }
        // Others may have gone on between the two readings, however short that was: what was shown is older then, perhaps nothing.
        if seen_before.replace(known.nonce.clone()) != Some(known.nonce) && !mutant!(StrangerAtOnce) {
            continue;
        }
        let since = known.nonce_at.unwrap_or(known.created_at);
        let why = format!(
            "this database is older than what Stripe knows (its newest mark is of {since}), or a second copy of it is in \
             use: stop the copy, then look at `recurd recover`"
        );
        return behind(ctx, since, why).await.map(Some);
    }
}

async fn behind(ctx: &Ctx, since: Timestamp, why: String) -> Result<String> {
    let now = ctx.now();
    let since = since.checked_sub(MARGIN).unwrap_or(since);
    ctx.store.fall_behind(since, &why, now).await?;
    guard::halted(&ctx.store, guard::SELF, &why, now).await?;
    Ok(why)
}

/// A new nonce, whose place follows that of the newest.
pub(super) fn after(newest: Option<&str>) -> String {
    let place = newest.and_then(|nonce| nonce.chars().next()?.to_digit(16)).unwrap_or_default();
    let mut nonce = crate::chance::uuid().simple().to_string();
    nonce.replace_range(..1, &format!("{:x}", (place + 1) % 16));
    nonce
}

/// What the witness shows, if there is one.
pub(super) async fn seen(ctx: &Ctx, witness: Option<&str>) -> Result<Vec<String>> {
    match witness {
        Some(witness) => shown(ctx, witness).await,
        None => Ok(Vec::new()),
    }
}

/// The nonces that the witness shows.
async fn shown(ctx: &Ctx, witness: &str) -> Result<Vec<String>> {
    let customer = ctx.stripe.retrieve_customer(witness).await?.value;
    let Some(alive) = customer.active() else { return Ok(vec![DELETED.to_owned()]) };
    let places = alive.metadata.iter().filter(|(key, nonce)| key.starts_with(NONCE) && !nonce.is_empty());
    Ok(places.map(|(_, nonce)| nonce.clone()).collect())
}

/// Shows a nonce that was the newest at an instant; not much later, since by then there may be a newer one.
pub(super) async fn show(ctx: &Ctx, witness: &str, nonce: &str, newest_at: Timestamp) -> Result<()> {
    let place = format!("{NONCE}{}", nonce.get(..1).unwrap_or_default());
    let body = CustomerFields { metadata: &[(&place, nonce)], ..CustomerFields::default() }.encode();
    // Another key each time: Stripe must write it again, not say again that it did.
    let key = format!("recurd:{}:witness:{nonce}:{}", ctx.instance, newest_at.as_second());
    let client = ctx.stripe.not_after(newest_at.checked_add(SHOW_WITHIN).unwrap_or(newest_at));
    client.update_customer(witness, body, &key).await?;
    Ok(())
}

/// Calls the first witness, unless Stripe knows already what this database does not.
async fn call(ctx: &Ctx, known: &Instance) -> Result<Option<String>> {
    if let Some(why) = not_the_first(ctx, known).await? {
        return Ok(Some(why));
    }
    if ctx.store.instance(ctx.now()).await?.witness.is_some() {
        return Ok(None); // Another process was faster, and its witness has agreed.
    }
    match make(ctx, known.recoveries).await? {
        Some(witness) => compare(ctx, &witness).await,
        None => Ok(None),
    }
}

/// Makes the witness. `None`: somebody has deleted it within the day.
pub(super) async fn make(ctx: &Ctx, recoveries: u32) -> Result<Option<String>> {
    let id = ctx.instance.to_string();
    let fields = CustomerFields {
        name: Some("recurd witness (no customer: keep it)"),
        metadata: &[(INSTANCE, id.as_str())],
        ..CustomerFields::default()
    };
    let key = format!("recurd:{id}:witness:{recoveries}");
    // One key, one body: two processes that call at the same moment get the same witness.
    let made = ctx.stripe.create_customer(fields.encode(), &key).await?.value;
    let Some(made) = made.active() else { return Ok(None) };
    ctx.store.set_witness(&made.id).await?;
    failpoint!("witness known");
    // Who slept for longer than the key is good for has made a second one: what is on record counts.
    Ok(ctx.store.instance(ctx.now()).await?.witness)
}

/// Whether the account's newest PaymentIntents, other tools' among them, name a charge that a database without a witness
/// should know.
async fn not_the_first(ctx: &Ctx, known: &Instance) -> Result<Option<String>> {
    let mut newest = ctx.stripe.payment_intents_since(Timestamp::UNIX_EPOCH);
    for _ in 0..PAGES_MAX {
        let Some(page) = newest.next().await? else { break };
        // Read after the list: without a witness even now, nobody on this database had collected when it was read.
        if let Some(witness) = ctx.store.instance(ctx.now()).await?.witness {
            return compare(ctx, &witness).await;
        }
        for intent in &page {
            if let Some(why) = strange(ctx, known, intent).await? {
                return Ok(Some(why));
            }
        }
    }
    Ok(None)
}

/// What a PaymentIntent proves: this database should know it, and does not.
async fn strange(ctx: &Ctx, known: &Instance, intent: &PaymentIntent) -> Result<Option<String>> {
    let (Some(instance), Some(charge)) = (intent.metadata.get(INSTANCE), intent.metadata.get(CHARGE)) else {
        return Ok(None);
    };
    if *instance != ctx.instance.to_string() {
        if known.cleared_at.is_some() || instance.is_empty() {
            return Ok(None);
        }
        let why = format!(
            "Stripe knows charges of another recurd database ({instance}), this one has never charged: restore that \
             one, or, if both are meant to use this account, `recurd resume`"
        );
        guard::halt(&ctx.store, guard::SELF, &why, ctx.now()).await?;
        return Ok(Some(why));
    }
    // A database without a witness never collected; a customer may have paid on a page.
    let on_page = is_of_page(intent) || !intent.metadata.contains_key(ATTEMPT);
    let is_known = match charge.parse::<ChargeId>() {
        Ok(id) => on_page && ctx.store.find_charge(id).await?.is_some(),
        Err(_) => true,
    };
    if is_known {
        return Ok(None);
    }
    let why = format!("Stripe knows more of charge {charge} than this database: look at `recurd recover`");
    behind(ctx, known.created_at, why).await.map(Some)
}
