//! The `recurd` binary: parse, telemetry, dispatch, exit code.

use clap::Parser as _;
use recurd::cli::{Cli, Exit};
use tokio::runtime::Builder;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    recurd::telemetry::init(cli.log_format(), cli.is_daemon());
    // A command waits for Stripe and for the database, which has threads of its own: a second thread would only wake
    // the first. A daemon answers pages and events meanwhile.
    let mut runtime =
        if cli.is_daemon() { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("recurd: cannot start: {error}");
            return Exit::Person.into();
        }
    };
    runtime.block_on(recurd::cli::dispatch(cli)).into()
}
