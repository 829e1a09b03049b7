use super::*;

/// What an attacker puts into a name to reach the head of a mail.
const ATTACKS: [&str; 9] = [
    "Jane\r\nBcc: victim@evil.example",
    "Jane\nBcc: victim@evil.example",
    "Jane\rX: y",
    "Jane\r\n\r\n<html>body</html>",
    "Jane\0",
    "Jane\u{85}Bcc: x",
    "Jane\u{2028}Bcc: x",
    "Jane\u{b}x",
    "Jane\u{7f}x",
];

#[test]
fn strict_header_values_refuse_controls() {
    for attack in ATTACKS {
        assert!(HeaderText::new("x", attack).is_err(), "{attack:?}");
        assert!(Mailbox::new(Some(attack), "a@b.example").is_err(), "{attack:?}");
        assert!(ExtraHeader::new("X-Note", attack).is_err(), "{attack:?}");
        assert!(MessageId::new(&format!("<{attack}@b.example>")).is_err(), "{attack:?}");
    }
    for name in ["Bcc", "bcc", "To", "Subject", "Content-Type", "X Y", "X:", "", "X\r\nBcc", "Ünit"] {
        assert!(ExtraHeader::new(name, "x").is_err(), "{name:?}");
    }
}

#[test]
fn malformed_addresses_are_refused_without_repeating_them() {
    for address in [
        "",
        "a",
        "a@",
        "@b",
        "a b@c.example",
        "a@b.example\r\nRCPT TO:<x@y>",
        "a@b.example>",
        "\"a\"@b.example",
        "a@b.example,c@d.example",
        "a@b..example",
        "a\u{0}@b.example",
    ] {
        let error = Mailbox::new(None, address).unwrap_err();
        assert_eq!(error.to_string(), "a mail address must look like name@example.com", "{address:?}");
    }
}

#[test]
fn a_customers_name_never_keeps_the_mail_from_leaving() {
    for attack in ATTACKS {
        let bytes = mail_to(Some(attack), "jane@customer.example").to_bytes().unwrap();
        let message = String::from_utf8(bytes).unwrap();
        let (head, _) = message.split_once("\r\n\r\n").unwrap();
        let starts = |name: &str| head.lines().filter(|line| line.to_lowercase().starts_with(name)).count();
        assert_eq!(
            (starts("to:"), starts("bcc"), starts("x:"), starts("x-note")),
            (1, 0, 0, 0),
            "{attack:?}"
        );
        assert!(message.is_ascii());
    }
}

#[test]
fn names_beyond_ascii_are_encoded() {
    let bytes = mail_to(Some("Jürgen \"Jay\" Müller, Jr."), "jane@customer.example").to_bytes().unwrap();
    let message = String::from_utf8(bytes).unwrap();
    let to = message.lines().find(|line| line.starts_with("To:")).unwrap();
    assert!(to.contains("=?utf-8?b?"), "{to}");
    assert!(message.is_ascii());
}

#[test]
fn the_same_mail_is_the_same_bytes() {
    let mail = mail_to(Some("Jane"), "jane@customer.example");
    assert_eq!(mail.to_bytes().unwrap(), mail.to_bytes().unwrap());
    let message = String::from_utf8(mail.to_bytes().unwrap()).unwrap();
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    insta::assert_snapshot!(head.replace("\r\n", "\n"));
}

#[test]
fn an_address_never_shows_in_debug_output() {
    let shown = format!("{:?}", mail_to(Some("Jane"), "jane@customer.example"));
    assert!(!shown.contains("jane@") && shown.contains("***@customer.example"));
}

#[test]
fn addresses_with_names_are_read() {
    let mailbox: Mailbox = "\"Acme, Inc.\" <billing@acme.example>".parse().unwrap();
    assert_eq!((mailbox.name(), mailbox.email()), (Some("Acme, Inc."), "billing@acme.example"));
    let bare: Mailbox = " billing@acme.example ".parse().unwrap();
    assert_eq!((bare.name(), bare.email()), (None, "billing@acme.example"));
}

#[test]
fn an_alarm_is_plain_text() {
    let context: AlarmContext = serde_json::from_value(samples("mail", "operator_alarm")[0].clone()).unwrap();
    let letter = write_alarm(&templates(), &context).unwrap();
    let ops: Mailbox = "ops@acme.example".parse().unwrap();
    let id = MessageId::new("<alarm.1@acme.example>").unwrap();
    let mail = Mail::new(id, ops.clone(), ops, letter, clock().now()).unwrap();
    let message = String::from_utf8(mail.to_bytes().unwrap()).unwrap();
    assert!(message.contains("Content-Type: text/plain; charset=utf-8\r\n"), "{message}");
    assert!(message.contains("Subject: [recurd acme-production] Stripe refuses our key\r\n"), "{message}");
}

#[test]
fn no_mail_to_a_customer_offers_to_leave_a_list() {
    for (name, number, letter) in preview::letters(&templates(), "en").unwrap() {
        let mut mail = mail_to(Some("Jane"), "jane@customer.example");
        mail.text.clone_from(&letter.text);
        mail.html.clone_from(&letter.html);
        let bytes = String::from_utf8(mail.to_bytes().unwrap()).unwrap().to_lowercase();
        assert!(!bytes.contains("list-unsubscribe"), "{name} {number}: it is owed to the customer");
    }
}
