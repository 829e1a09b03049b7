//! From the configuration to a context that flows can use.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use secrecy::ExposeSecret;

use super::Global;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::flows::{Ctx, FlowError, Letterhead};
use crate::mail::Mailer;
use crate::store::{Store, StoreError};
use crate::stripe::{Client, ClientOptions, HttpOptions, HttpTransport, RateLimits, SetupError};
use crate::template::Templates;

/// Reads the configuration.
pub(super) fn config(global: &Global) -> Result<Config> {
    Ok(Config::load(Some(&global.config))?)
}

/// Opens the database and migrates it if it is fresh or older.
pub(super) async fn store(config: &Config) -> Result<Store> {
    let store = Store::open(config.database_url.expose_secret()).await?;
    store.migrate().await?;
    Ok(store)
}

/// A client for the configured Stripe.
pub(super) fn stripe(config: &Config, clock: &Clock) -> Result<Client> {
    let Some(key) = config.stripe.secret_key.clone() else {
        bail!(FlowError::Refused(
            "no Stripe key: set RECURD__STRIPE__SECRET_KEY, or stripe.secret_key_file (for the sandbox any sk_test_ key will do)".into()
        ));
    };
    let options = HttpOptions {
        base_url: config.stripe.api_base.clone(),
        timeout: config.stripe.timeout,
        concurrency: config.limits.concurrency,
    };
    let transport = HttpTransport::new(&options, clock.clone())?;
    let mut options = ClientOptions::new(key, clock.clone());
    options.limits = RateLimits {
        endpoint_per_sec: config.stripe.endpoint_per_sec,
        account_per_sec: config.stripe.account_per_sec,
    };
    let refused = |error: SetupError| FlowError::Refused(format!("stripe.api_base: {error}"));
    Ok(Client::new(Arc::new(transport), options).map_err(refused)?)
}

/// Everything flows need. Binds the database to the Stripe account and mode on first use, and refuses another one.
pub(super) async fn ctx(global: &Global) -> Result<Ctx> {
    let config = config(global)?;
    let clock = Clock::system();
    // First what can be told without touching anything.
    let stripe = stripe(&config, &clock)?;
    let store = store(&config).await?;
    bind(&store, &stripe, &config, &clock).await?;
    end_leases_of_the_dead(&store, &clock).await?;
    let ctx = offline(config, clock, store, stripe).await?;
    Ok(ctx)
}

/// What a process held that died on this machine need not wait until its leases run out.
async fn end_leases_of_the_dead(store: &Store, clock: &Clock) -> Result<()> {
    let owners = store.lease_owners().await?;
    for dead in owners.iter().filter(|owner| crate::process::is_dead(owner)) {
        let ended = store.end_leases(dead, clock.now()).await?;
        tracing::info!(
            worker = dead,
            "A worker died and held {ended} charges and mails: others may take them now"
        );
    }
    Ok(())
}

/// How mail leaves.
pub(super) fn mailer(config: &Config, clock: &Clock) -> Result<Mailer, ConfigError> {
    Mailer::from_url(&config.mail.url, config.mail.password.clone(), clock.clone())
        .map_err(|error| config.wrong("mail.url", error))
}

/// What every mail has in common.
pub(super) fn letterhead(config: &Config) -> Result<Letterhead, ConfigError> {
    Letterhead::new(config).map_err(|error| match error.split_once(": ") {
        Some((key, message)) => config.wrong(key, message),
        None => config.wrong("mail", error),
    })
}

async fn offline(config: Config, clock: Clock, store: Store, stripe: Client) -> Result<Ctx> {
    let mailer = mailer(&config, &clock)?;
    let templates =
        Templates::load(config.mail.templates.as_deref())?.with_default_locale(&config.brand.locale);
    let head = letterhead(&config)?;
    let instance = store.instance(clock.now()).await?;
    Ok(Ctx::new(store, stripe, Arc::new(mailer), templates, clock, Arc::new(config), instance.id, head))
}

async fn bind(store: &Store, stripe: &Client, config: &Config, clock: &Clock) -> Result<(), anyhow::Error> {
    let instance = store.instance(clock.now()).await?;
    let mode = config.stripe.mode.as_str();
    let account = stripe
        .retrieve_account()
        .await
        .with_context(|| {
            format!("{} does not say which Stripe account the key belongs to", config.stripe.api_base)
        })?
        .value
        .id;
    match (&instance.stripe_account, &instance.mode) {
        (Some(bound), Some(bound_mode)) if *bound != account || bound_mode != mode => {
            bail!(FlowError::Refused(format!(
                "this database belongs to Stripe account {bound} in {bound_mode} mode, but the key is of {account} in {mode} mode: use another database, or the right key"
            )))
        }
        (Some(_), _) => Ok(()),
        (None, _) => store.bind_instance(&account, mode).await.map_err(StoreError::into),
    }
}
