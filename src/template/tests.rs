use std::fs;

use super::*;

/// A directory of the operator's with these files; removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("recurd-templates-{}", uuid::Uuid::new_v4()));
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn load(files: &[(&str, &str)]) -> Result<Templates, String> {
        let dir = Self::with(files);
        let shown = dir.0.display().to_string();
        Templates::load(Some(&dir.0)).map_err(|error| error.to_string().replace(&shown, "DIR"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn refused(files: &[(&str, &str)]) -> String {
    Dir::load(files).unwrap_err()
}

#[test]
fn built_in_templates_load() {
    Templates::load(None).unwrap();
}

#[test]
fn a_file_replaces_the_template_of_its_name() {
    let templates = Dir::load(&[("mail/en/receipt.subject", "Paid: {{ total or \"see inside\" }}")]).unwrap();
    let sample = &samples("mail", "receipt")[0];
    assert_eq!(templates.render("mail/en/receipt.subject", sample).unwrap(), "Paid: $29.00");
    assert_eq!(templates.overridden().collect::<Vec<_>>(), ["mail/en/receipt.subject"]);
}

#[test]
fn unknown_files_are_refused_with_a_suggestion() {
    assert_eq!(
        refused(&[("mail/en/reciept.txt", "")]),
        "DIR/mail/en/reciept.txt: there is no template of this name; did you mean mail/en/receipt.txt?"
    );
    assert!(refused(&[("notes.md", "")]).contains("names look like mail/en/receipt.txt"));
    assert!(refused(&[("mail/EN/receipt.txt", "")]).contains("did you mean mail/en/receipt.txt?"));
    assert!(refused(&[("mail/en/a/b/c/receipt.txt", "")]).contains("there is no template of this name"));
}

#[test]
fn hidden_files_and_directories_are_left_alone() {
    assert!(Dir::load(&[(".git/config", ""), ("mail/en/.receipt.txt.swp", ""), ("..data/x", "")]).is_ok());
}

#[test]
fn a_mail_is_in_one_language() {
    assert_eq!(
        refused(&[("mail/de/receipt.subject", "Ihre Quittung"), ("mail/de/receipt.txt", "Danke!")]),
        "mail/de/receipt.html is missing: a mail is sent in one language, so mail/de/receipt.subject needs it beside it"
    );
    let german = [
        ("mail/de/receipt.subject", "Ihre Quittung"),
        ("mail/de/receipt.txt", "Danke!"),
        (
            "mail/de/receipt.html",
            "{% extends \"mail/en/base.html\" %}{% block heading %}Danke!{% endblock %}",
        ),
    ];
    let templates = Dir::load(&german).unwrap();
    for (wanted, found) in [
        ("de-AT", "de"),
        ("DE_at", "de"),
        ("de", "de"),
        ("fr", "en"),
        ("en-GB", "en"),
        ("", "en"),
        ("../..", "en"),
    ] {
        assert_eq!(templates.locale("mail", "receipt.subject", wanted), found, "{wanted}");
    }
    assert_eq!(templates.locale("mail", "recovered.subject", "de-AT"), "en");
}

#[test]
fn mistakes_name_file_and_line() {
    assert_eq!(
        refused(&[("mail/en/receipt.txt", "Hello\n{% if total %}\nThank you\n")]),
        "DIR/mail/en/receipt.txt, line 3: syntax error: unexpected end of input, expected end of block"
    );
    assert_eq!(
        refused(&[("mail/en/receipt.txt", "Hello\n{{ custmer.name }}\n")]),
        "DIR/mail/en/receipt.txt, line 2: `custmer.name` is not known here; did you mean `customer.name`?"
    );
    assert_eq!(
        refused(&[("mail/en/receipt.txt", "{% for charge in charges %}\n{{ charge.sum }}{% endfor %}")]),
        "DIR/mail/en/receipt.txt, line 2: undefined value"
    );
    assert_eq!(
        refused(&[("mail/en/receipt.txt", "\n\nHello {{ customer.name }}")]),
        "DIR/mail/en/receipt.txt, line 3: undefined value: a value is empty here; put {% if .. %} around it"
    );
    assert_eq!(
        refused(&[("mail/en/words.txt", "{% macro why(reason) %}{% endmacro %}")]),
        "built-in mail/en/authentication_required.html, line 11: invalid operation: value of type undefined is not callable; it uses DIR/mail/en/words.txt"
    );
}

#[test]
fn a_misspelt_name_is_found_in_a_branch_no_sample_takes() {
    let text = "{% if charges | length > 99 %}\n{{ totl }}\n{% endif %}";
    assert_eq!(
        refused(&[("mail/en/receipt.txt", text)]),
        "DIR/mail/en/receipt.txt, line 2: `totl` is not known here; did you mean `total`?"
    );
}

#[test]
fn files_too_large_or_not_text_are_refused() {
    assert!(refused(&[("mail/en/receipt.txt", &"x".repeat(300_000))]).contains("at most 262144 bytes"));
    let dir = Dir::with(&[("mail/en/receipt.txt", "")]);
    fs::write(dir.0.join("mail/en/receipt.txt"), b"\xff\xfe").unwrap();
    assert!(Templates::load(Some(&dir.0)).unwrap_err().to_string().contains("valid UTF-8"));
    assert!(Templates::load(Some(Path::new("/nowhere/at/all"))).is_err());
}

#[test]
fn values_are_data_and_never_templates_or_lines() {
    let templates = Dir::load(&[("mail/en/receipt.subject", "A\nB {{ brand.name }}")]).unwrap();
    let context = serde_json::json!({ "brand": { "name": "x\r\nBcc: y\u{85}{{ total }}\u{202e}z" } });
    assert_eq!(templates.render("mail/en/receipt.subject", &context).unwrap(), "A B x Bcc: y {{ total }}z");
}

#[test]
fn long_subjects_are_cut() {
    let templates = Templates::load(None).unwrap();
    let context = serde_json::json!({ "brand": { "name": "ab ".repeat(100) }, "total": null });
    let subject = templates.render("mail/en/receipt.subject", &context).unwrap();
    assert_eq!(subject.chars().count(), 150);
    assert!(subject.ends_with('…'));
}

#[test]
fn names_that_mail_programs_turn_into_links_are_told_apart() {
    for link in [
        "Win at evil.example",
        "www.evil",
        "evil.co.uk!",
        "http://x",
        "a@b.example",
        "<b>",
        "see (evil.example)",
    ] {
        assert!(looks_like_a_link(link), "{link}");
    }
    for name in
        ["Jane Doe", "J.R.R. Tolkien", "Dr. Müller", "O'Neil", "St.John", "王小明", "Anne-Marie d'Arc"]
    {
        assert!(!looks_like_a_link(name), "{name}");
    }
}
