//! Keys, versions and strict parameters.

use proptest::prelude::*;
use recurd::sandbox::{Options, Request, Sandbox};

use crate::{CHARGE, START, charge, refused, sandbox, send, with_card};

#[test]
fn only_test_keys_are_taken() {
    let sandbox = sandbox();
    let with = |key: &str| {
        let mut request = Request::get("/v1/balance");
        request.headers.remove("authorization");
        send(&sandbox, &request.header("authorization", key))
    };
    assert_eq!(with("Bearer sk_test_1").0, 200);
    assert_eq!(with("Bearer rk_test_1").0, 200);
    assert_eq!(with("Basic c2tfdGVzdF8xOg==").0, 200);
    let (status, value) = with("Bearer sk_live_1");
    assert!(status == 401 && value["error"]["message"].as_str().unwrap().contains("refuses live keys"));
    for key in ["Bearer pk_test_1", "Bearer ", "Basic !", "nothing", ""] {
        assert_eq!(with(key).0, 401, "{key}");
    }
    sandbox.revoke_key("sk_test_1");
    assert_eq!(with("Bearer sk_test_1").0, 401);
}

#[test]
fn every_answer_names_its_request_its_version_and_the_time() {
    let sandbox = sandbox();
    let outcome = sandbox.handle(&Request::get("/v1/balance").header("stripe-version", "2026-07-29.dahlia"));
    let headers = &outcome.response().unwrap().headers;
    assert!(headers["request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(headers["stripe-version"], "2026-07-29.dahlia");
    assert_eq!(headers["date"], "Mon, 05 Jan 2026 12:00:00 GMT");
    assert_eq!(send(&sandbox, &Request::get("/v1/balance").header("stripe-version", "2026-07-30")).0, 400);
}

#[test]
fn method_types_are_a_parameter_until_endive() {
    let sandbox = with_card("pm_card_visa");
    let at = |version: &str, name: &str| {
        let fields = CHARGE
            .map(|(field, value)| (if field == "payment_method_types[]" { name } else { field }, value));
        let request = Request::post("/v1/payment_intents", &fields).header("stripe-version", version);
        let (status, value) = send(&sandbox, &request);
        (status, value["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let (old, new) = ("payment_method_types[]", "allowed_payment_method_types[]");
    let unknown = (400, "parameter_unknown".to_owned());
    assert_eq!(at("2026-05-27.dahlia", old).0, 200);
    assert_eq!(at("2026-05-27.dahlia", new), unknown);
    assert_eq!(at("2026-09-30.endive", old), unknown);
    assert_eq!(at("2026-09-30.endive", new).0, 200);
}

#[test]
fn parameters_are_checked_as_strictly_as_stripe_does() {
    let sandbox = with_card("pm_card_visa");
    let tried = |field: (&str, &str)| {
        let mut fields: Vec<_> = CHARGE.into_iter().filter(|(name, _)| *name != field.0).collect();
        fields.push(field);
        let (status, code, param) = refused(&sandbox, "/v1/payment_intents", &fields);
        assert_eq!((status, sandbox.books().payment_intents.len()), (400, 0), "{field:?}");
        (code, param)
    };
    let pair = |code: &str, param: &str| (code.to_owned(), param.to_owned());
    assert_eq!(tried(("payment_method_type", "card")), pair("parameter_unknown", "payment_method_type"));
    assert_eq!(tried(("shipping[colour]", "red")), pair("parameter_unknown", "shipping[colour]"));
    assert_eq!(tried(("amount", "1e3")), pair("parameter_invalid_integer", "amount"));
    assert_eq!(tried(("confirm", "yes")), pair("", "confirm"));
    assert_eq!(tried(("capture_method", "later")), pair("", "capture_method"));
    assert_eq!(tried(("customer", "")), pair("parameter_invalid_empty", "customer"));
    assert_eq!(tried(("statement_descriptor_suffix", &"x".repeat(23))).1, "statement_descriptor_suffix");
    assert_eq!(tried(("statement_descriptor", "PLAN")).1, "statement_descriptor");
    assert_eq!(tried(("metadata[k]", &"x".repeat(501))).1, "metadata[k]");
    assert_eq!(
        tried((&format!("metadata[{}]", "k".repeat(41)), "v")).1,
        format!("metadata[{}]", "k".repeat(41))
    );
    assert_eq!(tried(("expand[]", "amount")), pair("", ""));
}

#[test]
fn off_session_needs_confirm_and_redirects_need_a_way_back() {
    let sandbox = with_card("pm_card_visa");
    let without = |gone: &str| CHARGE.into_iter().filter(|(name, _)| *name != gone).collect::<Vec<_>>();
    assert_eq!(refused(&sandbox, "/v1/payment_intents", &without("confirm")).2, "off_session");
    assert_eq!(refused(&sandbox, "/v1/payment_intents", &without("payment_method_types[]")).0, 400);
    let mut fields = without("payment_method_types[]");
    fields.extend([
        ("automatic_payment_methods[enabled]", "true"),
        ("automatic_payment_methods[allow_redirects]", "never"),
    ]);
    assert_eq!(send(&sandbox, &Request::post("/v1/payment_intents", &fields)).0, 200);
}

#[test]
fn without_strictness_unknown_parameters_are_dropped() {
    let options = Options { strict: false, ..Options::manual(1, START) };
    let sandbox = Sandbox::new(options);
    assert_eq!(send(&sandbox, &Request::post("/v1/customers", &[("colour", "red")])).0, 200);
}

#[test]
fn json_bodies_and_card_numbers_are_refused() {
    let sandbox = sandbox();
    let mut request = charge();
    request.body = "{\"amount\":1}".into();
    assert_eq!(send(&sandbox, &request).0, 400);
    let fields = [
        ("type", "card"),
        ("card[number]", "4242424242424242"),
        ("card[exp_month]", "1"),
        ("card[exp_year]", "2030"),
    ];
    assert_eq!(refused(&sandbox, "/v1/payment_methods", &fields).0, 402);
    let fields = [("type", "card"), ("card[token]", "tok_visa")];
    assert_eq!(send(&sandbox, &Request::post("/v1/payment_methods", &fields)).0, 200);
}

/// Names and values that mean something here and there, and some that mean nothing anywhere.
fn field() -> impl Strategy<Value = (String, String)> {
    let names = "(amount|customer|metadata|expand|line_items|price_data|mode|limit|created|type|[a-z\\[\\]0-9]{0,8})\
                 (\\[[a-z0-9]{0,5}\\]){0,3}";
    let values = prop_oneof![
        "(cus_1|pm_1|setup|payment|usd|true|1099|-1|9223372036854775807|)",
        "\\PC{0,20}",
        Just("pm_card_visa".to_owned()),
    ];
    (names, values)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_is_too_strange_to_be_answered(
        method in prop_oneof![Just("GET"), Just("POST"), Just("DELETE")],
        path in "/(v1|_sandbox|c/pay|3ds|)/?(customers|payment_intents|checkout/sessions|events|refunds|seed|clock|faults|\\PC{0,9})\
                 (/(cus_1|pm_1|confirm|expire|search|[a-z_]{1,6})){0,2}",
        fields in proptest::collection::vec(field(), 0..8),
        raw in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
    ) {
        let sandbox = with_card("pm_card_visa");
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut request = Request::post(path, &pairs);
        if let Some(raw) = raw {
            request.body = raw.into();
        }
        request.method = method.parse().unwrap();
        if request.method != "POST" {
            let query = String::from_utf8_lossy(&request.body).into_owned();
            request.path_and_query = format!("{}?{query}", request.path_and_query);
        }
        let outcome = sandbox.handle(&request.key("k"));
        prop_assert!(outcome.response().is_some_and(|response| response.status < 500));
    }
}
