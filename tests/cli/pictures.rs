//! The pictures of the documents: from a mail about a decline to the next period on the new card.

use std::path::Path;
use std::time::Duration;

use recurd::clock::Clock;

use crate::browser::{link_in, shop_with_pages};
use crate::chromium::{Chromium, Look};
use crate::real::scene::{Sandbox, Shop, customers, yesterday};

/// Limit: a picture that is larger makes the page slow to read.
const PICTURE_BYTES_MAX: usize = 150_000;

const VIEWS: [Look; 2] = [
    Look { name: "phone", width: 390, dark: false, scripts: true, scale: 1.5 },
    Look { name: "desktop", width: 1280, dark: false, scripts: true, scale: 1.0 },
];

/// Ann, whose first charge fell due 26 days ago, so that the second one is near.
fn ann() -> String {
    let start = Clock::system().now().checked_sub(Duration::from_secs(26 * 86_400)).unwrap();
    let csv =
        customers(1, "pm_card_visa_chargeDeclinedInsufficientFunds").replace("Customer 0", "Ann Miller");
    csv.replace(&format!("basic,1,{}", yesterday()), &format!("basic,1,{}", start.strftime("%Y-%m-%d")))
}

/// Looks at the page and keeps the picture for the documents.
fn keep(browser: &mut Chromium, name: &str, view: Look) {
    browser.picture(name);
    let file = format!("{name}-{}.png", view.name);
    let taken = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("pictures").join(&file);
    let bytes = std::fs::read(taken).unwrap();
    assert!(bytes.len() < PICTURE_BYTES_MAX, "{file}: {} bytes", bytes.len());
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(file), bytes).unwrap();
}

/// The HTML part of the one mail whose subject says this.
fn html_of(shop: &Shop, subject: &str) -> String {
    let mails: Vec<String> = shop.mails().iter().map(|mail| mail.replace("\r\n", "\n")).collect();
    let mut found = mails.iter().filter(|mail| {
        let head = mail.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
        head.lines().any(|line| line.starts_with("Subject:") && line.contains(subject))
    });
    let mail = found.next().unwrap_or_else(|| panic!("no mail says {subject}: {mails:?}"));
    let (_, part) = mail.split_once("Content-Type: text/html").unwrap();
    let (_, body) = part.split_once("\n\n").unwrap();
    let body = body.split("\n--").next().unwrap().replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = body.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let hex = String::from_utf8([rest.next().unwrap(), rest.next().unwrap()].to_vec()).unwrap();
        bytes.push(u8::from_str_radix(&hex, 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A mail as a page of its own.
fn open_mail(browser: &mut Chromium, shop: &Shop, subject: &str) {
    shop.write("mail.html", &html_of(shop, subject));
    browser.go(&format!("file://{}", shop.dir.join("mail.html").display()));
}

#[test]
#[ignore = "writes docs/pictures: `make pictures`, when a page or a mail looks different"]
fn the_documents_show_the_way_from_a_decline_to_the_next_period() {
    let Some(mut browser) = Chromium::start() else { return };
    for view in VIEWS {
        walk(&mut browser, view);
    }
}

fn walk(browser: &mut Chromium, view: Look) {
    let sandbox = Sandbox::start();
    let shop = shop_with_pages(&sandbox).set("MAIL__RECEIPTS", "true");
    shop.import(&sandbox, &ann());
    shop.done(&["run"]);
    let mut serve = shop.start(&["serve"]);
    serve.logs("recurd serves on");
    browser.look_like(view);
    open_mail(browser, &shop, "didn't go through");
    keep(browser, "1-mail", view);
    browser.go(&link_in(&shop.mails()[0]));
    keep(browser, "2-pay", view);
    browser.click("button");
    keep(browser, "3-checkout", view);
    browser.type_into("#card", "4242 4242 4242 4242");
    browser.click("button");
    keep(browser, "4-paid", view);
    shop.done(&["run"]);
    // As if it had begun six days earlier: the next period is due.
    shop.database.execute(
        "UPDATE subscription SET anchor_date = date(anchor_date, '-6 days'), next_due_at = next_due_at - 518400",
    );
    shop.done(&["run"]);
    shop.done(&["run", "--job", "notify"]);
    assert_eq!(sandbox.paid().into_values().collect::<Vec<_>>(), [1, 1], "two periods, each once");
    open_mail(browser, &shop, "Your receipt");
    assert!(browser.html().contains("ending in 4242"), "the card of the page: {}", browser.html());
    keep(browser, "5-next", view);
    let link = shop.done(&["customers", "card-link", "c0@example.com"]).out;
    browser.go(link.trim());
    keep(browser, "6-card", view);
}
