//! `recurd serve`: what it answers, to whom, and how it ends.

use std::time::Instant;

use recurd::clock::Clock;
use ring::hmac;
use serde_json::Value;

use crate::real::http;
use crate::real::process::until;
use crate::real::scene::{Sandbox, Served, Shop, customers, rows};

const SECRET: &str = "whsec_of_the_tests";

impl Served {
    fn metric(&self, name: &str) -> Option<f64> {
        let text = http::get(&format!("{}/metrics", self.url)).body;
        let line =
            text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

fn signed(body: &str, secret: &str) -> String {
    let at = Clock::system().now().as_second();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

#[test]
fn health_readiness_and_metrics_answer_and_a_signal_ends_it_with_0() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let served = Served::start(&shop);
    assert_eq!(http::get(&format!("{}/healthz", served.url)).body, "ok\n");
    assert_eq!(http::get(&format!("{}/readyz", served.url)).body, "ready\n");
    let metrics = http::get(&format!("{}/metrics", served.url));
    assert_eq!((metrics.status, metrics.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    assert_eq!(served.metric("recurd_due_charges"), Some(0.0));
    assert_eq!(served.metric("recurd_needs_review"), Some(0.0));

    shop.database.execute(
        "INSERT INTO _sqlx_migrations SELECT 99999999, description, installed_on, success, checksum, execution_time \
         FROM _sqlx_migrations LIMIT 1",
    );
    assert_eq!(http::get(&format!("{}/readyz", served.url)).status, 503, "a newer recurd changed the schema");
    assert_eq!(http::get(&format!("{}/healthz", served.url)).status, 200, "a restart would not mend it");

    let newer = shop.recurd(&["run"]);
    assert_eq!(newer.code, Some(1), "{newer}");
    assert!(newer.err.contains("use the newer recurd"), "{newer}");

    let asked = Instant::now();
    served.process.signal("TERM");
    let ended = served.process.end();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(asked.elapsed().as_secs() < 10, "an idle daemon takes its time to stop");
    assert!(!ended.err.contains("sk_test") && !ended.err.contains("\u{1b}"), "{ended}");
}

#[test]
fn events_are_taken_from_stripe_alone() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox).set("STRIPE__WEBHOOK_SECRETS", SECRET);
    let served = Served::start(&shop);
    let url = format!("{}/webhooks/stripe", served.url);
    let body = r#"{"id":"evt_1","object":"event","api_version":"2026-05-27.dahlia","created":1767614400,
        "livemode":false,"type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent","metadata":{}}}}"#;
    let events = || shop.database.everything()["webhook_event"].len();
    let send = |body: &str, headers: &[(&str, &str)]| http::send("POST", &url, headers, body.as_bytes());

    assert_eq!(send(body, &[]).status, 400, "unsigned");
    let forged = signed(body, "whsec_guessed");
    let answer = send(body, &[("stripe-signature", &forged)]);
    let refused = "no signature matches: forged, re-encoded on its way, or a secret that is not configured\n";
    assert_eq!((answer.status, answer.body.as_str()), (400, refused));
    let good = signed(body, SECRET);
    let changed = body.replace("pi_1", "pi_2");
    assert_eq!(send(&changed, &[("stripe-signature", &good)]).status, 400, "changed on the way");
    let live = body.replace("\"livemode\":false", "\"livemode\":true");
    assert_eq!(send(&live, &[("stripe-signature", &signed(&live, SECRET))]).status, 400, "of the other mode");
    let huge = format!("{body}{}", " ".repeat(300 * 1024));
    assert_eq!(send(&huge, &[("stripe-signature", &signed(&huge, SECRET))]).status, 413, "oversized");
    assert_eq!(http::get(&url).status, 405);
    assert_eq!(events(), 0, "a refused event was stored");

    for _ in 0..2 {
        assert_eq!(send(body, &[("stripe-signature", &good)]).status, 200);
    }
    assert_eq!(events(), 1, "the same event twice is one");
    let text = http::get(&format!("{}/metrics", served.url)).body;
    for line in ["{result=\"refused\"} 4", "{result=\"stored\"} 1", "{result=\"duplicate\"} 1"] {
        assert!(text.contains(&format!("recurd_webhook_events_total{line}")), "{line}\n{text}");
    }
}

#[test]
fn the_sandboxes_own_events_are_understood() {
    let sandbox = Sandbox::start();
    let shop =
        Shop::new(&sandbox).set("STRIPE__WEBHOOK_SECRETS", SECRET).set("SCHEDULES__RECEIVE", "* * * * * *");
    shop.import(&sandbox, &customers(1, "pm_card_visa"));
    let served = Served::start(&shop);
    let hook = format!(r#"{{"url":"{}/webhooks/stripe","secret":"{SECRET}"}}"#, served.url);
    sandbox.control("webhooks", &hook);
    shop.done(&["run"]);
    until("the payment's event is applied", || {
        let events = shop.database.everything()["webhook_event"].clone();
        events
            .iter()
            .any(|row| row.contains("type='payment_intent.succeeded'") && row.contains("state='applied'"))
    });
    sandbox.assert_each_paid_once(1);
}

#[test]
fn without_a_secret_events_are_left_at_stripe() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let served = Served::start(&shop);
    let answer = http::post(&format!("{}/webhooks/stripe", served.url), "{}");
    assert_eq!(answer.status, 503, "Stripe sends it again for three days");
}

#[test]
fn addresses_that_lead_nowhere_get_one_page_and_no_effect() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let served = Served::start(&shop);
    let before = (shop.database.everything(), sandbox.requests());
    let token = "0123456789abcdef0123456789abcdef";
    let miss = http::get(&format!("{}/pay/{token}", served.url));
    assert_eq!(miss.status, 404);
    assert!(miss.body.contains("There is nothing at this address") && !miss.body.contains(token));
    for path in
        ["/pay/x", "/pay/%00", "/pay/..%2f..", "/return/paid", "/return/saved?session_id=", "/nothing"]
    {
        let other = http::get(&format!("{}{path}", served.url));
        assert_eq!((other.status, &other.body), (404, &miss.body), "{path}");
    }
    assert_eq!(http::post(&format!("{}/pay/{token}", served.url), "").status, 404);
    let huge = "x".repeat(100_000);
    assert!([404, 413].contains(&http::post(&format!("{}/pay/{token}", served.url), &huge).status));
    // Sessions that are not ours: Stripe is not bothered.
    let stranger = http::get(&format!("{}/return/paid?session_id=cs_test_stranger", served.url));
    assert_eq!(stranger.status, 200);
    assert_eq!(http::get(&format!("{}/return/saved?session_id=cs_test_stranger", served.url)).status, 404);
    assert!(before == (shop.database.everything(), sandbox.requests()), "a GET had an effect");
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-robots-tag", "noindex, nofollow"),
    ] {
        assert_eq!(miss.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_card_link_from_the_command_line_leads_to_stripes_page() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox).set("HTTP__PUBLIC_URL", "https://pay.example.com");
    shop.import(&sandbox, &customers(1, "pm_card_visa"));
    let customer = shop.done(&["customers", "list", "--json"]).json()[0]["id"].as_str().unwrap().to_owned();
    let printed = shop.done(&["customers", "card-link", &customer]).out;
    let told = shop.done(&["customers", "card-link", &customer, "--json"]).json();
    assert_eq!(told["customer"]["id"], customer.as_str());
    let served = Served::start(&shop);
    for url in [printed.trim(), told["url"].as_str().unwrap()] {
        let (_, token) = url.split_once("/card/").unwrap_or_else(|| panic!("no card link: {url}"));
        let page = http::get(&format!("{}/card/{token}", served.url));
        assert!(page.status == 200 && page.body.contains("Save a card for Example Shop"), "{}", page.body);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-robots-tag", "noindex, nofollow"),
        ] {
            assert_eq!(page.header(name), Some(value), "{name}");
        }
        assert_eq!(
            rows(&sandbox.books(), "sessions").len(),
            usize::from(url != printed.trim()),
            "a GET opens nothing"
        );
        let click = http::post(&format!("{}/card/{token}", served.url), "");
        let page = click.header("location").unwrap_or_default();
        assert!(click.status == 303 && page.starts_with(&format!("{}/c/pay/cs_", sandbox.url)), "{page}");
    }
    assert_eq!(rows(&sandbox.books(), "sessions").len(), 1, "both links lead to one page");
    let token = printed.trim().rsplit('/').next().unwrap();
    let clicks = || http::post(&format!("{}/card/{token}", served.url), "").status;
    assert!((0..30).any(|_| clicks() == 429), "nobody counts the clicks");
    assert_eq!(shop.recurd(&["customers", "card-link", "nobody"]).code, Some(2));
}

/// A daemon that collects every second, and a payment whose answer takes its time.
fn in_flight(sandbox: &Sandbox, late: &str) -> (Shop, Served) {
    let shop = Shop::new(sandbox)
        .set("SCHEDULES__COLLECT", "* * * * * *")
        .set("SCHEDULES__RECONCILE", "0 0 0 1 1 *");
    shop.import(sandbox, &customers(1, "pm_card_visa"));
    shop.done(&["run", "--job", "materialize"]);
    let fault = format!(r#"{{"fault":"late {late}","method":"POST","path":"/v1/payment_intents"}}"#);
    sandbox.control("faults", &fault);
    let served = Served::start(&shop);
    until("the payment is on its way", || {
        let asked = |row: &Value| row["method"] == "POST" && row["path"] == "/v1/payment_intents";
        rows(&sandbox.books(), "requests").iter().any(asked)
    });
    (shop, served)
}

#[test]
fn a_signal_lets_what_is_in_flight_finish() {
    let sandbox = Sandbox::start();
    let (shop, served) = in_flight(&sandbox, "3s");
    served.process.signal("TERM");
    let ended = served.process.end();
    assert_eq!(ended.code, Some(0), "{ended}");
    let charges = shop.done(&["charges", "list", "--json"]).json();
    assert_eq!(charges[0]["state"], "paid", "its answer was not waited for: {ended}");
    sandbox.assert_each_paid_once(1);
}

#[test]
fn a_second_signal_does_not_wait_and_loses_nothing() {
    let sandbox = Sandbox::start();
    let (shop, mut served) = in_flight(&sandbox, "20s");
    let asked = Instant::now();
    served.process.signal("TERM");
    served.process.logs("Stopping");
    assert!(served.process.is_running(), "it did not wait for what is in flight");
    served.process.signal("TERM");
    let ended = served.process.end();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(asked.elapsed().as_secs() < 10, "it waited");
    let state = shop.done(&["charges", "list", "--json"]).json()[0]["state"].clone();
    assert_eq!(state, "collecting");
    // The sandbox holds the key until its late answer.
    sandbox.control("clock", r#"{"advance":"21s"}"#);
    shop.let_leases_run_out();
    shop.done(&["run"]);
    sandbox.assert_each_paid_once(1);
    assert_eq!(shop.done(&["charges", "list", "--json"]).json()[0]["state"], "paid");
}

#[test]
fn a_run_that_is_asked_to_stop_finishes_what_is_in_flight() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    shop.import(&sandbox, &customers(1, "pm_card_visa"));
    sandbox.control("faults", r#"{"fault":"late 3s","method":"POST","path":"/v1/payment_intents"}"#);
    let mut run = shop.start(&["run", "--json"]);
    until("the payment is on its way", || !sandbox.paid().is_empty());
    run.signal("TERM");
    run.logs("stopping");
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(ended.json()["interrupted"], true);
    assert_eq!(ended.json()["jobs"]["collect"]["outcomes"]["paid"], 1);
    assert_eq!(ended.json()["jobs"].get("notify"), None, "the rest is left to the next run");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let sandbox = Sandbox::start();
    let shop = Shop::new(&sandbox);
    let served = Served::start(&shop);
    let taken = served.url.trim_start_matches("http://").to_owned();
    let other = Shop::new(&sandbox).set("HTTP__LISTEN", &taken);
    let ended = other.recurd(&["serve"]);
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.err.contains(&format!("cannot listen on {taken}")), "{ended}");
}
