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
fn built_in_templates_render_with_all_samples() {
    let templates = Templates::load(None).unwrap();
    super::samples::try_all(&templates.loaded).unwrap();
}

#[test]
fn a_file_replaces_the_template_of_its_name() {
    let templates = Dir::load(&[("mail/en/receipt.subject", "Paid: {{ total or \"see inside\" }}")]).unwrap();
    let sample = &samples("mail", "receipt")[0];
    assert_eq!(templates.render("mail/en/receipt.subject", sample).unwrap(), "Paid: 29.00 USD");
    assert_eq!(templates.overridden().collect::<Vec<_>>(), ["mail/en/receipt.subject"]);
}

#[test]
fn unknown_files_are_refused_with_a_suggestion() {
    assert_eq!(
        refused(&[("mail/en/reciept.txt", "")]),
        "DIR/mail/en/reciept.txt: there is no template of this name; did you mean mail/en/receipt.txt?"
    );
    assert!(refused(&[("notes.md", "")]).contains("names look like mail/en/receipt.mail"));
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
        refused(&[("mail/it/receipt.subject", "Ricevuta"), ("mail/it/receipt.txt", "Grazie!")]),
        "mail/it/receipt.html is missing: a mail is sent in one language, so mail/it/receipt.subject needs it beside it"
    );
    let words = "{% block subject %}Ricevuta{% endblock %}{% block heading %}Grazie!{% endblock %}";
    assert_eq!(
        refused(&[("mail/it/receipt.mail", words)]),
        "mail/it/words.txt is missing: a mail is sent in one language, so mail/it/receipt.mail needs it beside it"
    );
    let shared = built_in::TEMPLATES.iter().find(|(name, _)| *name == "mail/de/words.txt").unwrap().1;
    let italian =
        [("mail/it/receipt.mail", words), ("mail/it/words.txt", shared), ("mail/de-AT/words.txt", shared)];
    let templates = Dir::load(&italian).unwrap();
    for (wanted, found) in [
        ("it-CH", "it"),
        ("IT_ch", "it"),
        ("de-AT", "de"),
        ("de", "de"),
        ("nl", "en"),
        ("en-GB", "en"),
        ("", "en"),
        ("../..", "en"),
    ] {
        assert_eq!(templates.locale("mail", "receipt.subject", wanted), found, "{wanted}");
    }
    assert_eq!(templates.locale("mail", "recovered.subject", "it"), "en");
    let mut sample = samples("mail", "receipt")[0].clone();
    sample["locale"] = "it".into();
    assert!(templates.render("mail/it/receipt.html", &sample).unwrap().contains("Grazie!</h1>"));
}

#[test]
fn a_region_may_have_one_mail_of_its_own() {
    let austrian = "{% block subject %}Servus{% endblock %}{% block heading %}{{ words.help }}{% endblock %}";
    let templates = Dir::load(&[("mail/de-AT/receipt.mail", austrian)]).unwrap();
    let mut sample = samples("mail", "receipt")[0].clone();
    sample["locale"] = "de-AT".into();
    assert_eq!(templates.locale("mail", "receipt.subject", "de-AT"), "de-AT");
    assert_eq!(templates.locale("mail", "recovered.subject", "de-AT"), "de");
    assert_eq!(templates.render("mail/de-AT/receipt.subject", &sample).unwrap(), "Servus");
    assert!(templates.render("mail/de-AT/receipt.html", &sample).unwrap().contains("Hilfe</h1>"));
}

#[test]
fn a_page_may_be_replaced_in_one_language_or_in_all() {
    let own = "<h1>{{ brand.name }}</h1>";
    let sample = &samples("pages", "card_saved")[0];
    let one = Dir::load(&[("pages/fr/card_saved.html", own)]).unwrap();
    assert_eq!(one.render("pages/fr/card_saved.html", sample).unwrap(), "<h1>Acme Studio</h1>");
    assert_ne!(one.render("pages/en/card_saved.html", sample).unwrap(), "<h1>Acme Studio</h1>");
    let all = Dir::load(&[("pages/card_saved.html", own)]).unwrap();
    for locale in ["en", "de", "zh"] {
        let name = format!("pages/{locale}/card_saved.html");
        assert_eq!(all.render(&name, sample).unwrap(), "<h1>Acme Studio</h1>");
    }
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
        "built-in mail/base.html, line 45: unknown method: map has no method named hello; it uses DIR/mail/en/words.txt"
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
    let brand = serde_json::json!({ "name": "ab ".repeat(100) });
    let context = serde_json::json!({ "brand": brand, "total": null, "locale": "en" });
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
