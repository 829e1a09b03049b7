//! Checkout Sessions: saving a card, paying, refusing, expiring.

use recurd::sandbox::{CardEntry, PageStep, Request, Sandbox};
use serde_json::Value;

use crate::{CHARGE, DAY, START, charge_result, get, post, refused, sandbox, send, with_card};

const SETUP: [(&str, &str); 5] = [
    ("mode", "setup"),
    ("customer", "cus_1"),
    ("currency", "usd"),
    ("success_url", "http://merchant.example/back?s={CHECKOUT_SESSION_ID}"),
    ("setup_intent_data[metadata][enrolment]", "e1"),
];

const PAYMENT: [(&str, &str); 9] = [
    ("mode", "payment"),
    ("customer", "cus_1"),
    ("success_url", "http://merchant.example/back?s={CHECKOUT_SESSION_ID}"),
    ("line_items[0][quantity]", "2"),
    ("line_items[0][price_data][currency]", "usd"),
    ("line_items[0][price_data][unit_amount]", "550"),
    ("line_items[0][price_data][product_data][name]", "January"),
    ("payment_intent_data[metadata][charge]", "c1"),
    ("payment_intent_data[setup_future_usage]", "off_session"),
];

fn open(sandbox: &Sandbox, fields: &[(&str, &str)]) -> String {
    post(sandbox, "/v1/checkout/sessions", fields)["id"].as_str().unwrap().to_owned()
}

fn session(sandbox: &Sandbox, id: &str) -> Value {
    get(sandbox, &format!("/v1/checkout/sessions/{id}"))
}

fn page(sandbox: &Sandbox, request: &Request) -> (u16, String) {
    let outcome = sandbox.handle(request);
    let response = outcome.response().unwrap();
    let location = response.headers.get("location").map(|value| value.to_str().unwrap().to_owned());
    (response.status, location.unwrap_or_else(|| String::from_utf8(response.body.to_vec()).unwrap()))
}

#[test]
fn setup_mode_saves_a_card_that_can_be_charged() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &SETUP);
    let step = sandbox.complete_session(&id, "pm_card_mastercard").unwrap();
    assert_eq!(step, PageStep::Done { success_url: format!("http://merchant.example/back?s={id}") });
    let done = get(&sandbox, &format!("/v1/checkout/sessions/{id}?expand[]=setup_intent.payment_method"));
    assert_eq!(
        (&done["status"], &done["payment_status"]),
        (&"complete".into(), &"no_payment_required".into())
    );
    assert!(done["url"].is_null());
    assert_eq!(done["setup_intent"]["metadata"]["enrolment"], "e1");
    let card = &done["setup_intent"]["payment_method"];
    assert_eq!(card["customer"], "cus_1");
    let fields =
        CHARGE.map(|(k, v)| (k, if k == "payment_method" { card["id"].as_str().unwrap() } else { v }));
    assert_eq!(post(&sandbox, "/v1/payment_intents", &fields)["status"], "succeeded");
}

#[test]
fn setup_mode_authenticates_and_the_card_then_pays_off_session() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &SETUP);
    let (status, to) =
        page(&sandbox, &Request::post(format!("/c/pay/{id}"), &[("card", "4000 0025 0000 3155")]));
    assert_eq!((status, to), (303, format!("/c/pay/{id}/3ds")));
    assert!(page(&sandbox, &Request::get(format!("/c/pay/{id}/3ds"))).1.contains("Complete"));
    let answer = [("answer", "complete")];
    let (status, to) = page(&sandbox, &Request::post(format!("/c/pay/{id}/3ds"), &answer));
    assert_eq!((status, to), (303, format!("http://merchant.example/back?s={id}")));
    let cards = get(&sandbox, "/v1/customers/cus_1/payment_methods?type=card");
    let fields = CHARGE
        .map(|(k, v)| (k, if k == "payment_method" { cards["data"][0]["id"].as_str().unwrap() } else { v }));
    assert_eq!(post(&sandbox, "/v1/payment_intents", &fields)["status"], "succeeded");
}

#[test]
fn payment_mode_has_its_own_intent_and_saves_the_card() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &PAYMENT);
    assert!(session(&sandbox, &id)["payment_intent"].is_null());
    sandbox.complete_session(&id, "4242424242424242").unwrap();
    let done =
        get(&sandbox, &format!("/v1/checkout/sessions/{id}?expand[]=payment_intent&expand[]=line_items"));
    assert_eq!((&done["payment_status"], &done["amount_total"]), (&"paid".into(), &1100.into()));
    let intent = &done["payment_intent"];
    assert_eq!((&intent["metadata"]["charge"], &intent["amount_received"]), (&"c1".into(), &1100.into()));
    assert_eq!(done["line_items"]["data"][0]["description"], "January");
    let card = get(&sandbox, &format!("/v1/payment_methods/{}", intent["payment_method"].as_str().unwrap()));
    assert_eq!(card["customer"], "cus_1");
}

#[test]
fn a_refused_card_keeps_the_session_open() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &PAYMENT);
    let path = format!("/c/pay/{id}");
    let (status, text) = page(&sandbox, &Request::post(path.as_str(), &[("card", "4000000000009995")]));
    assert!(status == 402 && text.contains("insufficient funds"), "{text}");
    let open = session(&sandbox, &id);
    assert_eq!(open["status"], "open");
    let intent = open["payment_intent"].as_str().unwrap().to_owned();
    let failed = get(&sandbox, "/v1/events?type=payment_intent.payment_failed");
    assert_eq!(failed["data"][0]["data"]["object"]["id"], intent.as_str());
    for (verb, fields) in [("cancel", &[][..]), ("confirm", &[("payment_method", "pm_1")][..])] {
        let path = format!("/v1/payment_intents/{intent}/{verb}");
        assert_eq!(refused(&sandbox, &path, fields).1, "payment_intent_unexpected_state");
    }
    let (status, _) = page(&sandbox, &Request::post(path, &[("card", "4242424242424242")]));
    assert_eq!((status, session(&sandbox, &id)["payment_intent"].as_str()), (303, Some(intent.as_str())));
}

#[test]
fn failing_three_d_secure_keeps_the_session_open() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &PAYMENT);
    let entry = CardEntry { card: "pm_card_authenticationRequired".to_owned(), ..CardEntry::default() };
    assert_eq!(sandbox.submit_card(&id, &entry).unwrap(), PageStep::Authenticate);
    assert!(matches!(sandbox.answer_three_d_secure(&id, false).unwrap(), PageStep::Refused { .. }));
    assert_eq!(session(&sandbox, &id)["status"], "open");
}

#[test]
fn an_open_session_expires_once_and_takes_its_intents_along() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &PAYMENT);
    page(&sandbox, &Request::post(format!("/c/pay/{id}"), &[("card", "4000000000000002")]));
    let path = format!("/v1/checkout/sessions/{id}/expire");
    assert_eq!(post(&sandbox, &path, &[])["status"], "expired");
    assert_eq!(refused(&sandbox, &path, &[]).0, 400);
    assert_eq!(sandbox.books().payment_intents[0].status, "canceled");
    assert!(sandbox.complete_session(&id, "pm_card_visa").is_err());
    assert_eq!(page(&sandbox, &Request::get(format!("/c/pay/{id}"))).0, 410);
}

#[test]
fn sessions_expire_by_the_clock() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &SETUP);
    sandbox.advance(DAY - 1);
    assert_eq!(session(&sandbox, &id)["status"], "open");
    sandbox.advance(1);
    assert_eq!(session(&sandbox, &id)["status"], "expired");
    let event = &get(&sandbox, "/v1/events?type=checkout.session.expired")["data"][0];
    assert_eq!(
        (&event["created"], &event["data"]["object"]["id"]),
        (&(START + DAY).into(), &id.as_str().into())
    );
    assert_eq!(sandbox.books().setup_intents[0].status, "canceled");
}

#[test]
fn the_page_shows_what_is_bought_and_by_whom_it_is_played() {
    let sandbox = with_card("pm_card_visa");
    let mut fields = PAYMENT.to_vec();
    fields.push(("cancel_url", "http://merchant.example/no?a=1&b=<x>"));
    let (status, text) = page(&sandbox, &Request::get(format!("/c/pay/{}", open(&sandbox, &fields))));
    assert_eq!(status, 200);
    for part in
        ["11.00 USD", "January", "Sandbox Merchant", "This is not Stripe", "lang=\"en\"", "pat@example.com"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("<x>") && !text.contains("<script"));
}

#[test]
fn saved_cards_are_offered_when_they_may_be() {
    let sandbox = with_card("pm_card_visa");
    let mut fields = PAYMENT.to_vec();
    let (_, text) = page(&sandbox, &Request::get(format!("/c/pay/{}", open(&sandbox, &fields))));
    assert!(!text.contains("ending in 4242"));
    fields.push(("saved_payment_method_options[allow_redisplay_filters][]", "unspecified"));
    let id = open(&sandbox, &fields);
    assert!(page(&sandbox, &Request::get(format!("/c/pay/{id}"))).1.contains("ending in 4242"));
    assert_eq!(page(&sandbox, &Request::post(format!("/c/pay/{id}"), &[("saved", "pm_1")])).0, 303);
}

#[test]
fn typing_errors_are_told() {
    let sandbox = with_card("pm_card_visa");
    let id = open(&sandbox, &PAYMENT);
    let tell = |fields: &[(&str, &str)]| page(&sandbox, &Request::post(format!("/c/pay/{id}"), fields)).1;
    assert!(tell(&[("card", "4242424242424241")]).contains("number is invalid"));
    assert!(tell(&[("card", "4242424242424242"), ("exp", "13/30")]).contains("expiration date is invalid"));
    assert!(tell(&[("card", "4242424242424242"), ("exp", "01/20")]).contains("in the past"));
    assert!(tell(&[("card", "4242424242424242"), ("cvc", "99")]).contains("security code"));
    assert!(tell(&[("card", "4111111111111111")]).contains("only test cards"));
}

#[test]
fn parameters_of_a_session_fit_its_mode() {
    let sandbox = with_card("pm_card_visa");
    let tried = |fields: &[(&str, &str)]| refused(&sandbox, "/v1/checkout/sessions", fields);
    let url = ("success_url", "http://merchant.example/");
    assert_eq!(tried(&[("mode", "setup"), url]).2, "currency");
    assert_eq!(tried(&[("mode", "setup")]).2, "success_url");
    assert_eq!(tried(&[("mode", "subscription"), url]).2, "mode");
    assert_eq!(tried(&[("mode", "payment"), url]).2, "line_items");
    assert_eq!(
        tried(&[("mode", "setup"), url, ("currency", "usd"), ("submit_type", "pay")]).2,
        "submit_type"
    );
    let soon = (START + 60).to_string();
    assert_eq!(tried(&[("mode", "setup"), url, ("currency", "usd"), ("expires_at", &soon)]).2, "expires_at");
    let hour = (START + 3600).to_string();
    let fields = [("mode", "setup"), url, ("currency", "usd"), ("expires_at", hour.as_str())];
    assert_eq!(post(&sandbox, "/v1/checkout/sessions", &fields)["expires_at"], START + 3600);
}

#[test]
fn a_session_without_a_customer_makes_one_to_save_the_card() {
    let sandbox = sandbox();
    let fields: Vec<_> = PAYMENT.into_iter().filter(|(name, _)| *name != "customer").collect();
    let id = open(&sandbox, &fields);
    let (status, _) = page(
        &sandbox,
        &Request::post(format!("/c/pay/{id}"), &[("card", "4242424242424242"), ("email", "new@example.com")]),
    );
    let done = session(&sandbox, &id);
    assert_eq!((status, &done["customer_details"]["email"]), (303, &"new@example.com".into()));
    assert_eq!(sandbox.books().customers[0].id, done["customer"].as_str().unwrap());
}

#[test]
fn a_delayed_payment_completes_unpaid_and_is_told_later() {
    let sandbox = with_card("pm_card_sandbox_processingThenFailed");
    let mut fields = PAYMENT.to_vec();
    fields.push(("saved_payment_method_options[allow_redisplay_filters][]", "unspecified"));
    let id = open(&sandbox, &fields);
    sandbox.complete_session(&id, "pm_1").unwrap();
    let done = session(&sandbox, &id);
    assert_eq!((&done["status"], &done["payment_status"]), (&"complete".into(), &"unpaid".into()));
    sandbox.advance(3 * DAY);
    let events = get(&sandbox, "/v1/events?type=checkout.session.async_payment_failed");
    assert_eq!(events["data"].as_array().unwrap().len(), 1);
    assert_eq!(charge_result(&sandbox), "succeeded");
    assert_eq!(
        send(&sandbox, &Request::get(format!("/v1/checkout/sessions/{id}"))).1["payment_status"],
        "unpaid"
    );
}

#[test]
fn a_page_in_euros_takes_debits_where_it_is_asked_to() {
    const METHODS: [(&str, &str); 3] = [
        ("payment_method_types[]", "card"),
        ("payment_method_types[]", "sepa_debit"),
        ("payment_method_options[card][setup_future_usage]", "off_session"),
    ];
    let sandbox = with_card("pm_card_visa");
    let of_currency = |currency: &'static str| -> Vec<(&str, &str)> {
        let fields = PAYMENT.into_iter().filter(|(name, _)| !name.ends_with("[setup_future_usage]"));
        let fields = fields.map(|(name, value)| (name, if value == "usd" { currency } else { value }));
        fields.chain(METHODS).collect()
    };
    assert_eq!(refused(&sandbox, "/v1/checkout/sessions", &of_currency("usd")).2, "payment_method_types");
    let id = open(&sandbox, &of_currency("eur"));
    let path = format!("/c/pay/{id}");
    assert!(page(&sandbox, &Request::get(path.as_str())).1.contains("IBAN"));
    let typed = |iban: &str| page(&sandbox, &Request::post(path.as_str(), &[("iban", iban)]));
    assert!(typed("DE03 0000 0000 0000 0000 21").1.contains("number is invalid"), "the check digits");
    assert_eq!(typed("DE03 0000 0000 0000 0000 12").0, 303);
    let expand = "expand[]=payment_intent.payment_method&expand[]=payment_intent.latest_charge";
    let done = get(&sandbox, &format!("/v1/checkout/sessions/{id}?{expand}"));
    assert_eq!((&done["status"], &done["payment_status"]), (&"complete".into(), &"unpaid".into()));
    let intent = &done["payment_intent"];
    assert_eq!((&intent["status"], &intent["processing"]), (&"processing".into(), &Value::Null));
    assert_eq!(intent["latest_charge"]["payment_method_details"]["sepa_debit"]["last4"], "0012");
    sandbox.advance(5 * DAY);
    let done = get(&sandbox, &format!("/v1/checkout/sessions/{id}?{expand}"));
    assert_eq!(done["payment_status"], "paid");
    let account = &done["payment_intent"]["payment_method"];
    assert_eq!(
        (&account["type"], &account["customer"]),
        (&"sepa_debit".into(), &Value::Null),
        "it is not saved"
    );
    let cards_only = open(&sandbox, &PAYMENT);
    let path = format!("/c/pay/{cards_only}");
    let (status, text) = page(&sandbox, &Request::post(path, &[("iban", "DE03000000000000000012")]));
    assert!(status == 402 && text.contains("does not take that"), "{text}");
}
