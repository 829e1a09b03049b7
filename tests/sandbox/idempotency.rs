//! Idempotency keys: replays, conflicts, and what is not kept.

use recurd::sandbox::{Effect, Request, Rule};

use crate::{CHARGE, DAY, charge, paid_charges, sandbox, send, with_card};

#[test]
fn a_repeated_key_replays_the_answer() {
    let sandbox = with_card("pm_card_visa");
    let first = sandbox.handle(&charge().key("k1"));
    let again = sandbox.handle(&charge().key("k1"));
    let (first, again) = (first.response().unwrap(), again.response().unwrap());
    assert_eq!(first.body, again.body);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["original-request"], first.headers["request-id"]);
    assert_eq!(first.headers["original-request"], first.headers["request-id"]);
    assert_ne!(again.headers["request-id"], first.headers["request-id"]);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn a_decline_is_replayed_and_makes_no_second_attempt() {
    let sandbox = with_card("pm_card_sandbox_fundsOnceThenGood");
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 402);
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 402);
    assert_eq!(sandbox.books().charges.len(), 1);
    assert_eq!(send(&sandbox, &charge().key("k2")).0, 200);
}

#[test]
fn other_parameters_or_another_endpoint_are_an_idempotency_error() {
    let sandbox = with_card("pm_card_visa");
    send(&sandbox, &charge().key("k1"));
    let other = CHARGE.map(|(name, value)| (name, if name == "amount" { "2000" } else { value }));
    let requests = [Request::post("/v1/payment_intents", &other), Request::post("/v1/customers", &[])];
    for request in requests {
        let (status, value) = send(&sandbox, &request.key("k1"));
        assert_eq!((status, &value["error"]["type"]), (400, &"idempotency_error".into()));
        assert!(value["error"]["code"].is_null() && value["error"]["param"].is_null());
    }
}

#[test]
fn the_order_of_parameters_does_not_matter() {
    let sandbox = with_card("pm_card_visa");
    let mut turned = CHARGE;
    turned.reverse();
    send(&sandbox, &charge().key("k1"));
    assert_eq!(send(&sandbox, &Request::post("/v1/payment_intents", &turned).key("k1")).0, 200);
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn a_validation_error_is_not_kept() {
    let sandbox = with_card("pm_card_visa");
    assert_eq!(send(&sandbox, &Request::post("/v1/payment_intents", &[]).key("k1")).0, 400);
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 200);
}

#[test]
fn an_executed_500_is_replayed_for_ever() {
    let sandbox = with_card("pm_card_visa");
    sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", Effect::parse("500").unwrap()));
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 500);
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 500);
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn a_gateways_502_is_not_kept() {
    let sandbox = with_card("pm_card_visa");
    sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", Effect::parse("502 not-executed").unwrap()));
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 502);
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 200);
    sandbox.add_fault(Rule::once("POST", "/v1/payment_intents", Effect::parse("503").unwrap()));
    assert_eq!(send(&sandbox, &charge().key("k2")).0, 503);
    assert_eq!(send(&sandbox, &charge().key("k2")).0, 200);
    assert_eq!(paid_charges(&sandbox), 2);
}

#[test]
fn a_key_is_in_use_until_the_first_request_is_answered() {
    let sandbox = with_card("pm_card_sandbox_lateAnswer");
    let outcome = sandbox.handle(&charge().key("k1"));
    assert_eq!(outcome.latency.as_secs(), 30);
    sandbox.advance(29);
    let (status, value) = send(&sandbox, &charge().key("k1"));
    assert_eq!((status, &value["error"]["code"]), (409, &"idempotency_key_in_use".into()));
    sandbox.advance(1);
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 200);
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn keys_are_kept_for_a_day_and_forgotten_within_three() {
    let sandbox = with_card("pm_card_visa");
    send(&sandbox, &charge().key("k1"));
    sandbox.advance(DAY - 1);
    send(&sandbox, &charge().key("k1"));
    assert_eq!(paid_charges(&sandbox), 1);
    sandbox.advance(2 * DAY + 1);
    send(&sandbox, &charge().key("k1"));
    assert_eq!(paid_charges(&sandbox), 2);
}

#[test]
fn reading_ignores_keys_and_long_keys_are_refused() {
    let sandbox = sandbox();
    assert_eq!(send(&sandbox, &Request::get("/v1/balance").key("k")).0, 200);
    assert_eq!(send(&sandbox, &Request::get("/v1/account").key("k")).0, 200);
    assert_eq!(send(&sandbox, &Request::post("/v1/customers", &[]).key(&"k".repeat(256))).0, 400);
}
