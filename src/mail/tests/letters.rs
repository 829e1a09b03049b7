use super::*;
use crate::mail::preview;

const LOCALES: [&str; 5] = ["en", "de", "fr", "es", "zh"];

const REASONS: [Reason; 7] = [
    Reason::Declined,
    Reason::Funds,
    Reason::Expired,
    Reason::Details,
    Reason::NotAccepted,
    Reason::Authentication,
    Reason::Temporary,
];

/// Every mail in every language.
fn all_letters() -> impl Iterator<Item = (&'static str, (&'static str, usize, Letter))> {
    LOCALES.into_iter().flat_map(|locale| {
        preview::letters(&templates(), locale).unwrap().into_iter().map(move |letter| (locale, letter))
    })
}

/// Tags out, entities back, blanks as one.
fn words_of(html: &str) -> String {
    let body = html.split_once("<body").unwrap().1;
    let mut text = String::new();
    let mut inside = true;
    for c in body.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    let text = text.replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&amp;", "&").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_mail_reads_well() {
    for locale in LOCALES {
        let mut all = String::new();
        for (name, number, letter) in preview::letters(&templates(), locale).unwrap() {
            all += &format!("=== {name} {number}\nSubject: {}\n\n{}\n", letter.subject, letter.text);
        }
        insta::assert_snapshot!(locale, all);
    }
}

#[test]
fn the_layout_looks_as_it_did() {
    let letters = preview::letters(&templates(), "de").unwrap();
    let (_, _, letter) = letters.into_iter().find(|(name, ..)| *name == "payment_failed").unwrap();
    insta::assert_snapshot!("html", letter.html.unwrap());
}

#[test]
fn text_and_html_say_the_same() {
    for (locale, (name, number, letter)) in all_letters() {
        let Some(html) = letter.html else { continue };
        let html = words_of(&html).replace('\u{a0}', " ");
        for line in letter.text.lines().filter(|line| line.chars().count() > 10 && !line.contains("http")) {
            let line = line.trim_start_matches("- ").trim().trim_end_matches([':', '：', '\u{a0}']);
            // Description and amount stand in two columns in HTML.
            let cells: Vec<&str> =
                match line.contains(['$', '€']) && letter.text.contains(&format!("  {line}")) {
                    true => line.split([':', '：']).map(|cell| cell.trim_matches([' ', '\u{a0}'])).collect(),
                    false => vec![line],
                };
            for cell in cells.into_iter().map(|cell| cell.replace(['\u{a0}', '\u{202f}'], " ")) {
                let there = html.contains(&cell);
                assert!(there, "{locale} {name} {number}: {cell:?} is not in the HTML part: {html}");
            }
        }
    }
}

#[test]
fn every_mail_says_what_how_much_and_how_to_cancel() {
    for (locale, (name, number, letter)) in all_letters() {
        if name == "operator_alarm" {
            continue;
        }
        let text = &letter.text;
        let sum = ["save_card", "card_expiring"].contains(&name) || text.contains(['$', '€']);
        assert!(sum, "{locale} {name} {number} names no amount");
        assert!(text.contains("help@acme.example") || text.contains("hello@gym.example"), "{locale} {name}");
        let [question, ended] = match locale {
            "de" => ["Möchten Sie kündigen?", "ist beendet"],
            "fr" => ["Vous souhaitez résilier\u{a0}?", "a pris fin"],
            "es" => ["¿Desea cancelar?", "ha terminado"],
            "zh" => ["想取消订阅？", "订阅已结束"],
            _ => ["Want to cancel?", "has ended"],
        };
        let cancel = text.contains(question) || letter.subject.contains(ended);
        assert!(cancel, "{locale} {name} {number} does not say how to cancel");
    }
}

#[test]
fn every_language_has_every_mail_and_speaks_only_itself() {
    let names = |locale: &str| -> Vec<(&str, usize)> {
        let letters = preview::letters(&templates(), locale).unwrap();
        letters.iter().filter(|one| one.0 != "operator_alarm").map(|one| (one.0, one.1)).collect()
    };
    for locale in ["de", "fr", "es", "zh"] {
        assert_eq!(names(locale), names("en"), "{locale}");
        for (name, number, letter) in preview::letters(&templates(), locale).unwrap() {
            assert_eq!(letter.locale, locale, "{name} is not there");
            let html = letter.html.unwrap();
            assert!(html.contains(&format!("<html lang=\"{locale}\">")), "{name}");
            let said = format!("{}\n{}\n{}", letter.subject, letter.text, words_of(&html));
            for word in said.split(|c: char| !c.is_alphabetic()) {
                let english = ["the", "your", "you", "payment", "we", "is", "with", "and", "due", "please"];
                assert!(!english.contains(&word.to_lowercase().as_str()), "{locale} {name} {number}: {word}");
            }
        }
    }
}

#[test]
fn every_language_uses_the_same_values() {
    let asked = |locale: &str, name: MailName| {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mail/templates");
        let text = std::fs::read_to_string(file.join(locale).join(format!("{name}.mail"))).unwrap();
        let mut values: Vec<String> = ["brand.name", "total", "expires_on", "card_name(card)", "tried(card)"]
            .into_iter()
            .chain(["why(reason)", "to_do(reason)", "pay_label(reason)", "paid(paid_on, card)", "super()"])
            .chain([
                "tone == \"first\"",
                "ending == \"paused\"",
                "block subject",
                "block heading",
                "block intro",
            ])
            .chain([
                "block details",
                "block label",
                "block closing",
                "block next",
                "block action",
                "block cancel",
            ])
            .filter(|value| text.contains(value))
            .map(str::to_owned)
            .collect();
        values.sort();
        values
    };
    for name in MailName::ALL {
        for locale in ["de", "fr", "es", "zh"] {
            assert_eq!(asked(locale, name), asked("en", name), "{locale} {name}");
        }
    }
}

#[test]
fn no_mail_accuses_anybody() {
    for (locale, reason) in LOCALES.into_iter().flat_map(|locale| REASONS.map(|reason| (locale, reason))) {
        let tones = [Tone::First, Tone::Reminder, Tone::Firm];
        let names = [MailName::PaymentFailed, MailName::LastNotice];
        for (tone, name) in tones.into_iter().flat_map(|tone| names.map(|name| (tone, name))) {
            let context = MailContext { reason, tone, locale: locale.to_owned(), ..sample(0) };
            let letter = write(&templates(), name, &context).unwrap();
            let all = format!("{}{}{}", letter.subject, letter.text, words_of(&letter.html.unwrap()));
            let all = all.to_lowercase();
            for word in [
                "stolen",
                "lost",
                "fraud",
                "insufficient",
                "blocked",
                "risk",
                "debt",
                "failed",
                "gestohlen",
                "verloren",
                "betrug",
                "gesperrt",
                "schulden",
                "mahnung",
                "volée",
                "perdue",
                "fraude",
                "dette",
                "robada",
                "perdida",
                "deuda",
                "bloqueada",
                "被盗",
                "丢失",
                "遗失",
                "欺诈",
                "挂失",
                "欠款",
            ] {
                assert!(!all.contains(word), "{locale} {reason:?}: {word}");
            }
        }
    }
}

#[test]
fn each_reason_has_its_own_sentence_of_what_to_do_in_each_language() {
    for locale in LOCALES {
        let mut said: Vec<String> = REASONS
            .into_iter()
            .map(|reason| {
                let context = MailContext { reason, locale: locale.to_owned(), ..sample(0) };
                let text = write(&templates(), MailName::PaymentFailed, &context).unwrap().text;
                text.lines().find(|line| line.contains("4242")).unwrap().to_owned()
            })
            .collect();
        said.sort();
        said.dedup();
        assert_eq!(said.len(), REASONS.len(), "{locale}: {said:#?}");
    }
}

#[test]
fn each_tone_has_its_own_words_in_each_language() {
    for locale in LOCALES {
        let mut subjects = [Tone::First, Tone::Reminder, Tone::Firm].map(|tone| {
            let context = MailContext { tone, locale: locale.to_owned(), ..sample(0) };
            write(&templates(), MailName::PaymentFailed, &context).unwrap().subject
        });
        subjects.sort();
        assert!(subjects[0] != subjects[1] && subjects[1] != subjects[2], "{locale}: {subjects:?}");
    }
}

#[test]
fn a_customer_whose_language_is_not_there_gets_the_default() {
    let german = templates().with_default_locale("de-AT");
    let region = |templates: &Templates, wanted| regional_locale(templates, MailName::Receipt, wanted);
    assert_eq!(region(&german, "it"), "de-AT");
    assert_eq!(region(&german, "fr_CA"), "fr-CA");
    assert_eq!(region(&german, "zh-Hans-CN"), "zh-Hans-CN");
    assert_eq!(region(&templates(), "it"), "en");
    let context = MailContext { locale: "it".to_owned(), ..sample(0) };
    assert_eq!(write(&german, MailName::Receipt, &context).unwrap().locale, "de");
    for locale in ["zh-TW", "zh-Hant-HK"] {
        let context = MailContext { locale: locale.to_owned(), ..sample(0) };
        let written = write(&german, MailName::Receipt, &context).unwrap().locale;
        assert_eq!(written, "zh", "{locale}: another script rather than another language");
    }
}

#[test]
fn the_samples_are_what_the_typed_contexts_write() {
    for json in MailName::ALL.iter().flat_map(|name| samples("mail", name.as_str())) {
        let context: MailContext = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&context).unwrap(), json);
    }
    for json in samples("mail", "operator_alarm") {
        let context: AlarmContext = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&context).unwrap(), json);
    }
}

#[test]
fn names_cannot_bring_html_lines_or_links_into_a_mail() {
    for attack in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "Pro\r\n\r\nPay here instead: now",
        "{{ pay_url }}{% include 'x' %}",
        "a\u{202e}b\u{2028}c\u{0}d",
        "' onmouseover='x",
        "</a></td></table>",
    ] {
        let mut context = sample(0);
        context.customer.name = Some(attack.to_owned());
        context.brand.name = attack.to_owned();
        context.charges[0].description = attack.to_owned();
        context.charges[0].reference = Some(attack.to_owned());
        let letter = write(&templates(), MailName::PaymentFailed, &context).unwrap();
        let html = letter.html.unwrap();
        assert!(!html.contains(attack) || !attack.contains(['<', '"', '\'']), "{attack:?}");
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("onmouseover='"));
        assert_eq!(html.matches("</table>").count(), html.matches("<table").count());
        assert_eq!(letter.text.lines().filter(|line| line.starts_with("Pay here instead")).count(), 0);
        for text in [&letter.subject, &letter.text, &html] {
            assert!(!text.contains(['\r', '\u{202e}', '\u{2028}', '\u{0}']), "{attack:?}");
        }
        assert_eq!(letter.subject.lines().count(), 1);
    }
}

#[test]
fn a_name_that_would_become_a_link_is_not_greeted() {
    for name in ["Claim your prize at evil.example", "http://evil.example", &"x".repeat(61), " "] {
        let mut context = sample(0);
        context.customer.name = Some(name.to_owned());
        let letter = write(&templates(), MailName::Receipt, &context).unwrap();
        assert!(letter.text.starts_with("Hello,\n"), "{name}");
        assert!(!letter.html.unwrap().contains("evil"));
    }
}

#[test]
fn a_mail_that_would_be_pointless_is_not_written() {
    let no_link = MailContext { pay_url: None, ..sample(0) };
    let error = write(&templates(), MailName::LastNotice, &no_link).unwrap_err();
    assert_eq!(error.to_string(), "last_notice cannot be written: it has no link for its button");
    assert!(write(&templates(), MailName::Receipt, &no_link).is_ok());
    let no_charge = MailContext { charges: vec![], ..sample(0) };
    assert!(write(&templates(), MailName::Receipt, &no_charge).is_err());
    assert!(write(&templates(), MailName::SaveCard, &no_charge).is_ok());
}

#[test]
fn links_colours_and_cards_are_checked() {
    for bad in [
        "javascript:alert(1)",
        "https://",
        "https://a b",
        "https://a\"b",
        "ftp://a",
        "https://a/\r\nBcc:",
        "//a",
        "",
    ] {
        assert!(Link::new(bad).is_err(), "{bad}");
    }
    assert_eq!(
        Link::new("https://cdn.example:8443/logo.png?x=1").unwrap().origin(),
        "https://cdn.example:8443"
    );
    for bad in ["red", "#fff", "#12345g", "#123456;}", "123456"] {
        assert!(bad.parse::<Color>().is_err(), "{bad}");
    }
    assert_eq!("#F5C518".parse::<Color>().unwrap().ink(), "#000000");
    assert_eq!("#2456e6".parse::<Color>().unwrap().ink(), "#ffffff");
    for bad in ["4242424242424242", "42", "42a2", ""] {
        assert!(Card::new("visa", bad).is_err(), "{bad}");
    }
}

#[test]
fn mails_have_the_names_of_the_configuration() {
    for name in MailName::ALL {
        assert_eq!(name.as_str().parse::<MailName>().unwrap(), name);
        assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
    }
    assert!(
        "payment_faild"
            .parse::<MailName>()
            .unwrap_err()
            .to_string()
            .contains("there are save_card, upcoming_charge")
    );
}
