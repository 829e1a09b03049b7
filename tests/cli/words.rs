//! What is documented exists: every command has help, and every command line in the documents is understood.

use clap::{Command, CommandFactory as _};
use recurd::cli::Cli;

use crate::real::scene::{Sandbox, Shop};

/// Every command with its subcommands, as the words that are typed.
fn commands(command: &Command, path: &[&str], found: &mut Vec<Vec<String>>) {
    found.push(path.iter().map(|word| (*word).to_owned()).collect());
    for sub in command.get_subcommands() {
        commands(sub, &[path, &[sub.get_name()]].concat(), found);
    }
}

#[test]
fn every_command_has_help() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let mut found = Vec::new();
    commands(&Cli::command(), &[], &mut found);
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let help = shop.done(&[&words[..], &["--help"]].concat());
        assert!(help.out.contains("Usage: recurd"), "{path:?}: {help}");
        let lines: Vec<&str> = help.out.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].trim_start().starts_with("--")) {
            assert!(pair[1].starts_with("          "), "{path:?}: {:?} is not explained", pair[0]);
        }
    }
    assert!(shop.done(&["--version"]).out.starts_with("recurd "));
}

const DOCUMENTS: [(&str, &str); 6] = [
    ("README.md", include_str!("../../README.md")),
    ("deploy/systemd/README.md", include_str!("../../deploy/systemd/README.md")),
    ("deploy/kubernetes/README.md", include_str!("../../deploy/kubernetes/README.md")),
    ("deploy/alerts/recurd.rules.yaml", include_str!("../../deploy/alerts/recurd.rules.yaml")),
    ("schedules.toml", include_str!("../../schedules.toml")),
    ("CHANGELOG.md", include_str!("../../CHANGELOG.md")),
];

/// What follows the program's name where a text shows how to call it, up to the end of the call.
fn calls(text: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let shown: Vec<&str> = if in_block {
            let line = line.split(" #").next().unwrap_or_default();
            let mut parts = line.splitn(2, "recurd ");
            let before = parts.next().unwrap_or_default();
            let typed = before.is_empty() || before.ends_with(" -- ") || before.ends_with("exec ");
            parts.next().filter(|_| typed).into_iter().collect()
        } else {
            let quoted = line.split('`').skip(1).step_by(2);
            quoted.filter_map(|code| code.strip_prefix("recurd ")).collect()
        };
        calls.extend(shown.iter().map(|call| call.split_whitespace().map(str::to_owned).collect()));
    }
    calls
}

/// Checks the words of one call, with alternatives separated by `|`, against the program.
fn understand(call: &[String]) -> Result<(), String> {
    let root = Cli::command();
    let mut parent = &root;
    let mut command = &root;
    for word in call {
        let word = word.trim_matches(|c| "[]'.,".contains(c));
        if word == "|" {
            command = parent;
        } else if let Some(sub) = command.find_subcommand(word) {
            (parent, command) = (command, sub);
        } else if let Some(flag) = word.strip_prefix("--") {
            let known = command.get_arguments().chain(root.get_arguments());
            let flag = flag.split('=').next().unwrap_or_default();
            let built_in = ["help", "version"].contains(&flag);
            if !built_in && !known.into_iter().any(|argument| argument.get_long() == Some(flag)) {
                return Err(format!("{} has no --{flag}", command.get_name()));
            }
        } else if command.has_subcommands()
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && !word.contains('.')
        {
            return Err(format!("{} has no command {word:?}", command.get_name()));
        }
    }
    Ok(())
}

#[test]
fn every_command_line_in_the_documents_is_understood() {
    let mut count = 0;
    for (name, text) in DOCUMENTS {
        for call in calls(text) {
            count += 1;
            if let Err(why) = understand(&call) {
                panic!("{name}: recurd {}: {why}", call.join(" "));
            }
        }
    }
    assert!(count > 25, "only {count} calls were found");
}

#[test]
fn the_configurations_that_come_along_are_valid() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.write("kubernetes.toml", include_str!("../../deploy/kubernetes/base/schedules.toml"));
    for file in ["schedules.toml", "kubernetes.toml"] {
        assert!(shop.done(&["-c", file, "check"]).out.starts_with(&format!("{file} is valid.")));
    }
}

#[test]
fn a_call_that_does_not_exist_is_seen() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(calls("`recurd runn --fast` and `recurd`\n```\nrecurd check  # comment\n```\n").len(), 2);
    assert!(understand(&words("charges list --state paid")).is_ok());
    assert!(understand(&words("customers add --email ... | list | show ID")).is_ok());
    assert!(understand(&words("runn")).is_err());
    assert!(understand(&words("run --fast")).is_err());
    assert!(understand(&words("customers remove ID")).is_err());
}
