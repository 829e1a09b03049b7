//! `PaymentIntent`s: paying, declining, confirming again, canceling.

use recurd::sandbox::Request;

use crate::{CHARGE, DAY, charge, get, paid_charges, post, refused, seed, send, with_card};

#[test]
fn a_good_card_pays() {
    let sandbox = with_card("pm_card_visa");
    let intent = post(&sandbox, "/v1/payment_intents", &CHARGE);
    assert_eq!((&intent["status"], &intent["amount_received"]), (&"succeeded".into(), &1099.into()));
    let path = format!("/v1/charges/{}", intent["latest_charge"].as_str().unwrap());
    assert_eq!(get(&sandbox, &path)["outcome"]["type"], "authorized");
}

#[test]
fn a_decline_leaves_an_open_intent_that_the_error_carries() {
    let sandbox = with_card("pm_card_chargeCustomerFail");
    let (status, value) = send(&sandbox, &charge());
    let error = &value["error"];
    assert_eq!(
        (status, &error["code"], &error["decline_code"]),
        (402, &"card_declined".into(), &"generic_decline".into())
    );
    let intent = &error["payment_intent"];
    assert_eq!(intent["status"], "requires_payment_method");
    assert!(intent["payment_method"].is_null());
    assert_eq!(error["payment_method"]["id"], "pm_1");
    assert_eq!(intent["latest_charge"], error["charge"]);
    let read = get(&sandbox, &format!("/v1/payment_intents/{}", intent["id"].as_str().unwrap()));
    assert_eq!(&read, intent);
}

#[test]
fn the_same_intent_is_confirmed_again_with_another_card() {
    let sandbox = with_card("pm_card_chargeCustomerFail");
    let (_, value) = send(&sandbox, &charge());
    let id = value["error"]["payment_intent"]["id"].as_str().unwrap();
    let confirm = format!("/v1/payment_intents/{id}/confirm");
    assert_eq!(refused(&sandbox, &confirm, &[("off_session", "true")]).1, "payment_intent_unexpected_state");
    let card = post(&sandbox, "/v1/payment_methods/pm_card_visa/attach", &[("customer", "cus_1")]);
    let fields = [("payment_method", card["id"].as_str().unwrap()), ("off_session", "true")];
    assert_eq!(post(&sandbox, &confirm, &fields)["status"], "succeeded");
    let charges = get(&sandbox, &format!("/v1/charges?payment_intent={id}"));
    assert_eq!(charges["data"].as_array().unwrap().len(), 2);
    assert_eq!(refused(&sandbox, &confirm, &fields).1, "payment_intent_unexpected_state");
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn authentication_off_session_is_a_decline() {
    let sandbox = with_card("pm_card_authenticationRequired");
    let (status, value) = send(&sandbox, &charge());
    assert_eq!((status, &value["error"]["code"]), (402, &"authentication_required".into()));
    assert_eq!(value["error"]["payment_intent"]["status"], "requires_payment_method");
}

#[test]
fn authentication_on_session_waits_for_the_holder() {
    let sandbox = with_card("pm_card_authenticationRequired");
    let mut fields: Vec<_> = CHARGE.into_iter().filter(|(name, _)| *name != "off_session").collect();
    fields.push(("return_url", "http://merchant.example/back"));
    let intent = post(&sandbox, "/v1/payment_intents", &fields);
    assert_eq!(intent["status"], "requires_action");
    let url = intent["next_action"]["redirect_to_url"]["url"].as_str().unwrap();
    let path = url.strip_prefix("http://127.0.0.1:12111").unwrap();
    let outcome = sandbox.handle(&Request::post(path, &[("answer", "complete")]));
    assert_eq!(outcome.response().unwrap().status, 303);
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn a_canceled_intent_is_dead_and_a_paid_one_cannot_be_canceled() {
    let sandbox = with_card("pm_card_sandbox_fundsOnceThenGood");
    let (_, value) = send(&sandbox, &charge());
    let path = format!("/v1/payment_intents/{}", value["error"]["payment_intent"]["id"].as_str().unwrap());
    let canceled = post(&sandbox, &format!("{path}/cancel"), &[("cancellation_reason", "duplicate")]);
    assert_eq!(canceled["status"], "canceled");
    let confirm = [("payment_method", "pm_1"), ("off_session", "true")];
    assert_eq!(refused(&sandbox, &format!("{path}/confirm"), &confirm).0, 400);
    let paid = post(&sandbox, "/v1/payment_intents", &CHARGE);
    let path = format!("/v1/payment_intents/{}/cancel", paid["id"].as_str().unwrap());
    let (status, value) = send(&sandbox, &Request::post(path, &[]));
    assert_eq!((status, &value["error"]["payment_intent"]["status"]), (400, &"succeeded".into()));
}

#[test]
fn an_intent_that_is_confirmed_too_often_dies() {
    let sandbox = with_card("pm_card_chargeCustomerFail");
    let (_, value) = send(&sandbox, &charge());
    let path = format!("/v1/payment_intents/{}", value["error"]["payment_intent"]["id"].as_str().unwrap());
    let confirm =
        Request::post(format!("{path}/confirm"), &[("payment_method", "pm_1"), ("off_session", "true")]);
    for _ in 0..40 {
        let _ = sandbox.handle(&confirm);
    }
    assert_eq!(get(&sandbox, &path)["status"], "canceled");
    assert!((20..=30).contains(&sandbox.books().charges.len()));
}

#[test]
fn processing_ends_when_its_time_has_come() {
    let sandbox = with_card("pm_card_sandbox_processingThenPaid");
    let intent = post(&sandbox, "/v1/payment_intents", &CHARGE);
    let path = format!("/v1/payment_intents/{}", intent["id"].as_str().unwrap());
    assert_eq!(intent["status"], "processing");
    assert_eq!(refused(&sandbox, &format!("{path}/cancel"), &[]).0, 400);
    sandbox.advance(3 * DAY - 1);
    assert_eq!(get(&sandbox, &path)["status"], "processing");
    sandbox.advance(1);
    assert_eq!(get(&sandbox, &path)["status"], "succeeded");
}

#[test]
fn amounts_outside_the_limits_are_refused() {
    let sandbox = with_card("pm_card_visa");
    let try_amount = |amount: &str, currency: &str| {
        refused(&sandbox, "/v1/payment_intents", &[("amount", amount), ("currency", currency)]).1
    };
    assert_eq!(try_amount("49", "usd"), "amount_too_small");
    assert_eq!(try_amount("1000000000000", "usd"), "amount_too_large");
    assert_eq!(try_amount("0", "usd"), "parameter_invalid_integer");
    assert_eq!(try_amount("10.99", "usd"), "parameter_invalid_integer");
    assert_eq!(
        refused(&sandbox, "/v1/payment_intents", &[("amount", "550"), ("currency", "isk")]).2,
        "amount"
    );
    assert_eq!(
        refused(&sandbox, "/v1/payment_intents", &[("amount", "550"), ("currency", "xyz")]).2,
        "currency"
    );
}

#[test]
fn another_customers_card_cannot_be_charged() {
    let sandbox = with_card("pm_card_visa");
    seed(&sandbox, "2", "pm_card_visa");
    let fields = CHARGE.map(|(name, value)| (name, if name == "payment_method" { "pm_2" } else { value }));
    assert_eq!(refused(&sandbox, "/v1/payment_intents", &fields).2, "payment_method");
    assert_eq!(sandbox.books().payment_intents.len(), 0);
}

#[test]
fn a_detached_card_is_dead() {
    let sandbox = with_card("pm_card_visa");
    post(&sandbox, "/v1/payment_methods/pm_1/detach", &[]);
    assert_eq!(refused(&sandbox, "/v1/payment_intents", &CHARGE).0, 400);
    assert_eq!(refused(&sandbox, "/v1/payment_methods/pm_1/attach", &[("customer", "cus_1")]).0, 400);
}

#[test]
fn refunds_add_up_to_the_charge() {
    let sandbox = with_card("pm_card_visa");
    let intent = post(&sandbox, "/v1/payment_intents", &CHARGE);
    let id = intent["id"].as_str().unwrap();
    let refund = post(&sandbox, "/v1/refunds", &[("payment_intent", id), ("amount", "99")]);
    assert_eq!(refund["status"], "succeeded");
    assert_eq!(refused(&sandbox, "/v1/refunds", &[("payment_intent", id), ("amount", "1001")]).2, "amount");
    post(&sandbox, "/v1/refunds", &[("payment_intent", id)]);
    assert_eq!(refused(&sandbox, "/v1/refunds", &[("payment_intent", id)]).1, "charge_already_refunded");
    let charge =
        get(&sandbox, &format!("/v1/charges/{}?expand[]=refunds", intent["latest_charge"].as_str().unwrap()));
    assert_eq!((&charge["refunded"], charge["refunds"]["data"].as_array().unwrap().len()), (&true.into(), 2));
}
