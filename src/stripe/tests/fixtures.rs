//! Whole objects as Stripe shows them in its own documentation.

use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use super::script::{Script, answer_with};
use crate::stripe::account::Account;
use crate::stripe::charges::Charge;
use crate::stripe::checkout::CheckoutSession;
use crate::stripe::customers::Customer;
use crate::stripe::disputes::Dispute;
use crate::stripe::payment_intents::PaymentIntent;
use crate::stripe::payment_methods::PaymentMethod;
use crate::stripe::refunds::Refund;
use crate::stripe::setup_intents::SetupIntent;
use crate::stripe::webhook::{EventError, parse_event};
use crate::stripe::{Error, Next};

fn fixtures() -> Option<Value> {
    let shared = std::env::var_os("RECURD_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("stripe/fixtures.json");
    let Ok(text) = std::fs::read(&path) else {
        // Past the test harness, which would swallow what a passing test prints.
        writeln!(std::io::stderr(), "SKIPPED: no Stripe fixtures at {}; set RECURD_SHARED", path.display())
            .unwrap();
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

fn parse(object: &Value) -> Result<(), serde_json::Error> {
    let kind = object["object"].as_str().unwrap();
    let text = object.to_string();
    match kind {
        "customer" => serde_json::from_str::<Customer>(&text).map(drop),
        "checkout.session" => serde_json::from_str::<CheckoutSession>(&text).map(drop),
        "setup_intent" => serde_json::from_str::<SetupIntent>(&text).map(drop),
        "payment_method" => serde_json::from_str::<PaymentMethod>(&text).map(drop),
        "payment_intent" => serde_json::from_str::<PaymentIntent>(&text).map(drop),
        "charge" => serde_json::from_str::<Charge>(&text).map(drop),
        "refund" => serde_json::from_str::<Refund>(&text).map(drop),
        "dispute" => serde_json::from_str::<Dispute>(&text).map(drop),
        "mandate" | "balance" | "balance_transaction" | "event" => Ok(()),
        other => panic!("a fixture of an unexpected kind: {other}"),
    }
}

#[test]
fn every_object_parses() {
    let Some(fixtures) = fixtures() else { return };
    let mut parsed = 0;
    for set in ["raw", "derived"] {
        let objects = fixtures[set].as_object().unwrap().iter();
        for (name, object) in objects.filter(|(_, object)| object["object"].as_str() != Some("v2.core.event"))
        {
            if object["object"].is_string() {
                parse(object).unwrap_or_else(|e| panic!("{set}.{name}: {e}"));
                parsed += 1;
            }
        }
    }
    assert!(parsed > 25, "{parsed}");
    let account: Account =
        serde_json::from_str(r#"{"id":"acct_1","object":"account","type":"standard"}"#).unwrap();
    assert_eq!(account.id, "acct_1");
}

#[test]
fn every_event_parses_and_so_does_its_object() {
    let Some(fixtures) = fixtures() else { return };
    for (name, event) in fixtures["derived"]["events"].as_object().unwrap() {
        let read = parse_event(event.to_string().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(name.starts_with(&read.kind), "{name}");
        assert_eq!(read.object_id.as_deref(), event["data"]["object"]["id"].as_str(), "{name}");
        parse(&event["data"]["object"]).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let thin = fixtures["derived"]["thin_event_notification"].to_string();
    assert_eq!(parse_event(thin.as_bytes()), Err(EventError::Thin));
}

/// What each error of the fixtures must lead to.
fn expected(name: &str) -> Next {
    match name {
        "card_declined_insufficient_funds"
        | "authentication_required"
        | "expired_card"
        | "processing_error"
        | "lost_card" => Next::NewAttempt,
        "idempotency_in_use" | "rate_limited" | "lock_timeout" => Next::RetrySameKey,
        "idempotency_mismatch" | "unexpected_state" | "server_error" => Next::Reconcile,
        "unauthorized" | "forbidden" => Next::StopAndAlert,
        _ => Next::Park,
    }
}

#[tokio::test]
async fn every_error_leads_where_it_must() {
    let Some(fixtures) = fixtures() else { return };
    for (name, error) in fixtures["errors"].as_object().unwrap() {
        let status = u16::try_from(error["status"].as_u64().unwrap()).unwrap();
        let headers: Vec<(&str, &str)> = error["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let answers = (0..3).map(|_| answer_with(status, &headers, error["body"].to_string()));
        let got = Script::new(answers).client().create_payment_intent("amount=1", "key-1").await.unwrap_err();
        assert_eq!(got.next(), expected(name), "{name}: {got}");
        assert_eq!(got.call().request_id.as_deref(), error["headers"]["Request-Id"].as_str(), "{name}");
        if let Error::Declined(decline) = &got {
            let intent = decline.error.payment_intent.as_ref().unwrap();
            assert_eq!(intent.id, error["body"]["error"]["payment_intent"]["id"].as_str().unwrap());
            assert!(decline.error.payment_method.as_ref().unwrap().card.is_some(), "{name}");
            assert!(intent.last_payment_error.is_some(), "{name}");
        }
    }
}
