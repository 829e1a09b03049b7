//! After the walk: the same world over HTTP, one second a second, for a person to click through.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use super::walk::{Walked, tick};
use super::world::{SANDBOX_ADDRESS, World};
use crate::flows::pay_link;
use crate::store::ChargeFilter;

/// Limit: links that are printed.
const LINKS_MAX: i64 = 5;

/// Serves until ctrl-c.
///
/// # Errors
/// When a port is taken.
pub async fn serve(world: &World) -> Result<()> {
    let stripe = TcpListener::bind(SANDBOX_ADDRESS)
        .await
        .with_context(|| format!("cannot listen on {SANDBOX_ADDRESS}"))?;
    let listen = world.ctx.config.listen;
    let http = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    crate::telemetry::metrics();
    let router = crate::http::router(world.ctx.clone())?;
    let sandbox = tokio::spawn(world.sandbox.clone().serve(stripe, std::future::pending()));
    let pages = tokio::spawn(axum::serve(http, router).into_future());
    println!(
        "\nsandbox: http://{SANDBOX_ADDRESS}/_sandbox/   metrics: http://{listen}/metrics   stop: ctrl-c"
    );
    print_links(world).await?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut walked = Walked::default();
    loop {
        tokio::select! {
            _ = second.tick() => {
                world.clock.advance(Duration::from_secs(1));
                tick(world, &mut walked).await?;
            }
            stop = tokio::signal::ctrl_c() => {
                stop?;
                break;
            }
        }
    }
    sandbox.abort();
    pages.abort();
    Ok(())
}

/// Fresh links to charges that can be paid, and one to a charge that is paid.
async fn print_links(world: &World) -> Result<()> {
    for state in ["past_due", "missed", "paid"] {
        let limit = if state == "paid" { 1 } else { LINKS_MAX };
        let filter = ChargeFilter { state: Some(state.into()), limit, ..ChargeFilter::default() };
        for one in world.ctx.store.list_charges(&filter).await? {
            let url = pay_link::for_mail(&world.ctx, &one).await?;
            println!("{state:9} {:>12}  {url}", one.charge.amount.to_string());
        }
    }
    println!("Pay with 4242 4242 4242 4242, or with a declining card such as 4000 0000 0000 0002.");
    Ok(())
}
