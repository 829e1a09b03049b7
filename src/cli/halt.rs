//! `recurd halt`, `recurd resume`: the emergency stop.

use anyhow::{Result, bail};
use serde::Serialize;

use super::{Exit, Global, setup, show};
use crate::clock::Clock;
use crate::flows::guard;

/// Arguments of `recurd halt` and `recurd resume`.
#[derive(Debug, clap::Args)]
pub struct HaltArgs {
    /// For the audit trail, and for whoever meets the halt.
    #[arg(long)]
    why: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Answer {
    halted_why: Option<String>,
    changed: bool,
}

pub(super) async fn halt(global: &Global, args: &HaltArgs) -> Result<Exit> {
    let store = setup::store(&setup::config(global)?).await?;
    let before = store.halted().await?;
    let changed = before.is_none();
    if changed && !args.dry_run {
        guard::halt(&store, &show::who(), &args.why, Clock::system().now()).await?;
    }
    match &before {
        None => answer(global, args, changed, Some(&args.why), "Nothing is charged from now on"),
        Some(why) => answer(global, args, changed, Some(why), &format!("Charging was halted already: {why}")),
    }
    Ok(Exit::Done)
}

pub(super) async fn resume(global: &Global, args: &HaltArgs) -> Result<Exit> {
    let store = setup::store(&setup::config(global)?).await?;
    let now = Clock::system().now();
    let known = store.instance(now).await?;
    if known.behind_since.is_some() {
        bail!("charging goes on after `recurd recover` only: {}", known.halted_why.unwrap_or_default());
    }
    let before = known.halted_why;
    if before.is_some() && !args.dry_run {
        guard::resume(&store, &show::who(), &args.why, now).await?;
    }
    match &before {
        Some(why) => answer(global, args, true, None, &format!("Charging goes on. It was halted: {why}")),
        None => answer(global, args, false, None, "Charging was not halted"),
    }
    Ok(Exit::Done)
}

fn answer(global: &Global, args: &HaltArgs, changed: bool, halted_why: Option<&str>, sentence: &str) {
    if global.json {
        show::json(&Answer { halted_why: halted_why.map(str::to_owned), changed: changed && !args.dry_run });
    } else if args.dry_run {
        say!("{sentence} (dry run: nothing was done).");
    } else {
        say!("{sentence}.");
    }
}
