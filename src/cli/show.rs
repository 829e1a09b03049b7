//! How answers look: tables and sentences for people, JSON for programs.

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints a line on standard output. A reader that has gone away (`| head`) ends the program quietly.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::show::print_line(format_args!($($text)*))
    };
}

/// The function under [`say!`].
pub(super) fn print_line(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// A table with a header line.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) {
    say!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A progress bar on standard error, on terminals only.
pub(super) fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// A count of what was read so far, on standard error, on terminals only; hidden beside JSON.
pub(super) fn spinner(hidden: bool, what: &'static str) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{spinner} {pos} {msg}").unwrap_or(ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style).with_message(what)
}

/// Unix seconds as an instant people can read.
pub(super) fn instant(secs: i64) -> String {
    jiff::Timestamp::from_second(secs)
        .map_or_else(|_| secs.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// The beginning of an id, enough to type: the commands take it as they take the whole.
pub(super) fn short(id: &str) -> String {
    id.split('-').next().unwrap_or_default().to_owned()
}

/// Who runs this command, for the audit trail.
pub(super) fn who() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "operator".into())
}
