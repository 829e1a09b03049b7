//! Two folders of migrations that say the same.

use std::collections::BTreeMap;
use std::path::Path;

fn folder(name: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(name);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.map(read).collect()
}

/// Statements without comments, spaces and storage options. What follows `-- Differs:` may differ until the
/// statement ends.
fn statements(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut differs = false;
    for line in text.lines() {
        differs |= line.trim_start().starts_with("-- Differs:");
        let code = line.split("--").next().unwrap_or_default();
        for (index, part) in code.split(';').enumerate() {
            if index > 0 {
                statements.push(String::new());
                differs = false;
            }
            let words = part.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(last) = statements.last_mut().filter(|_| !differs && !words.is_empty()) {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(&words);
            }
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

#[test]
fn both_folders_have_the_same_files_tables_columns_and_indexes() {
    let (sqlite, postgres) = (folder("sqlite"), folder("postgres"));
    let names = |folder: &BTreeMap<String, String>| folder.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&sqlite), names(&postgres));
    for (name, text) in &sqlite {
        let (one, other) = (statements(text), statements(&postgres[name]));
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other, "{name}");
        }
        assert_eq!(one.len(), other.len(), "{name}");
        assert!(one.len() > 1, "{name} says nothing");
    }
}

#[test]
fn every_file_is_known_to_the_binary() {
    let versions = folder("sqlite").keys().filter_map(|name| name.get(..4)?.parse::<i64>().ok()).max();
    assert_eq!(versions, Some(recurd::store::Store::known_schema_version()));
}

#[test]
fn a_difference_without_its_reason_is_noticed() {
    let plain = "CREATE TABLE a (b TEXT);\nCREATE TABLE c (d TEXT);";
    let told = "CREATE TABLE a (b TEXT)\n-- Differs: room.\nWITH (fillfactor = 70);\nCREATE TABLE c (d TEXT); -- why";
    assert_eq!(statements(plain), statements(told));
    assert_ne!(
        statements(plain),
        statements("CREATE TABLE a (b TEXT) WITH (fillfactor = 70);\nCREATE TABLE c (d TEXT);")
    );
    assert_ne!(statements(plain), statements("CREATE TABLE a (b TEXT);\nCREATE TABLE c (d BIGINT);"));
}
