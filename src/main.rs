//! The `recurd` binary: parse, telemetry, dispatch, exit code.

use clap::Parser as _;
use recurd::cli::{Cli, Exit};

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    recurd::telemetry::init(cli.log_format(), cli.is_daemon());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("recurd: cannot start: {error}");
            return Exit::Person.into();
        }
    };
    runtime.block_on(recurd::cli::dispatch(cli)).into()
}
