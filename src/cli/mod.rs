//! The command line: a file per verb.

#[macro_use]
mod show;

mod charges;
mod check;
mod demo;
mod dunning;
mod explain;
mod find;
mod halt;
mod mail;
mod notice;
mod people;
mod picture;
mod recover;
mod report;
mod run;
mod setup;
mod status;
mod subscriptions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::flows::Job;
use crate::telemetry::LogFormat;

/// Heading of what every command takes, so that it does not stand among a command's own options.
const EVERYWHERE: &str = "Everywhere";

/// Collects recurring charges on Stripe from customers who are not present, and never twice.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", env = "RECURD_CONFIG", default_value = "schedules.toml")]
    #[arg(global = true, help_heading = EVERYWHERE)]
    config: PathBuf,
    /// How log lines on standard error look.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, env = "RECURD_LOG_FORMAT")]
    #[arg(global = true, help_heading = EVERYWHERE)]
    log_format: LogFormat,
    /// Answer with JSON instead of text and tables.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the whole story: a sandbox, customers with cards of every temper, 90 days in seconds.
    Demo(demo::DemoArgs),
    /// Check the configuration and say what was understood.
    Check(check::CheckArgs),
    /// Bring the database schema up to date.
    Migrate,
    /// Reach for everything the configuration names: database, Stripe, mail, clock.
    Doctor,
    /// Do everything that is due once, then exit.
    Run(run::RunArgs),
    /// Run as a daemon: cron ticks, webhook, pay pages, metrics.
    Serve,
    /// Customers and their import.
    #[command(subcommand)]
    Customers(people::CustomersCommand),
    /// Subscriptions.
    #[command(subcommand)]
    Subscriptions(subscriptions::SubscriptionsCommand),
    /// Let a customer save a card on Stripe's page (and pay the first period there).
    #[command(visible_alias = "enrol")]
    Enroll(people::EnrollArgs),
    /// Charges.
    #[command(subcommand)]
    Charges(charges::ChargesCommand),
    /// The ladders after a decline: look at them, move open cases onto them, try others on the past.
    #[command(subcommand)]
    Dunning(dunning::DunningCommand),
    /// What came of declines: recovery, and when retries succeed.
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Look at the mails, and send one.
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// The story of a charge: what happened, why, what happens next and when.
    Explain {
        /// Our id or its beginning, or a pi_ or cs_ id.
        id: String,
    },
    /// Where everything stands; exit code 1 when a person should look.
    Status,
    /// Stop charging in every process on this database, within one call of each worker.
    Halt(halt::HaltArgs),
    /// Let charging go on after a halt.
    Resume(halt::HaltArgs),
    /// Bring a restored database up to what Stripe knows.
    Recover(recover::RecoverArgs),
    /// Play Stripe on this machine, for development and tests.
    Sandbox(demo::SandboxArgs),
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Work done; declines are work.
    Done,
    /// A person should look.
    Person,
    /// Called wrongly.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Person => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

impl Cli {
    /// How log lines look.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.global.log_format
    }

    /// Whether the command runs until it is stopped, and so says what it does in its log.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        matches!(self.command, Command::Serve)
    }
}

/// Carries a command out.
pub async fn dispatch(cli: Cli) -> Exit {
    let global = cli.global;
    let done = match cli.command {
        Command::Demo(args) => demo::demo(&global, args).await,
        Command::Check(args) => check::check(&global, &args),
        Command::Migrate => check::migrate(&global).await,
        Command::Run(args) => run::run(&global, &args).await,
        Command::Doctor => status::doctor(&global).await,
        Command::Serve => serve(&global).await,
        Command::Customers(command) => people::customers(&global, command).await,
        Command::Subscriptions(command) => subscriptions::subscriptions(&global, command).await,
        Command::Enroll(args) => people::enroll(&global, args).await,
        Command::Charges(command) => charges::charges(&global, command).await,
        Command::Dunning(command) => dunning::dunning(&global, command).await,
        Command::Report(command) => report::report(&global, &command).await,
        Command::Mail(command) => mail::mail(&global, command).await,
        Command::Explain { id } => explain::explain(&global, &id).await,
        Command::Status => status::status(&global).await,
        Command::Halt(args) => halt::halt(&global, &args).await,
        Command::Resume(args) => halt::resume(&global, &args).await,
        Command::Recover(args) => recover::recover(&global, &args).await,
        Command::Sandbox(args) => demo::sandbox(args).await,
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("recurd: {}", sentence(&error));
            exit_of(&error)
        }
    }
}

async fn serve(global: &Global) -> anyhow::Result<Exit> {
    crate::daemon::serve(setup::ctx(global).await?).await?;
    Ok(Exit::Done)
}

/// The error with its causes, each said once.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match () {
        () if said.is_empty() => cause,
        () if said.contains(&cause) => said,
        () => format!("{said}: {cause}"),
    })
}

/// A configuration or an argument that is wrong is the caller's; the rest is for a person to look at.
fn exit_of(error: &anyhow::Error) -> Exit {
    let usage = error.chain().any(|cause| {
        cause.is::<crate::config::ConfigError>()
            || matches!(cause.downcast_ref(), Some(crate::store::StoreError::Url(_)))
            || matches!(cause.downcast_ref(), Some(crate::flows::FlowError::Refused(_)))
    });
    if usage { Exit::Usage } else { Exit::Person }
}

/// All jobs, or those that were named.
fn jobs(named: &[Job]) -> Vec<Job> {
    if named.is_empty() { Job::ALL.to_vec() } else { named.to_vec() }
}
