//! `recurd demo` and `recurd sandbox`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Exit, Global, show};
use crate::config::Config;
use crate::demo::{Audit, DAYS, World, WorldOptions, audit_demo, shown, walk};

const CUSTOMERS: &str = include_str!("../../examples/customers.csv");
const SCHEDULES: &str = include_str!("../../schedules.toml");

/// Arguments of `recurd demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep database and mails in this directory (must be empty or new).
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Every chance follows from this number: the same seed, the same sums.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Afterwards keep daemon, pages and sandbox up, so that you can click. Stop with ctrl-c.
    #[arg(long)]
    serve: bool,
}

/// Arguments of `recurd sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Address and port, on this machine only.
    #[arg(long, default_value = "127.0.0.1:12111")]
    listen: SocketAddr,
}

pub(super) async fn demo(global: &Global, args: DemoArgs) -> Result<Exit> {
    let dir = match &args.keep {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("recurd-demo-{}", uuid::Uuid::new_v4().simple())),
    };
    let files = prepare(&dir)?;
    let mut config = Config::load_with(Some(&files.schedules), &std::collections::BTreeMap::new())?;
    config.public_url = Some("http://127.0.0.1:8080".into());
    let start = "2026-01-01T00:00:00Z".parse()?;
    let world = World::new(WorldOptions {
        seed: args.seed,
        start,
        dir: dir.clone(),
        config,
        database_url: None,
        mailer: None,
    })
    .await?;
    let bar = if std::io::stderr().is_terminal() && !global.json {
        show::progress(DAYS.unsigned_abs(), "days")
    } else {
        indicatif::ProgressBar::hidden()
    };
    let walked = walk(&world, &files.customers, |day| bar.set_position(day.unsigned_abs())).await?;
    bar.finish_and_clear();
    let audit = audit_demo(&world).await?;
    if global.json {
        show::json(
            &serde_json::json!({ "audit": audit, "mails": walked.mails, "clicks": walked.clicks, "problems": walked.problems }),
        );
    } else {
        print(&audit, &walked, &dir);
    }
    if args.serve {
        crate::demo::serve(&world).await?;
    }
    world.ctx.store.close().await;
    Ok(if audit.findings.is_empty() { Exit::Done } else { Exit::Person })
}

struct Files {
    schedules: PathBuf,
    customers: PathBuf,
}

fn prepare(dir: &std::path::Path) -> Result<Files> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    if dir.join("recurd.db").exists() {
        anyhow::bail!(crate::flows::FlowError::Refused(format!(
            "{} holds a database already: choose a new directory",
            dir.display()
        )));
    }
    let files = Files { schedules: dir.join("schedules.toml"), customers: dir.join("customers.csv") };
    std::fs::write(&files.schedules, SCHEDULES)?;
    std::fs::write(&files.customers, CUSTOMERS)?;
    Ok(files)
}

fn print(audit: &Audit, walked: &crate::demo::Walked, dir: &std::path::Path) {
    let some = |count: u64| if count == 0 { "-".to_owned() } else { count.to_string() };
    let rows = audit.lines.iter().map(|line| {
        [
            line.name.clone(),
            line.card.clone(),
            some(line.collected),
            some(line.by_retry),
            some(line.by_link),
            some(line.given_up),
            some(line.open),
            shown(&line.sums),
        ]
    });
    let header = ["customer", "card", "collected", "by retry", "by link", "given up", "open", "sum"];
    say!("{}", show::table(header, rows));
    say!("{}", ends(audit));
    say!("{DAYS} days, {} charges, {} mails, {} links clicked", audit.charges, walked.mails, walked.clicks);
    say!("collected, by our books:     {}", shown(&audit.ours));
    say!("collected, by Stripe's:      {}", shown(&audit.stripes));
    if audit.findings.is_empty() {
        say!("no charge was collected twice, and none was forgotten");
    }
    for finding in &audit.findings {
        say!("WRONG: {finding}");
    }
    for problem in &walked.problems {
        say!("for a person: {problem}");
    }
    say!("mails: {}\ndatabase: {}", dir.join("mail").display(), dir.join("recurd.db").display());
}

/// Who was declined for what, and what became of it.
fn ends(audit: &Audit) -> String {
    let classes: BTreeSet<&str> =
        audit.ends.iter().map(|one| one.class.as_str()).filter(|class| !class.is_empty()).collect();
    let names = |class: &str, end: &str| {
        let all = audit.ends.iter().filter(|one| one.class == class && one.end == end);
        all.map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let rows = classes.into_iter().map(|class| {
        let [retry, link, given_up, open] =
            ["by retry", "by link", "given up", "open"].map(|end| names(class, end));
        [class.to_owned(), retry, link, given_up, open]
    });
    show::table(["first decline", "by retry", "by link", "given up", "open"], rows).to_string()
}

pub(super) async fn sandbox(args: SandboxArgs) -> Result<Exit> {
    if !args.listen.ip().is_loopback() {
        let text =
            format!("the sandbox listens on this machine only, not on {}: use 127.0.0.1", args.listen.ip());
        return Err(crate::flows::FlowError::Refused(text).into());
    }
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    say!("Stripe sandbox on http://{address} (any sk_test_ key); what there is: http://{address}/_sandbox/");
    let options = crate::sandbox::Options {
        public_url: format!("http://{address}"),
        ..crate::sandbox::Options::standalone()
    };
    let mut signals = crate::daemon::StopSignals::new()?;
    let stop = async move { signals.next().await };
    crate::sandbox::Sandbox::new(options).serve(listener, stop).await?;
    Ok(Exit::Done)
}
