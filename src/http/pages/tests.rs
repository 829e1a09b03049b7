use std::sync::LazyLock;

use serde_json::Value as Json;

use super::*;

fn brand() -> Brand {
    serde_json::from_value(samples("pages", "*")[0]["brand"].clone()).unwrap()
}

fn pages(brand: Brand) -> Pages {
    let origins = [Link::new(STRIPE_CHECKOUT_ORIGIN).unwrap()];
    static LOADED: LazyLock<Templates> = LazyLock::new(|| Templates::load(None).unwrap());
    Pages::new(LOADED.clone(), brand, &origins)
}

fn pay_page(number: usize) -> PayPage {
    pay_page_in("en", number)
}

fn pay_page_in(locale: &str, number: usize) -> PayPage {
    serde_json::from_value(localized(samples("pages", "pay")[number].clone(), locale)).unwrap()
}

/// Every page, with its name.
fn all_pages() -> Vec<(String, String)> {
    let pages = pages(brand());
    let pay = samples("pages", "pay").len();
    let mut all: Vec<_> = (0..pay)
        .map(|number| (format!("pay {number}"), pages.render_pay("en", &pay_page(number)).unwrap()))
        .collect();
    for sample in samples("pages", "save_card") {
        let page: SaveCardPage = serde_json::from_value(sample).unwrap();
        all.push(("save_card".to_owned(), pages.render_save_card("en", &page).unwrap()));
    }
    let path = LocalPath::new("/pay/x").ok();
    let error = ErrorPage { path: path.clone(), reference: None };
    all.extend([
        ("card_saved".to_owned(), pages.render_card_saved("en").unwrap()),
        ("turned_back".to_owned(), pages.render_turned_back("en").unwrap()),
        ("thanks".to_owned(), pages.render_thanks("en-AU", &ThanksPage { path }).unwrap()),
        ("not_found".to_owned(), pages.render_not_found("en").unwrap()),
        ("too_many".to_owned(), pages.render_too_many("en").unwrap()),
        ("error".to_owned(), pages.render_error("en", &error).unwrap()),
    ]);
    all
}

#[test]
fn every_page_is_whole_quiet_and_without_script() {
    for (name, html) in all_pages() {
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{name}: {html}");
        for once in ["<title>", "<h1>", "<main>", "<header>", "<footer>", "name=\"viewport\""] {
            assert_eq!(html.matches(once).count(), 1, "{name}: {once}");
        }
        assert!(html.contains("<meta name=\"robots\" content=\"noindex, nofollow\">"), "{name}");
        for absent in ["<script", " style=", " onclick", "javascript:", " action="] {
            assert!(!html.contains(absent), "{name}: {absent}");
        }
    }
}

#[test]
fn only_what_can_be_paid_has_a_button_that_posts() {
    let posts =
        |name: &str| name.starts_with("save_card") || ["pay 0", "pay 1", "pay 2", "pay 3"].contains(&name);
    for (name, html) in all_pages() {
        let forms = html.matches("<form method=\"post\">").count();
        assert_eq!(forms, usize::from(posts(&name)), "{name}");
        assert_eq!(html.matches("type=\"submit\"").count(), forms, "{name}");
    }
}

#[test]
fn a_pay_page_says_what_is_true() {
    let said = |number| {
        let html = pages(brand()).render_pay("en", &pay_page(number)).unwrap();
        let heading = html.split("<h1>").nth(1).unwrap().split("</h1>").next().unwrap().to_owned();
        (heading, html)
    };
    assert_eq!(said(0).0, "Your payment to Acme Studio");
    assert!(said(0).1.contains(">Pay $29.00</button>"));
    assert!(said(2).1.contains(">Pay $279.00</button>"));
    assert!(said(3).1.contains(">Pay now</button>"), "amounts of two currencies have no sum");
    assert_eq!(said(4).0, "Your payment is on its way");
    assert!(said(4).1.contains("Please do not pay it a second time"));
    assert_eq!(said(5).0, "Paid, thank you");
    assert!(said(5).1.contains("arrived on November 24, 2025"));
    assert_eq!(said(7).0, "Canceled");
    assert_eq!(said(8).0, "Nothing is due");
    assert_eq!(said(9).0, "Not payable for now");
    assert!(said(9).1.contains("you can pay it here after November 24, 2025"));
}

#[test]
fn every_page_is_in_the_language_that_was_asked_for() {
    let pages = pages(brand());
    let headings = |locale: &str| {
        let all = (0..samples("pages", "pay").len())
            .map(|number| pages.render_pay(locale, &pay_page_in(locale, number)).unwrap())
            .chain(samples("pages", "save_card").into_iter().map(|sample| {
                let page: SaveCardPage = serde_json::from_value(sample).unwrap();
                pages.render_save_card(locale, &page).unwrap()
            }))
            .chain([
                pages.render_card_saved(locale).unwrap(),
                pages.render_turned_back(locale).unwrap(),
                pages.render_thanks(locale, &ThanksPage { path: None }).unwrap(),
                pages.render_not_found(locale).unwrap(),
                pages.render_too_many(locale).unwrap(),
                pages.render_error(locale, &ErrorPage { path: None, reference: None }).unwrap(),
            ]);
        let heading = |html: String| {
            let tag = locale.split('-').next().unwrap_or_default();
            assert!(html.contains(&format!("<html lang=\"{tag}\">")), "{html}");
            html.split("<h1>").nth(1).unwrap().split("</h1>").next().unwrap().to_owned()
        };
        all.map(heading).collect::<Vec<_>>()
    };
    let english = headings("en");
    for locale in ["de-CH", "fr", "es-MX", "zh"] {
        let theirs = headings(locale);
        assert_eq!(theirs.len(), english.len());
        for (theirs, english) in theirs.iter().zip(&english) {
            assert_ne!(theirs, english, "{locale}");
        }
    }
    let german = pages.render_pay("de", &pay_page_in("de", 5)).unwrap();
    assert!(german.contains("am 24. November 2025 eingegangen"), "{german}");
}

#[test]
fn the_policy_names_exactly_the_style_that_is_sent() {
    let logo = Brand { logo_url: Link::new("https://cdn.example:8443/a/logo.png").ok(), ..brand() };
    for (brand, images) in [(brand(), "img-src 'none';"), (logo, "img-src https://cdn.example:8443;")] {
        let pages = pages(brand);
        let html = pages.render_not_found("en").unwrap();
        let style = html.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let policy = &pages.headers().iter().find(|(name, _)| *name == "content-security-policy").unwrap().1;
        assert!(policy.contains(&format!("style-src '{}'", style_source(style))), "{policy}");
        assert!(policy.contains(images), "{policy}");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(policy.contains("form-action 'self' https://checkout.stripe.com;"), "{policy}");
    }
}

#[test]
fn hashes_are_written_as_browsers_expect() {
    // As `printf abc | openssl dgst -sha256 -binary | base64` prints it.
    assert_eq!(style_source(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(style_source("abc"), "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
}

#[test]
fn the_link_is_kept_secret_and_the_page_fresh() {
    let pages = pages(brand());
    for header in [
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow"),
        ("cache-control", "no-store"),
    ] {
        assert!(pages.headers().contains(&(header.0, header.1.to_owned())), "{header:?}");
    }
}

#[test]
fn names_cannot_bring_html_into_a_page() {
    for attack in
        ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</style><b>", "' autofocus='"]
    {
        let mut page = pay_page(1);
        for charge in page.charges.iter_mut().chain(page.others.iter_mut().map(|other| &mut other.charge)) {
            charge.description = attack.to_owned();
            charge.reference = Some(attack.to_owned());
        }
        let pages = pages(Brand { name: attack.to_owned(), footer: attack.to_owned(), ..brand() });
        let html = pages.render_pay("en", &page).unwrap();
        assert!(!html.contains(attack), "{attack}");
        assert_eq!(html.matches("</style>").count(), 1);
    }
}

#[test]
fn paths_lead_nowhere_else() {
    for bad in [
        "",
        "pay",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/a?next=//b",
        "/a\r\nb",
        "/a b",
    ] {
        assert!(LocalPath::new(bad).is_err(), "{bad:?}");
    }
    assert!(LocalPath::new("/pay/8fJk2mQx9wLr4TzV").is_ok());
}

#[test]
fn the_samples_are_what_the_typed_pages_write() {
    fn check<P: Serialize + serde::de::DeserializeOwned>(stem: &str) {
        for json in samples("pages", stem) {
            let brand: Brand = serde_json::from_value(json["brand"].clone()).unwrap();
            let page: P = serde_json::from_value(json.clone()).unwrap();
            let view = View { brand: &brand, style: "", locale: "en", page: &page };
            let written: Json = serde_json::to_value(view).unwrap();
            assert_eq!(written, json, "{stem}");
        }
    }
    check::<PayPage>("pay");
    check::<SaveCardPage>("save_card");
    check::<ThanksPage>("thanks");
    check::<ErrorPage>("error");
}
