//! Logs (to standard error; standard output belongs to the command's answer) and metrics.
//!
//! Field names: `charge.id`, `customer.id`, `subscription.id`, `stripe.request_id`, `job`. Never logged: keys, card
//! data, mail addresses, link tokens, raw bodies.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Sets logging up, once per process. `RUST_LOG` chooses what is logged; default: warnings, and recurd's information
/// in the daemon.
pub fn init(format: LogFormat, daemon: bool) {
    let default = if daemon { "warn,recurd=info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second initialisation (tests in one process) keeps the first.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Upper ends of the histograms' buckets: from a quick answer to Stripe's timeout (80 s) and a long run. Buckets, unlike
/// quantiles, can be added up over replicas.
const BUCKETS_SECS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 80.0, 300.0, 900.0];

/// Installs the metrics recorder, once; `None` if another one is installed already.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    let install = || PrometheusBuilder::new().set_buckets(&BUCKETS_SECS).ok()?.install_recorder().ok();
    METRICS.get_or_init(install).as_ref()
}
