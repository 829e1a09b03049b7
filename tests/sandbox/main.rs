//! The sandbox behaves like Stripe: scenes played against it in-process, and a few over a socket.

mod against_spec;
mod cards;
mod charging;
mod checkout;
mod control;
mod faults;
mod idempotency;
mod objects;
mod over_http;
mod requests;
mod webhooks;

use recurd::sandbox::{Options, Request, Sandbox, SeedCard};
use serde_json::Value;

/// 2026-01-05 12:00 UTC, a Monday without payday.
const START: i64 = 1_767_614_400;

const DAY: i64 = 86_400;

fn sandbox() -> Sandbox {
    Sandbox::new(Options::manual(7, START))
}

/// A sandbox with customer `cus_1` whose card `pm_1` behaves like `token`.
fn with_card(token: &str) -> Sandbox {
    let sandbox = sandbox();
    seed(&sandbox, "1", token);
    sandbox
}

fn seed(sandbox: &Sandbox, name: &str, token: &str) {
    let customer = format!("cus_{name}");
    sandbox.seed_customer(&customer, Some("pat@example.com"), Some("Pat")).unwrap();
    let card =
        SeedCard { id: format!("pm_{name}"), customer, token: Some(token.to_owned()), ..SeedCard::default() };
    sandbox.seed_card(&card).unwrap();
}

/// Status and body of an answer; 0 and null if none arrives.
fn send(sandbox: &Sandbox, request: &Request) -> (u16, Value) {
    let outcome = sandbox.handle(request);
    outcome.response().map_or((0, Value::Null), |response| (response.status, response.value()))
}

fn get(sandbox: &Sandbox, path: &str) -> Value {
    let (status, value) = send(sandbox, &Request::get(path));
    assert_eq!(status, 200, "GET {path}: {value}");
    value
}

fn post(sandbox: &Sandbox, path: &str, fields: &[(&str, &str)]) -> Value {
    let (status, value) = send(sandbox, &Request::post(path, fields));
    assert_eq!(status, 200, "POST {path}: {value}");
    value
}

/// An error's status, code and parameter.
fn refused(sandbox: &Sandbox, path: &str, fields: &[(&str, &str)]) -> (u16, String, String) {
    let (status, value) = send(sandbox, &Request::post(path, fields));
    let text = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("param"))
}

const CHARGE: [(&str, &str); 7] = [
    ("amount", "1099"),
    ("currency", "usd"),
    ("customer", "cus_1"),
    ("payment_method", "pm_1"),
    ("off_session", "true"),
    ("confirm", "true"),
    ("payment_method_types[]", "card"),
];

/// An off-session charge of `pm_1`.
fn charge() -> Request {
    Request::post("/v1/payment_intents", &CHARGE)
}

/// Charges `pm_1` off-session; `paid`, or the decline code.
fn charge_result(sandbox: &Sandbox) -> String {
    let (status, value) = send(sandbox, &charge());
    match status {
        200 => value["status"].as_str().unwrap_or_default().to_owned(),
        _ => value["error"]["decline_code"].as_str().unwrap_or_default().to_owned(),
    }
}

/// How often money moved.
fn paid_charges(sandbox: &Sandbox) -> usize {
    sandbox.books().charges.iter().filter(|charge| charge.status == "succeeded").count()
}
