//! What customers see and do, in a real browser: the link from a mail, the button, the hosted page, the way back.

use std::net::TcpListener;

use recurd::http::pages;
use recurd::template::Templates;

use crate::chromium::{Chromium, LOOKS, Look};
use crate::real::scene::{Sandbox, Shop, customers, rows};

/// An address that was free a moment ago: the daemon must know it before it listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub(crate) fn shop_with_pages(sandbox: &Sandbox) -> Shop {
    let address = free_address();
    Shop::new(sandbox).set("HTTP__LISTEN", &address).set("HTTP__PUBLIC_URL", &format!("http://{address}"))
}

/// The pay link of a mail, as it stands in its text.
pub(crate) fn link_in(mail: &str) -> String {
    let text = mail.replace("\r\n", "\n").replace("=\n", "").replace("=3D", "=");
    let link = text.split_whitespace().find(|word| word.starts_with("http://") && word.contains("/pay/"));
    link.unwrap_or_else(|| panic!("no link in {mail}")).to_owned()
}

#[test]
fn a_declined_payment_is_paid_from_the_mail() {
    let Some(mut browser) = Chromium::start() else { return };
    for look in LOOKS {
        pay(&mut browser, look);
    }
}

fn pay(browser: &mut Chromium, look: Look) {
    let sandbox = Sandbox::start();
    let shop = shop_with_pages(&sandbox);
    shop.import(&sandbox, &customers(1, "pm_card_visa_chargeDeclinedInsufficientFunds"));
    shop.done(&["run"]);
    let link = link_in(&shop.mails()[0]);
    let mut serve = shop.start(&["serve"]);
    serve.logs("recurd serves on");

    browser.look_like(look);
    browser.go(&link);
    let html = browser.html();
    assert!(html.contains("<html lang=\"en\">") && html.contains("Your payment to Example Shop"), "{html}");
    assert!(html.contains("Pay €9.00") || html.contains("Pay 9.00"), "{html}");
    browser.picture("pay");
    if look.scripts {
        assert!(browser.tab().starts_with("BUTTON Pay"), "the button is first");
    }
    assert_eq!(rows(&sandbox.books(), "sessions").len(), 0, "looking made a page at Stripe");

    browser.click("button");
    assert!(browser.url().starts_with(&format!("{}/c/pay/", sandbox.url)), "{}", browser.url());
    browser.picture("checkout");
    browser.type_into("#card", "4000 0000 0000 0002");
    browser.click("button");
    assert!(browser.html().contains("role=\"alert\""), "a declined card is not told");
    browser.picture("checkout-declined");
    browser.type_into("#card", "4242 4242 4242 4242");
    browser.click("button");

    assert!(browser.url().contains("/return/paid?session_id=cs_"), "{}", browser.url());
    assert!(browser.html().contains("Paid, thank you"), "{}", browser.html());
    browser.picture("paid");
    browser.go(&link);
    assert!(browser.html().contains("Paid, thank you"), "the link shows something else");
    sandbox.assert_each_paid_once(1);
    // What was promised when it was paid: a word of thanks, and the new card for the next period.
    shop.done(&["run", "--job", "notify"]);
    assert_eq!(shop.done(&["charges", "list", "--json"]).json()[0]["state"], "paid");
    assert_eq!(
        shop.done(&["customers", "list", "--json"]).json()[0]["card_last4"],
        "4242",
        "the card that paid is kept"
    );
}

#[test]
fn a_customer_saves_a_card_and_comes_back() {
    let Some(mut browser) = Chromium::start() else { return };
    for look in LOOKS {
        save(&mut browser, look);
    }
}

fn save(browser: &mut Chromium, look: Look) {
    let sandbox = Sandbox::start();
    let shop = shop_with_pages(&sandbox);
    let page = shop.done(&["enroll", "--email", "ann@example.com", "--name", "Ann", "--plan", "basic"]).out;
    let mut serve = shop.start(&["serve"]);
    serve.logs("recurd serves on");

    browser.look_like(look);
    browser.go(page.trim());
    assert!(browser.html().contains("I allow Example Shop to charge this card"), "{}", browser.html());
    browser.picture("save-card");
    // The card asks its holder.
    browser.type_into("#card", "4000 0027 6000 3184");
    browser.click("button");
    browser.picture("three-d-secure");
    browser.click("button[value=complete]");
    assert!(browser.url().contains("/return/saved?session_id=cs_"), "{}", browser.url());
    assert!(browser.html().contains("Your card is saved"), "{}", browser.html());
    browser.picture("card-saved");
    let subscription = shop.done(&["subscriptions", "list", "--json"]).json()[0].clone();
    assert_eq!(subscription["state"], "active");
    assert_eq!(shop.done(&["customers", "list", "--json"]).json()[0]["card_last4"], "3184");
}

#[test]
fn a_customer_replaces_the_card_before_anything_is_declined() {
    let Some(mut browser) = Chromium::start() else { return };
    let sandbox = Sandbox::start();
    let shop = shop_with_pages(&sandbox);
    shop.import(&sandbox, &customers(1, "pm_card_visa_chargeDeclined"));
    let link = shop.done(&["customers", "card-link", "c0@example.com"]).out;
    let mut serve = shop.start(&["serve"]);
    serve.logs("recurd serves on");
    for look in LOOKS {
        browser.look_like(look);
        browser.go(link.trim());
        assert!(browser.html().contains("I allow Example Shop to charge this card"), "{}", browser.html());
        browser.picture("card-link");
        if look.scripts {
            assert!(browser.tab().starts_with("BUTTON Save a card"), "the button is first");
        }
        browser.click("button");
        assert!(browser.url().starts_with(&format!("{}/c/pay/", sandbox.url)), "{}", browser.url());
        browser.type_into("#card", "4242 4242 4242 4242");
        browser.click("button");
        assert!(browser.html().contains("Your card is saved"), "{}", browser.html());
    }
    assert_eq!(shop.done(&["customers", "list", "--json"]).json()[0]["card_last4"], "4242");
    assert_eq!(rows(&sandbox.books(), "sessions").len(), LOOKS.len(), "one page for each time");
    shop.done(&["run"]);
    sandbox.assert_each_paid_once(1);
}

#[test]
fn a_customer_who_turns_back_has_paid_nothing() {
    let Some(mut browser) = Chromium::start() else { return };
    let sandbox = Sandbox::start();
    let shop = shop_with_pages(&sandbox);
    shop.import(&sandbox, &customers(1, "pm_card_visa_chargeDeclinedInsufficientFunds"));
    shop.done(&["run"]);
    let link = link_in(&shop.mails()[0]);
    let mut serve = shop.start(&["serve"]);
    serve.logs("recurd serves on");
    browser.look_like(LOOKS[0]);
    browser.go(&link);
    browser.click("button");
    let first = browser.url();
    browser.click("main > p > a");
    assert!(browser.url().ends_with("/return/canceled"), "{}", browser.url());
    let html = browser.html();
    assert!(!html.contains("went wrong") && html.contains("not been charged"), "{html}");
    browser.picture("turned-back");
    browser.go(&link);
    browser.click("button");
    assert_eq!(browser.url(), first, "a second click opened a second page");
    assert!(sandbox.paid().is_empty());
}

/// Every page with sample data, as nobody would meet it in one walk.
#[test]
fn every_page_fits_every_look() {
    let Some(mut browser) = Chromium::start() else { return };
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    // German has the longest words.
    let files = pages::write_all(&shop.dir.join("pages"), &Templates::load(None).unwrap(), "de").unwrap();
    for look in LOOKS {
        browser.look_like(look);
        for file in &files {
            browser.go(&format!("file://{}", file.display()));
            assert!(browser.html().contains("<html lang=\""), "{}", file.display());
            browser.picture(file.file_stem().unwrap().to_str().unwrap());
        }
        browser.go(&sandbox.url);
        browser.picture("sandbox");
    }
}
