//! `recurd mail`: look at the mails, and see whether they arrive.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Exit, Global, setup, show};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::pages;
use crate::mail::{Mail, MailName, Mailbox, MessageId, preview};
use crate::template::Templates;

/// What can be done with mails.
#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Write every mail and page in every language, with sample data, into a directory.
    Preview(PreviewArgs),
    /// Send one mail with sample data, to see whether and how it arrives.
    Test(TestArgs),
}

/// Arguments of a preview.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// Where the files go; index.html lists them.
    #[arg(long, default_value = "mail-preview")]
    dir: PathBuf,
    /// Only this language.
    #[arg(long)]
    locale: Option<String>,
    /// Open the list in a browser.
    #[arg(long)]
    open: bool,
}

/// Arguments of a test mail.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Who gets it.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Which mail: save_card, upcoming_charge, receipt, card_expiring, payment_failed, authentication_required,
    /// last_notice, recovered, subscription_ended.
    #[arg(long, value_name = "MAIL", default_value = "payment_failed")]
    mail: MailName,
    /// Its language.
    #[arg(long)]
    locale: Option<String>,
}

pub(super) async fn mail(global: &Global, command: MailCommand) -> Result<Exit> {
    let config = setup::config(global)?;
    let templates = Templates::load(config.mail.templates.as_deref())?;
    let templates = templates.with_default_locale(&config.brand.locale);
    match command {
        MailCommand::Preview(args) => write_preview(global, &args, &templates),
        MailCommand::Test(args) => send_test(global, &args, &config, &templates).await,
    }
}

fn write_preview(global: &Global, args: &PreviewArgs, templates: &Templates) -> Result<Exit> {
    let locales = match &args.locale {
        Some(locale) => vec![locale.clone()],
        None => preview::locales(templates),
    };
    let mut files = preview::write_all(&args.dir, templates, &locales)?;
    for locale in &locales {
        files.extend(pages::write_all(&args.dir, templates, locale)?);
    }
    let index = args.dir.join("index.html");
    if global.json {
        show::json(&serde_json::json!({ "index": index, "files": files.len() }));
    } else {
        say!("{} files in {}: {}", files.len(), args.dir.display(), locales.join(", "));
        say!("open {}", index.display());
    }
    if args.open {
        open(&index)?;
    }
    Ok(Exit::Done)
}

fn open(index: &Path) -> Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = Command::new(opener).arg(index).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = started.with_context(|| format!("{opener} could not be started"))?;
    if status.success() { Ok(()) } else { Err(anyhow!("{opener} ended with {status}")) }
}

async fn send_test(global: &Global, args: &TestArgs, config: &Config, templates: &Templates) -> Result<Exit> {
    let head = setup::letterhead(config)?;
    let clock = Clock::system();
    let mailer = setup::mailer(config, &clock)?;
    let to: Mailbox = args.to.parse().context("--to")?;
    let locale = args.locale.as_deref().unwrap_or(&config.brand.locale);
    let letter = preview::letter(templates, args.mail, locale, &head.brand)?
        .ok_or_else(|| anyhow!("{} has no sample data", args.mail))?;
    let domain = head.from.email().rsplit('@').next().unwrap_or("localhost").to_owned();
    let id = MessageId::new(&format!("<{}@{domain}>", Uuid::new_v4()))?;
    let mut mail = Mail::new(id, head.from, to, letter, clock.now())?;
    mail.reply_to = head.reply_to;
    let accepted = mailer.send(&mail).await?;
    if global.json {
        show::json(&serde_json::json!({ "sent": true, "note": accepted.note }));
    } else {
        say!("sent: {}", accepted.note);
    }
    Ok(Exit::Done)
}
