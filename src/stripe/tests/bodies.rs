//! Bodies that are cut or strange never become an answer.

use super::script::{Script, answer, declined, intent, refused};
use crate::stripe::payment_intents::PaymentIntentStatus;
use crate::stripe::{Error, Expandable};

#[tokio::test]
async fn a_body_cut_at_any_byte_is_unknown() {
    let bodies = [
        (200, intent("succeeded")),
        (402, declined()),
        (400, refused("invalid_request_error", "parameter_missing")),
        (404, refused("invalid_request_error", "resource_missing")),
    ];
    for (status, body) in bodies {
        for cut in 0..body.len() {
            let stripe = Script::new([answer(status, &body[..cut])]);
            let error = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap_err();
            assert!(matches!(error, Error::Unknown(_)), "{status} cut at {cut}: {error}");
            assert_eq!(stripe.sends(), 1, "{status} cut at {cut}");
        }
    }
}

#[tokio::test]
async fn an_unreadable_body_is_not_quoted() {
    let stripe = Script::new([answer(200, r#"{"id": 4242424242424242, "object": "payment_intent"}"#)]);
    let error = stripe.client().retrieve_payment_intent("pi_1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "GET /v1/payment_intents/pi_1: outcome unknown, an answer 200 that cannot be read: Data error at line 1 column 23"
    );
}

#[tokio::test]
async fn values_of_a_later_version_still_parse() {
    let stripe = Script::new([answer(200, intent("requires_moon_phase"))]);
    let read = stripe.client().retrieve_payment_intent("pi_1").await.unwrap().value;
    assert_eq!(read.status, PaymentIntentStatus::Unknown("requires_moon_phase".to_owned()));
    assert_eq!(read.status.as_str(), "requires_moon_phase");
}

#[tokio::test]
async fn a_reference_parses_as_an_id_and_as_an_object() {
    let charge = r#"{"id":"ch_9","object":"charge","status":"failed","amount":1099,"amount_refunded":0,
        "currency":"usd","refunded":false,"disputed":true,"created":1767225600,"livemode":false,
        "outcome":{"type":"blocked","network_status":"not_sent_to_network","reason":"highest_risk_level"}}"#;
    let expanded = intent("succeeded")
        .replace(r#""ch_1""#, charge)
        .replace(r#""cus_1""#, r#"{"id":"cus_2","object":"customer","deleted":true}"#);
    let stripe = Script::new([answer(200, intent("succeeded")), answer(200, expanded)]);
    let client = stripe.client();

    let plain = client.retrieve_payment_intent("pi_1").await.unwrap().value;
    assert_eq!(plain.latest_charge, Some(Expandable::Id("ch_1".to_owned())));
    assert_eq!(plain.customer.as_deref(), Some("cus_1"));
    assert_eq!(plain.amount().unwrap().to_string(), "10.99 USD");

    let whole = client.retrieve_payment_intent("pi_1").await.unwrap().value;
    let charge = whole.latest_charge.as_ref().unwrap();
    assert_eq!(charge.id(), "ch_9");
    assert!(charge.object().unwrap().disputed);
    assert_eq!(charge.object().unwrap().outcome.as_ref().unwrap().kind.as_str(), "blocked");
    assert_eq!(whole.customer.as_deref(), Some("cus_2"));
}

#[tokio::test]
async fn a_deleted_customer_is_an_answer() {
    let stripe = Script::new([
        answer(200, r#"{"id":"cus_1","object":"customer","deleted":true}"#),
        answer(
            200,
            r#"{"id":"cus_1","object":"customer","livemode":false,"created":1767225600,"metadata":null,
            "email":"pat@example.com","name":null,"preferred_locales":null,
            "invoice_settings":{"default_payment_method":{"id":"pm_1"}}}"#,
        ),
    ]);
    let client = stripe.client();
    assert!(client.retrieve_customer("cus_1").await.unwrap().value.active().is_none());
    let customer = client.retrieve_customer("cus_1").await.unwrap().value;
    let customer = customer.active().unwrap();
    assert_eq!(customer.default_payment_method.as_deref(), Some("pm_1"));
    assert_eq!(customer.email.as_deref(), Some("pat@example.com"));
}
