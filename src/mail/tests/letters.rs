use super::*;
use crate::mail::preview;

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
    for (name, number, letter) in preview::letters(&templates()).unwrap() {
        let shown = format!("Subject: {}\n\n{}", letter.subject, letter.text);
        insta::assert_snapshot!(format!("{name}_{number}"), shown);
    }
}

#[test]
fn text_and_html_say_the_same() {
    for (name, number, letter) in preview::letters(&templates()).unwrap() {
        let Some(html) = letter.html else { continue };
        let html = words_of(&html);
        for line in letter.text.lines().filter(|line| line.len() > 20 && !line.contains("http")) {
            let line = line.trim_start_matches("- ").trim().trim_end_matches(':');
            // Lines of charges are a table in HTML.
            if line.contains("(due ") {
                continue;
            }
            assert!(html.contains(line), "{name} {number}: {line:?} is not in the HTML part: {html}");
        }
    }
}

#[test]
fn every_mail_says_what_how_much_and_how_to_cancel() {
    for (name, number, letter) in preview::letters(&templates()).unwrap() {
        if name == "operator_alarm" {
            continue;
        }
        let text = &letter.text;
        assert!(name == "save_card" || text.contains('$'), "{name} {number} names no amount");
        assert!(text.contains("Questions? Reply to this mail"), "{name} {number} offers no help");
        assert!(
            text.contains("has ended") || text.contains("Want to cancel?"),
            "{name} {number} does not say how to cancel"
        );
    }
}

#[test]
fn no_mail_accuses_anybody() {
    for reason in [
        Reason::Declined,
        Reason::Funds,
        Reason::Expired,
        Reason::Details,
        Reason::NotAccepted,
        Reason::Authentication,
        Reason::Temporary,
    ] {
        let letter =
            write(&templates(), MailName::PaymentFailed, &MailContext { reason, ..sample(0) }).unwrap();
        let all = format!("{}{}{}", letter.subject, letter.text, letter.html.unwrap()).to_lowercase();
        for word in ["stolen", "lost", "fraud", "insufficient", "blocked", "risk", "debt", "failed"] {
            assert!(!all.contains(word), "{reason:?}: {word}");
        }
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
        "payment_faild".parse::<MailName>().unwrap_err().to_string().contains("there are save_card, receipt")
    );
}
