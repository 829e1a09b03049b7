//! Configuration: defaults < `schedules.toml` < `RECURD__*` environment < `*_file` secrets; read once, checked whole.

mod dunning;
mod load;
pub mod raw;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::billing::caps::DayCaps;
use crate::billing::page_methods::PageMethods;
use crate::billing::plan::Terms;
pub use dunning::{Dunning, Ladders};
pub use raw::{Mode, Preflight};

/// Everything, checked. `Debug` shows `***` (or nothing) for secrets.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: Option<PathBuf>,
    /// Database URL, absolute.
    pub database_url: SecretString,
    /// Stripe.
    pub stripe: StripeConfig,
    /// Cron expressions by job, in [`Config::cron_zone`].
    pub schedules: BTreeMap<&'static str, String>,
    /// Zone of the cron expressions.
    pub cron_zone: String,
    /// Plans by name.
    pub plans: BTreeMap<String, Terms>,
    /// What happens after a decline.
    pub dunning: Dunning,
    /// Mail.
    pub mail: MailConfig,
    /// Where the daemon listens.
    pub listen: SocketAddr,
    /// How customers reach it, without a trailing slash; `None`: direct mode.
    pub public_url: Option<String>,
    /// Where customers land in direct mode.
    pub return_url: Option<String>,
    /// How the merchant looks.
    pub brand: raw::BrandConfig,
    /// What customers agree to.
    pub consent_text: String,
    /// Limits.
    pub limits: Limits,
    /// Guard rails.
    pub guard: Guard,
}

/// `[stripe]`, checked.
#[derive(Clone, Debug)]
pub struct StripeConfig {
    /// Test or live.
    pub mode: Mode,
    /// The key; its prefix fits the mode. `None`: none given (commands that do not talk to Stripe still work).
    pub secret_key: Option<SecretString>,
    /// Signing secrets.
    pub webhook_secrets: Vec<SecretString>,
    /// Scheme and host.
    pub api_base: String,
    /// When lists are read before a create.
    pub preflight: Preflight,
    /// Requests a second per endpoint; `None`: no limit.
    pub endpoint_per_sec: Option<std::num::NonZeroU32>,
    /// Requests a second in all; `None`: no limit.
    pub account_per_sec: Option<std::num::NonZeroU32>,
    /// Until an answer is given up.
    pub timeout: Duration,
    /// What the payment page offers besides the card.
    pub page_methods: PageMethods,
}

/// `[mail]`, checked.
#[derive(Clone, Debug)]
pub struct MailConfig {
    /// `smtp://`, `smtps://` or `file:` with an absolute directory.
    pub url: String,
    /// Password.
    pub password: Option<SecretString>,
    /// Sender.
    pub from: String,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// Who is told.
    pub operator: Option<String>,
    /// Whether each payment has a receipt.
    pub receipts: bool,
    /// Template directory.
    pub templates: Option<PathBuf>,
}

/// `[limits]`, checked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests under way at once, all workers together.
    pub concurrency: usize,
    /// Workers of one process that collect side by side.
    pub workers: usize,
    /// Charges claimed in one transaction.
    pub batch: usize,
    /// How long a claim lasts.
    pub lease: Duration,
}

/// `[guard]`, checked.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Attempts of one run.
    pub charges_per_run: Option<u64>,
    /// Attempts for one customer in one run.
    pub charges_per_customer: Option<u32>,
    /// Attempts and sums of one UTC day.
    pub day: DayCaps,
    /// In live mode, the first attempts ever.
    pub first_live_run: Option<u64>,
    /// How many times the busiest day is usual; 0: whatever comes.
    pub surge: u32,
    /// Fewer charges are never a surge.
    pub surge_from: u64,
    /// Refusals for the same reason.
    pub alike_refusals: Option<u32>,
}

/// Why a configuration is refused. Every message names the file, the key, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file is missing or may not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{file}: {message}")]
    Syntax {
        /// Which file.
        file: String,
        /// What the parser said.
        message: String,
    },
    /// A key is wrong.
    #[error("{file}{}: {key}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Key {
        /// Which file.
        file: String,
        /// On which line, from 1.
        line: Option<usize>,
        /// Which key, dotted.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A variable in the environment does not fit.
    #[error(
        "{0} in the environment sets nothing: use RECURD__SECTION__KEY, and a whole number, true or false where the key takes one"
    )]
    Environment(String),
}

impl Config {
    /// Reads and checks the configuration. `path` is the file; without one, defaults and environment only.
    ///
    /// # Errors
    /// [`ConfigError`], the first one found.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with(path, &std::env::vars().collect())
    }

    /// As [`Config::load`] with an environment of the caller's choice.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_with(path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let raw = load::load(path, env)?;
        validate::validate(raw, path, env)
    }

    /// A refusal of one of its keys, for those who understand a value better: it names where the key was given.
    #[must_use]
    pub fn wrong(&self, key: &str, message: impl ToString) -> ConfigError {
        let (file, line) = load::place(self.path.as_deref(), &std::env::vars().collect(), key, "");
        ConfigError::Key { file, line, key: key.to_owned(), message: message.to_string() }
    }

    /// The JSON Schema of the file, for editors.
    #[must_use]
    pub fn schema() -> String {
        let mut schema = schemars::schema_for!(raw::RawConfig).to_value();
        relax(&mut schema);
        for (definition, key) in [
            ("RawDatabase", "url"),
            ("RawStripe", "secret_key"),
            ("RawStripe", "webhook_secrets"),
            ("RawMail", "password"),
        ] {
            let description = format!("A file that holds `{key}` (systemd credential, Kubernetes secret).");
            schema["$defs"][definition]["properties"][format!("{key}_file")] =
                serde_json::json!({ "type": "string", "description": description });
        }
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    }
}

/// Every section and key has a default except a plan's and a step's own, so nothing else is required in the file.
fn relax(schema: &mut serde_json::Value) {
    const STRICT: [&str; 2] = ["RawPlan", "RawStep"];
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
        if let Some(definitions) = root.get_mut("$defs").and_then(serde_json::Value::as_object_mut) {
            for (name, definition) in definitions {
                if let (false, Some(definition)) =
                    (STRICT.contains(&name.as_str()), definition.as_object_mut())
                {
                    definition.remove("required");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
