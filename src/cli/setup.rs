//! From the configuration to a context that flows can use.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use secrecy::ExposeSecret;

use super::Global;
use crate::clock::Clock;
use crate::config::Config;
use crate::flows::{Ctx, Letterhead};
use crate::mail::Mailer;
use crate::store::{Store, StoreError};
use crate::stripe::{Client, ClientOptions, HttpOptions, HttpTransport, RateLimits};
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
        bail!(crate::flows::FlowError::Refused(
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
    Ok(Client::new(Arc::new(transport), options)?)
}

/// Everything flows need. Binds the database to the Stripe account and mode on first use, and refuses another one.
pub(super) async fn ctx(global: &Global) -> Result<Ctx> {
    let config = config(global)?;
    let clock = Clock::system();
    let store = store(&config).await?;
    let stripe = stripe(&config, &clock)?;
    bind(&store, &stripe, &config, &clock).await?;
    let ctx = offline(config, clock, store, stripe).await?;
    Ok(ctx)
}

async fn offline(config: Config, clock: Clock, store: Store, stripe: Client) -> Result<Ctx> {
    let mailer = Mailer::from_url(&config.mail.url, config.mail.password.clone(), clock.clone())
        .context("mail.url")?;
    let templates = Templates::load(config.mail.templates.as_deref())?;
    let head = Letterhead::new(&config).map_err(crate::flows::FlowError::Refused)?;
    let instance = store.instance(clock.now()).await?;
    Ok(Ctx::new(store, stripe, Arc::new(mailer), templates, clock, Arc::new(config), instance.id, head))
}

async fn bind(store: &Store, stripe: &Client, config: &Config, clock: &Clock) -> Result<(), anyhow::Error> {
    let instance = store.instance(clock.now()).await?;
    let mode = config.stripe.mode.as_str();
    let account = stripe
        .retrieve_account()
        .await
        .context("Stripe does not say which account this key belongs to")?
        .value
        .id;
    match (&instance.stripe_account, &instance.mode) {
        (Some(bound), Some(bound_mode)) if *bound != account || bound_mode != mode => {
            bail!(
                "this database belongs to Stripe account {bound} in {bound_mode} mode, but the key is of {account} in {mode} mode: use another database, or the right key"
            )
        }
        (Some(_), _) => Ok(()),
        (None, _) => store.bind_instance(&account, mode).await.map_err(StoreError::into),
    }
}
