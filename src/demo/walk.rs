//! Ninety days, hour by hour.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::people::{CLICKERS, ENROLLED};
use super::world::{World, seed_csv};
use crate::billing::subscription::SubscriptionState;
use crate::flows::enrol::{Person, add_customer, add_subscription};
use crate::flows::{Job, Report, enrol, import, pay_link};

/// How long the demo walks.
pub const DAYS: i64 = 90;
const HOUR: Duration = Duration::from_secs(3600);
/// Limit: a job that still finds work after so many rounds of one tick is going in circles.
const ROUNDS_MAX: usize = 50;

/// What happened on the way.
#[derive(Debug, Default)]
pub struct Walked {
    /// All reports together.
    pub report: Report,
    /// Mails that customers got.
    pub mails: u64,
    /// Links that customers clicked.
    pub clicks: u64,
    /// Problems by job.
    pub problems: Vec<String>,
}

/// A customer who will click a link.
struct Click {
    at: Timestamp,
    token: String,
    card: &'static str,
}

/// Imports the file, enrols some people on the hosted page, and walks. `progress` hears each finished day.
///
/// # Errors
/// When a flow cannot go on.
pub async fn walk(world: &World, csv: &std::path::Path, progress: impl Fn(i64)) -> Result<Walked> {
    let mut walked = Walked::default();
    seed_csv(&world.sandbox, csv)?;
    import_file(world, csv).await?;
    enrol_people(world).await?;
    let start = world.clock.now();
    let mut clicks: Vec<Click> = Vec::new();
    let mut seen_mails = std::collections::HashSet::new();
    for hour in 0..DAYS * 24 {
        tick(world, &mut walked).await?;
        read_mail(world, &mut seen_mails, &mut clicks, &mut walked).await?;
        click_links(world, &mut clicks, &mut walked).await?;
        world.clock.set(start.checked_add(HOUR * u32::try_from(hour + 1)?)?);
        world.sandbox.tick();
        if (hour + 1) % 24 == 0 {
            progress((hour + 1) / 24);
        }
    }
    tick(world, &mut walked).await?;
    Ok(walked)
}

/// Everything that is due, once, as `recurd run` does it.
///
/// # Errors
/// When a flow cannot go on.
pub(super) async fn tick(world: &World, walked: &mut Walked) -> Result<()> {
    world.deliver_webhooks().await;
    for job in Job::ALL {
        for _ in 0..ROUNDS_MAX {
            let report =
                world.ctx.run_once(job, world.ctx.config.limits.batch).await.with_context(|| job.as_str())?;
            let taken = report.taken;
            walked.problems.extend(report.problems.iter().cloned());
            walked.report.merge(report);
            if taken == 0 {
                break;
            }
        }
    }
    Ok(())
}

async fn import_file(world: &World, csv: &std::path::Path) -> Result<()> {
    let checked = import::check(&world.ctx, &csv).with_context(|| csv.display().to_string())?;
    if let Some(bad) = checked.bad.first() {
        anyhow::bail!("{}:{}: {}", csv.display(), bad.line, bad.reason);
    }
    let imported = import::import(&world.ctx, csv, |_| {}).await?;
    if let Some(bad) = imported.bad.first() {
        anyhow::bail!("{}:{}: {}", csv.display(), bad.line, bad.reason);
    }
    Ok(())
}

async fn enrol_people(world: &World) -> Result<()> {
    for (index, (email, name, plan, card)) in ENROLLED.iter().enumerate() {
        let person = Person {
            stripe_customer: None,
            email: (*email).into(),
            name: (*name).into(),
            locale: "en".into(),
            time_zone: "Europe/Lisbon".into(),
        };
        let customer = add_customer(&world.ctx, &person).await?;
        let start = format!("2026-01-{:02}", 17 + index);
        let subscription =
            add_subscription(&world.ctx, &customer, plan, 1, &start, SubscriptionState::Pending).await?;
        let url = enrol::open(&world.ctx, &customer, Some(subscription.subscription_id())).await?;
        let session = session_in(&url).context("no session in the page's address")?;
        world.sandbox.complete_session(&session, card)?;
        if index == 0 {
            // One comes back through the return page; for the others the event does it.
            enrol::complete(&world.ctx, &session).await?;
        }
    }
    Ok(())
}

/// New `.eml` files: who wants to click makes a plan.
async fn read_mail(
    world: &World,
    seen: &mut std::collections::HashSet<PathBuf>,
    clicks: &mut Vec<Click>,
    walked: &mut Walked,
) -> Result<()> {
    let dir = world.dir.join("mail");
    let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "eml") || !seen.insert(path.clone()) {
            continue;
        }
        walked.mails += 1;
        let text = std::fs::read_to_string(&path)?;
        let Some(token) = token_in(&text) else { continue };
        if let Some(clicker) = CLICKERS.iter().find(|one| text.contains(one.email)) {
            let wait = Duration::from_secs(u64::try_from(clicker.days_later * 86_400)?);
            clicks.push(Click { at: world.clock.now().checked_add(wait)?, token, card: clicker.card });
        }
    }
    Ok(())
}

async fn click_links(world: &World, clicks: &mut Vec<Click>, walked: &mut Walked) -> Result<()> {
    let now = world.clock.now();
    let (due, later): (Vec<Click>, Vec<Click>) = clicks.drain(..).partition(|click| click.at <= now);
    *clicks = later;
    for click in due {
        let Some(claimed) = pay_link::find(&world.ctx, &click.token).await? else { continue };
        if let pay_link::Opened::Url(url) =
            pay_link::open(&world.ctx, claimed.charge.id, pay_link::CLICK_LIFE).await?
        {
            let session = session_in(&url).context("no session in the page's address")?;
            world.sandbox.complete_session(&session, click.card)?;
            walked.clicks += 1;
        }
    }
    Ok(())
}

fn session_in(url: &str) -> Option<String> {
    url.split(['/', '?', '#']).find(|part| part.starts_with("cs_")).map(str::to_owned)
}

/// The token of the pay link in a mail, whatever line breaks the encoding put into it.
fn token_in(mail: &str) -> Option<String> {
    let joined = mail.replace("=\r\n", "").replace("=\n", "");
    let token: String = joined.split("/pay/").nth(1)?.chars().take_while(char::is_ascii_hexdigit).collect();
    (token.len() == 32).then_some(token)
}
