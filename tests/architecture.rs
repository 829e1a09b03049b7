//! Who may import whom, read from the sources. The rules are those of ARCHITECTURE: a functional core, neighbours
//! that do not know each other, one place for each outside thing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a top module may import from the crate beside itself. Modules that stand above all others are not listed.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("billing", &["nearest"]),
    ("chance", &[]),
    // Without the feature `simulation` it is no code at all.
    ("failpoint", &["simulation"]),
    ("clock", &["failpoint"]),
    ("nearest", &[]),
    ("process", &["chance"]),
    ("template", &["nearest"]),
    ("store", &["billing", "chance", "failpoint"]),
    ("stripe", &["billing", "clock"]),
    ("mail", &["billing", "clock", "template"]),
    // It plays Stripe, so it must not be built from our own idea of Stripe's client.
    ("sandbox", &["billing::money"]),
    ("config", &["billing", "nearest"]),
    (
        "flows",
        &[
            "billing",
            "chance",
            "clock",
            "config",
            "failpoint",
            "mail",
            "process",
            "store",
            "stripe",
            "template",
        ],
    ),
];

/// Crates that live in one place, so that they can be understood, and leave again.
const LIVES_IN: [(&str, &[&str]); 7] = [
    ("sqlx", &["store/"]),
    // config only parses URLs with it, and the sandbox delivers webhooks.
    ("reqwest", &["stripe/http_transport.rs", "config/validate.rs", "sandbox/"]),
    ("backoff", &["stripe/retry.rs"]),
    // The sandbox has pages of its own, since it shares nothing with the product.
    ("minijinja", &["template.rs", "template/", "sandbox/pages.rs"]),
    ("lettre", &["mail/"]),
    ("strsim", &["nearest.rs"]),
    ("axum", &["http/", "sandbox/", "daemon.rs", "demo/serve.rs"]),
];

/// What billing may use: nothing that reads, waits, or asks for the time.
const PURE: [&str; 9] = ["std", "core", "jiff", "serde", "schemars", "thiserror", "uuid", "super", "self"];

/// Where the system's time is asked.
const CLOCKS: [&str; 2] = ["clock.rs", "sandbox/clock.rs"];

/// Limit: a longer file is hard to hold in mind.
const LINES_MAX: usize = 400;

/// Files over the limit, and why.
const LONG: [(&str, &str); 1] =
    [("flows/collect.rs", "the path of one charge from claim to settle, read from top to bottom")];

/// The sources, without comments, strings and the tests inside them.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("/tests.rs") && !name.contains("/tests/") {
                sources.insert(name, code_of(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 100, "only {} files found", sources.len());
    sources
}

/// Drops line comments and everything from `#[cfg(test)]` on; the project keeps tests at the end.
fn code_of(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The paths that follow `start` in the code: `crate::` gives `billing::charge::Charge` and so on, also from groups.
fn paths<'a>(code: &'a str, start: &str) -> BTreeSet<&'a str> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let starts = code.match_indices(start).filter(|(at, _)| !code[..*at].ends_with(is_path));
    starts
        .map(|(at, _)| {
            let rest = &code[at + start.len()..];
            rest.split(|c: char| !is_path(c)).next().unwrap_or_default().trim_end_matches(':')
        })
        .collect()
}

fn within<'a>(path: &str, allowed: impl IntoIterator<Item = &'a &'a str>) -> bool {
    allowed
        .into_iter()
        .any(|prefix| path == *prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::")))
}

fn top(name: &str) -> &str {
    name.split('/').next().unwrap_or(name).trim_end_matches(".rs")
}

fn fail_on(wrongs: Vec<String>) {
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
}

#[test]
fn modules_import_only_what_they_may() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.into_iter().collect();
    let mut wrongs = Vec::new();
    for (name, code) in sources() {
        let Some(allowed) = rules.get(top(&name)) else { continue };
        for path in paths(&code, "crate::").into_iter().filter(|path| !path.is_empty()) {
            if top_of(path) != top(&name) && !within(path, *allowed) {
                wrongs.push(format!("src/{name} imports crate::{path}"));
            }
        }
        // `use crate::{a, b}` would slip through.
        if code.contains("crate::{") {
            wrongs.push(format!("src/{name} groups its imports of the crate"));
        }
    }
    fail_on(wrongs);
}

fn top_of(path: &str) -> &str {
    path.split([':', ';', ' ']).next().unwrap_or(path)
}

#[test]
fn each_outside_crate_lives_in_one_place() {
    let mut wrongs = Vec::new();
    for (name, code) in sources() {
        for (outside, homes) in LIVES_IN {
            let used = !paths(&code, &format!("{outside}::")).is_empty()
                || code.contains(&format!("use {outside};"));
            let at_home =
                homes.iter().any(|home| name == *home || (home.ends_with('/') && name.starts_with(home)));
            if used && !at_home {
                wrongs.push(format!("src/{name} uses {outside}"));
            }
        }
    }
    fail_on(wrongs);
}

#[test]
fn config_only_parses_urls_with_reqwest() {
    let sources = sources();
    let used = paths(&sources["config/validate.rs"], "reqwest::");
    assert!(used.iter().all(|path| *path == "Url" || path.starts_with("Url::")), "{used:?}");
}

#[test]
fn billing_is_pure() {
    let mut wrongs = Vec::new();
    for (name, code) in sources().iter().filter(|(name, _)| name.starts_with("billing/")) {
        for line in code.lines().map(str::trim_start) {
            let Some(path) = line.strip_prefix("pub use ").or(line.strip_prefix("use ")) else { continue };
            let own = path.starts_with("crate::billing::") || path.starts_with("crate::nearest::");
            // `use Class::{..}` names a type of the same file.
            if !own && !PURE.contains(&top_of(path)) && !path.starts_with(char::is_uppercase) {
                wrongs.push(format!("src/{name} uses {path}"));
            }
        }
        for impure in [
            "async ",
            ".await",
            "std::fs",
            "std::env",
            "std::net",
            "std::process",
            "std::thread",
            "tokio::",
            "println!",
        ] {
            if code.contains(impure) {
                wrongs.push(format!("src/{name} contains {impure}"));
            }
        }
    }
    fail_on(wrongs);
}

#[test]
fn only_the_clocks_ask_what_time_it_is() {
    let mut wrongs = Vec::new();
    for (name, code) in sources().iter().filter(|(name, _)| !CLOCKS.contains(&name.as_str())) {
        for asking in ["Timestamp::now", "SystemTime::now", "Zoned::now", "TimeZone::system"] {
            if code.contains(asking) {
                wrongs.push(format!("src/{name} calls {asking}"));
            }
        }
    }
    fail_on(wrongs);
}

#[test]
fn files_are_short_and_the_long_ones_say_why() {
    let long: BTreeMap<&str, &str> = LONG.into_iter().collect();
    let mut wrongs = Vec::new();
    for name in sources().keys() {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)).unwrap();
        let lines = text.lines().count();
        match (lines > LINES_MAX, long.contains_key(name.as_str())) {
            (true, false) => wrongs.push(format!("src/{name} has {lines} lines")),
            (false, true) => wrongs.push(format!("src/{name} is no longer long: take it off the list")),
            (true, true) | (false, false) => {}
        }
    }
    fail_on(wrongs);
}

#[test]
fn a_forbidden_import_is_seen() {
    let code = code_of(
        "use crate::store::Store;\n// crate::mail\nfn f() { crate::stripe::Client::new(); xcrate::http }\n",
    );
    assert_eq!(
        paths(&code, "crate::").into_iter().collect::<Vec<_>>(),
        ["store::Store", "stripe::Client::new"]
    );
    assert!(
        within("billing::money::Money", &["billing::money"])
            && !within("billing::moneybag", &["billing::money"])
    );
}

/// How far a failure mode is covered, and whether that needs a remark.
const COVER: [(&str, bool); 5] =
    [("covered", false), ("partly", true), ("designed", false), ("not covered", true), ("not ours", true)];

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Whether what a row of the table names is there: `path::function`, or a fault, a mistake, a name of the schema, a file.
fn is_there(reference: &str) -> bool {
    let holds = |path: &str, text: &str| file(path).is_some_and(|code| code.contains(text));
    match reference.split_once(':') {
        Some(("fault", name)) => holds("src/simulation/faults.rs", &format!("\"{name}\"")),
        Some(("bug", name)) => holds("src/simulation/bugs.rs", &format!("\"{name}\"")),
        Some(("schema", name)) => holds("migrations/sqlite/0001_initial.sql", name),
        Some(("file", path)) => file(path).is_some(),
        _ => reference.split_once("::").is_some_and(|(path, name)| holds(path, &format!("fn {name}("))),
    }
}

#[test]
fn each_failure_mode_names_tests_that_exist() {
    let text = file("docs/failure-modes.md").expect("the table is there");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = rows.map(|row| row.split(" |").map(str::trim).collect::<Vec<_>>());
    let (mut wrongs, mut ids, mut counts) = (Vec::new(), Vec::new(), BTreeMap::<&str, usize>::new());
    for row in rows.filter(|row| row[0].len() == 3 && row[0][1..].parse::<u8>().is_ok()) {
        let [id, _, state, by, remark, ..] = row[..] else {
            wrongs.push(format!("{row:?} does not have five columns"));
            continue;
        };
        ids.push(id);
        *counts.entry(state).or_default() += 1;
        match COVER.iter().find(|(name, _)| *name == state) {
            None => wrongs.push(format!("{id}: {state:?} is not a state")),
            Some((_, true)) if remark.is_empty() => {
                wrongs.push(format!("{id} does not say why it is {state}"))
            }
            Some(_) => {}
        }
        let named: Vec<&str> = by.split('`').skip(1).step_by(2).collect();
        if named.is_empty() && !state.starts_with("not ") {
            wrongs.push(format!("{id} does not say what covers it"));
        }
        let missing = named.into_iter().filter(|reference| !is_there(reference));
        wrongs.extend(missing.map(|reference| format!("{id} names {reference}, which is not there")));
    }
    for (name, _) in COVER {
        let count = counts.get(name).copied().unwrap_or(0);
        if !text.contains(&format!("| {name} | {count} |")) {
            wrongs.push(format!("{count} modes are {name}: the table of counts says otherwise"));
        }
    }
    let numbers = |letter| {
        ids.iter().filter(move |id| id.starts_with(letter)).map(|id| id[1..].parse::<usize>().unwrap())
    };
    for letter in 'A'..='K' {
        if !numbers(letter).eq(1..=numbers(letter).count()) {
            wrongs.push(format!("the rows of {letter} are not in order, or one is missing"));
        }
    }
    assert_eq!(ids.len(), 235, "each mode once");
    fail_on(wrongs);
}
