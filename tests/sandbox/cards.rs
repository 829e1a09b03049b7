//! Test cards, the sandbox's own cards, and a bank of one's own.

use std::sync::Arc;

use recurd::sandbox::{Decline, Options, Sandbox, Verdict};
use serde_json::Value;

use crate::{DAY, START, charge, charge_result, get, post, refused, sandbox, seed, send, with_card};

#[test]
fn decline_cards_cannot_be_attached() {
    let sandbox = sandbox();
    let customer = post(&sandbox, "/v1/customers", &[]);
    let fields = [("customer", customer["id"].as_str().unwrap())];
    let tried = refused(&sandbox, "/v1/payment_methods/pm_card_visa_chargeDeclinedLostCard/attach", &fields);
    assert_eq!((tried.0, tried.1.as_str()), (402, "card_declined"));
    let attached = post(&sandbox, "/v1/payment_methods/pm_card_mastercard/attach", &fields);
    assert_ne!(attached["id"], "pm_card_mastercard");
    assert_eq!(
        (&attached["card"]["brand"], &attached["card"]["last4"]),
        (&"mastercard".into(), &"4444".into())
    );
}

#[test]
fn declines_carry_code_advice_and_parameter() {
    let sandbox = with_card("pm_card_sandbox_expired");
    let (_, value) = send(&sandbox, &charge());
    let error = &value["error"];
    let facts = ["code", "decline_code", "advice_code", "param"].map(|name| error[name].as_str().unwrap());
    assert_eq!(facts, ["expired_card", "expired_card", "confirm_card_data", "exp_month"]);
}

#[test]
fn a_blocked_charge_never_reaches_the_network() {
    let sandbox = with_card("pm_card_radarBlock");
    assert_eq!(charge_result(&sandbox), "fraudulent");
    let charge = &get(&sandbox, "/v1/charges")["data"][0];
    assert_eq!(charge["outcome"]["network_status"], "not_sent_to_network");
    assert!(!sandbox.books().charges[0].sent_to_network);
}

#[test]
fn the_same_number_has_one_fingerprint() {
    let sandbox = with_card("pm_card_visa");
    seed(&sandbox, "2", "pm_card_visa");
    seed(&sandbox, "3", "pm_card_mastercard");
    let prints: Vec<_> =
        sandbox.books().payment_methods.iter().map(|card| card.fingerprint.clone()).collect();
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[0], prints[2]);
}

#[test]
fn scripts_go_on_from_charge_to_charge() {
    let sandbox = with_card("pm_card_sandbox_fundsThenGood");
    let results: Vec<String> = (0..5).map(|_| charge_result(&sandbox)).collect();
    let no_funds = "insufficient_funds";
    assert_eq!(results, [no_funds, no_funds, no_funds, "succeeded", "succeeded"]);
    sandbox.script_card("pm_1", "lost_card, code_of_tomorrow, ok").unwrap();
    let results: Vec<String> = (0..3).map(|_| charge_result(&sandbox)).collect();
    assert_eq!(results, ["lost_card", "code_of_tomorrow", "succeeded"]);
    assert!(sandbox.script_card("pm_1", "two words").is_err());
}

#[test]
fn payday_cards_have_funds_around_payday() {
    let sandbox = with_card("pm_card_sandbox_payday");
    assert_eq!(charge_result(&sandbox), "insufficient_funds");
    sandbox.advance(10 * DAY);
    assert_eq!(charge_result(&sandbox), "succeeded");
}

#[test]
fn the_network_updates_a_card_in_place() {
    let sandbox = with_card("pm_card_sandbox_expiredThenUpdated");
    let before = get(&sandbox, "/v1/payment_methods/pm_1");
    assert_eq!(charge_result(&sandbox), "expired_card");
    sandbox.advance(60);
    let event = &get(&sandbox, "/v1/events?type=payment_method.automatically_updated")["data"][0];
    assert_eq!(event["data"]["object"]["id"], "pm_1");
    assert_eq!(event["data"]["previous_attributes"]["card"]["fingerprint"], before["card"]["fingerprint"]);
    assert_eq!(charge_result(&sandbox), "succeeded");
}

#[test]
fn a_card_past_its_date_is_expired() {
    let sandbox = with_card("pm_card_visa");
    sandbox.advance(6 * 366 * DAY);
    assert_eq!(charge_result(&sandbox), "expired_card");
}

#[test]
fn disputes_follow_the_cards_that_make_them() {
    let sandbox = with_card("pm_card_createDispute");
    charge_result(&sandbox);
    sandbox.advance(60);
    let dispute = &get(&sandbox, "/v1/disputes")["data"][0];
    assert_eq!((&dispute["status"], &dispute["reason"]), (&"needs_response".into(), &"fraudulent".into()));
    let id = sandbox.books().charges[0].id.clone();
    assert_eq!(refused(&sandbox, "/v1/refunds", &[("charge", &id)]).1, "charge_disputed");
}

#[test]
fn a_bank_of_ones_own_decides_first() {
    let mut options = Options::manual(1, START);
    options.issuer = Some(Arc::new(|attempt| {
        (attempt.amount > 1000).then(|| Verdict::Decline(Decline::of("do_not_honor")))
    }));
    let sandbox = Sandbox::new(options);
    seed(&sandbox, "1", "pm_card_visa");
    assert_eq!(charge_result(&sandbox), "do_not_honor");
    let cheap = crate::CHARGE.map(|(name, value)| (name, if name == "amount" { "999" } else { value }));
    assert_eq!(post(&sandbox, "/v1/payment_intents", &cheap)["status"], "succeeded");
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let story = || -> Value {
        let sandbox = with_card("pm_card_sandbox_fundsOnceThenGood");
        charge_result(&sandbox);
        charge_result(&sandbox);
        serde_json::to_value(sandbox.books()).unwrap()
    };
    assert_eq!(story(), story());
}
