//! Events and their deliveries.

use recurd::sandbox::{Delivery, Sandbox, WebhookRules};
use ring::hmac;

use crate::{DAY, charge, charge_result, get, post, refused, send, with_card};

fn types(deliveries: &[Delivery]) -> Vec<&'static str> {
    deliveries.iter().map(|delivery| delivery.event_type).collect()
}

fn listening(token: &str) -> (Sandbox, String) {
    let sandbox = with_card(token);
    let secret = sandbox.add_webhook("http://127.0.0.1:1/hook", &["*"], None);
    (sandbox, secret)
}

#[test]
fn a_charge_tells_its_story_in_order() {
    let (sandbox, _) = listening("pm_card_sandbox_fundsOnceThenGood");
    charge_result(&sandbox);
    let declined = sandbox.take_deliveries();
    assert_eq!(
        types(&declined),
        ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    );
    charge_result(&sandbox);
    sandbox.advance(2);
    let paid = types(&sandbox.take_deliveries());
    assert_eq!(
        paid,
        ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "charge.updated"]
    );
    assert!(sandbox.take_deliveries().is_empty());
}

#[test]
fn deliveries_are_signed_over_their_raw_body() {
    let (sandbox, secret) = listening("pm_card_visa");
    send(&sandbox, &charge().key("k1"));
    let delivery = &sandbox.take_deliveries()[2];
    let header = &delivery.headers.iter().find(|(name, _)| *name == "stripe-signature").unwrap().1;
    let (time, signature) = header.split_once(",v1=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [time.strip_prefix("t=").unwrap().as_bytes(), b".", &delivery.body].concat();
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).unwrap()).collect();
    hmac::verify(&key, &signed, &bytes).unwrap();
    let event: serde_json::Value = serde_json::from_slice(&delivery.body).unwrap();
    assert_eq!(event["request"]["idempotency_key"], "k1");
    assert_eq!(event["data"]["object"]["status"], "succeeded");
    assert_eq!(event["pending_webhooks"], 1);
}

#[test]
fn a_failed_delivery_comes_again_later_with_a_new_signature() {
    let (sandbox, _) = listening("pm_card_visa");
    charge_result(&sandbox);
    let first = sandbox.take_deliveries();
    sandbox.delivery_failed(&first[0]);
    assert!(sandbox.take_deliveries().is_empty());
    assert_eq!(get(&sandbox, "/v1/events?delivery_success=false")["data"].as_array().unwrap().len(), 1);
    sandbox.advance(3600);
    let due = sandbox.take_deliveries();
    let again = due.iter().find(|delivery| delivery.event_id == first[0].event_id).unwrap();
    assert_ne!(again.headers, first[0].headers);
}

#[test]
fn a_dead_endpoint_is_tried_for_about_three_days() {
    let (sandbox, _) = listening("pm_card_visa");
    post(&sandbox, "/v1/customers", &[]);
    let (mut tries, mut last_hour) = (0, 0);
    for hour in 0..10 * 24 {
        for delivery in sandbox.take_deliveries() {
            sandbox.delivery_failed(&delivery);
            (tries, last_hour) = (tries + 1, hour);
        }
        sandbox.advance(3600);
    }
    assert!(tries > 8 && (2 * 24..5 * 24).contains(&last_hour), "{tries} tries until hour {last_hour}");
}

#[test]
fn deliveries_can_be_doubled_dropped_delayed_and_mixed() {
    let (sandbox, _) = listening("pm_card_visa");
    sandbox.set_webhook_rules(WebhookRules { duplicate_percent: 100, ..WebhookRules::default() });
    charge_result(&sandbox);
    assert_eq!(sandbox.take_deliveries().len(), 6);
    sandbox.set_webhook_rules(WebhookRules { drop_percent: 100, ..WebhookRules::default() });
    charge_result(&sandbox);
    sandbox.advance(DAY);
    assert!(sandbox.take_deliveries().is_empty());
    sandbox.set_webhook_rules(WebhookRules {
        delay_ms_max: 3_600_000,
        shuffle: true,
        ..WebhookRules::default()
    });
    charge_result(&sandbox);
    assert!(sandbox.take_deliveries().len() < 3);
    sandbox.advance(2 * 3600);
    assert!(sandbox.take_deliveries().len() >= 3);
}

#[test]
fn an_endpoint_hears_only_what_it_asked_for_in_its_own_version() {
    let sandbox = with_card("pm_card_visa");
    let fields = [
        ("url", "http://127.0.0.1:1/hook"),
        ("enabled_events[]", "payment_intent.succeeded"),
        ("api_version", "2026-04-22.dahlia"),
    ];
    let endpoint = post(&sandbox, "/v1/webhook_endpoints", &fields);
    assert!(endpoint["secret"].as_str().unwrap().starts_with("whsec_"));
    charge_result(&sandbox);
    let deliveries = sandbox.take_deliveries();
    assert_eq!(types(&deliveries), ["payment_intent.succeeded"]);
    let event: serde_json::Value = serde_json::from_slice(&deliveries[0].body).unwrap();
    assert_eq!(event["api_version"], "2026-04-22.dahlia");
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    assert!(get(&sandbox, &path)["secret"].is_null());
    post(&sandbox, &path, &[("disabled", "true")]);
    charge_result(&sandbox);
    assert!(sandbox.take_deliveries().is_empty());
    assert_eq!(
        refused(&sandbox, "/v1/webhook_endpoints", &[("url", "x"), ("enabled_events[]", "*")]).2,
        "url"
    );
}

#[test]
fn events_are_listed_by_type_for_thirty_days() {
    let sandbox = with_card("pm_card_visa");
    charge_result(&sandbox);
    let count = |query: &str| get(&sandbox, &format!("/v1/events?{query}"))["data"].as_array().unwrap().len();
    assert_eq!(count("types[]=charge.succeeded&types[]=payment_intent.succeeded"), 2);
    assert_eq!(count("type=charge.*"), 1);
    let id = get(&sandbox, "/v1/events?limit=1")["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(get(&sandbox, &format!("/v1/events/{id}"))["id"], id.as_str());
    sandbox.advance(31 * DAY);
    assert_eq!(count("limit=100"), 0);
}
