//! The endpoints under `/_sandbox/`.

use recurd::sandbox::{Request, Sandbox};
use serde_json::{Value, json};

use crate::{START, charge, charge_result, get, paid_charges, sandbox, send, with_card};

fn tell(sandbox: &Sandbox, path: &str, body: &str) -> (u16, Value) {
    let mut request = Request::new("POST".parse().unwrap(), path);
    request.body = body.to_owned().into();
    send(sandbox, &request)
}

#[test]
fn the_clock_moves_forward_and_takes_things_along() {
    let sandbox = with_card("pm_card_sandbox_processingThenPaid");
    charge_result(&sandbox);
    assert_eq!(tell(&sandbox, "/_sandbox/clock", r#"{"advance": "3d"}"#).1["now"], START + 3 * 86_400);
    assert_eq!(paid_charges(&sandbox), 1);
    assert_eq!(
        tell(&sandbox, "/_sandbox/clock", r#"{"set": "2026-01-31T09:00:00Z"}"#).1["now"],
        1_769_850_000
    );
    assert_eq!(tell(&sandbox, "/_sandbox/clock", r#"{"set": "2020-01-01T00:00:00Z"}"#).0, 400);
    assert_eq!(tell(&sandbox, "/_sandbox/clock", r#"{"forward": "3d"}"#).0, 400);
}

#[test]
fn a_list_of_stripe_ids_can_be_made_to_exist() {
    let sandbox = sandbox();
    let csv = "customer,payment_method,email,name,plan,card\n\
               cus_1,pm_card_chargeCustomerFail_ann,ann@example.com,Ann,pro,\n\
               cus_2,pm_1,bob@example.com,Bob,pro,pm_card_sandbox_payday\n\
               cus_2,pm_2,,,,4242424242424242\n";
    assert_eq!(tell(&sandbox, "/_sandbox/seed_csv", csv), (200, json!({ "customers": 2, "cards": 3 })));
    assert_eq!(tell(&sandbox, "/_sandbox/seed_csv", csv), (200, json!({ "customers": 0, "cards": 0 })));
    assert_eq!(get(&sandbox, "/v1/payment_methods/pm_card_chargeCustomerFail_ann")["customer"], "cus_1");
    assert_eq!(get(&sandbox, "/v1/customers/cus_2/payment_methods")["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        tell(&sandbox, "/_sandbox/seed_csv", "customer,payment_method,card\ncus_9,pm_9,nonsense\n").0,
        400
    );
}

#[test]
fn cards_faults_and_sessions_are_controlled_by_json() {
    let sandbox = sandbox();
    let seed = r#"{"customers": [{"id": "cus_1", "email": "a@example.com",
        "cards": [{"id": "pm_1", "card": "pm_card_visa", "script": "lost_card, ok"}]}]}"#;
    assert_eq!(tell(&sandbox, "/_sandbox/seed", seed).0, 200);
    assert_eq!(charge_result(&sandbox), "lost_card");
    assert_eq!(tell(&sandbox, "/_sandbox/faults", r#"{"fault": "no-answer", "times": 1}"#).0, 200);
    assert_eq!(send(&sandbox, &charge()).0, 0);
    let fields =
        [("mode", "setup"), ("currency", "usd"), ("customer", "cus_1"), ("success_url", "http://m.example")];
    let session = crate::post(&sandbox, "/v1/checkout/sessions", &fields);
    let path = format!("/_sandbox/checkout/{}", session["id"].as_str().unwrap());
    let done =
        tell(&sandbox, &path, r#"{"card": "pm_card_authenticationRequired", "three_d_secure": "fail"}"#).1;
    assert!(done["refused"].is_string() && done["session"]["status"] == "open");
    let done = tell(&sandbox, &path, r#"{"card": "pm_card_authenticationRequired"}"#).1;
    assert_eq!(done["session"]["status"], "complete");
}

#[test]
fn books_requests_and_reset() {
    let sandbox = with_card("pm_card_visa");
    send(&sandbox, &charge().key("k1"));
    send(&sandbox, &charge().key("k1"));
    assert_eq!(get(&sandbox, "/_sandbox/books")["charges"].as_array().unwrap().len(), 1);
    let requests = get(&sandbox, "/_sandbox/requests");
    assert_eq!((&requests[0]["replayed"], &requests[1]["replayed"]), (&false.into(), &true.into()));
    assert_eq!(requests[0]["body_hash"], requests[1]["body_hash"]);
    assert_eq!(tell(&sandbox, "/_sandbox/reset", "").0, 200);
    assert_eq!(sandbox.books().charges.len(), 0);
    assert!(get(&sandbox, "/_sandbox/")["what"].is_string());
    assert_eq!(send(&sandbox, &Request::get("/_sandbox/nothing")).0, 400);
}

#[test]
fn disputes_are_opened_and_closed_by_hand() {
    let sandbox = with_card("pm_card_visa");
    charge_result(&sandbox);
    let id = sandbox.books().charges[0].id.clone();
    let dispute = tell(&sandbox, "/_sandbox/disputes", &json!({ "charge": id }).to_string()).1;
    let path = format!("/_sandbox/disputes/{}/close", dispute["id"].as_str().unwrap());
    assert_eq!(tell(&sandbox, &path, r#"{"status": "won"}"#).1["status"], "won");
    let closed = get(&sandbox, "/v1/events?type=charge.dispute.closed");
    assert_eq!(closed["data"].as_array().unwrap().len(), 1);
}
