//! Lists, expansion, search, customers, balance.

use recurd::sandbox::Request;

use crate::{CHARGE, DAY, get, post, refused, sandbox, seed, send, with_card};

#[test]
fn lists_are_newest_first_and_can_be_paged_both_ways() {
    let sandbox = sandbox();
    let mut ids: Vec<String> =
        (0..25).map(|_| post(&sandbox, "/v1/customers", &[])["id"].as_str().unwrap().to_owned()).collect();
    ids.reverse();
    let page = |query: &str| {
        let page = get(&sandbox, &format!("/v1/customers?{query}"));
        let found: Vec<String> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        (found, page["has_more"].as_bool().unwrap())
    };
    assert_eq!(page("limit=10"), (ids[..10].to_vec(), true));
    assert_eq!(page(&format!("limit=10&starting_after={}", ids[19])), (ids[20..].to_vec(), false));
    assert_eq!(page(&format!("limit=5&ending_before={}", ids[10])), (ids[5..10].to_vec(), true));
    assert_eq!(page("").0.len(), 10);
    assert_eq!(send(&sandbox, &Request::get("/v1/customers?limit=101")).0, 400);
    assert_eq!(send(&sandbox, &Request::get("/v1/customers?starting_after=cus_none")).0, 400);
}

#[test]
fn intents_are_listed_by_customer_and_time() {
    let sandbox = with_card("pm_card_visa");
    seed(&sandbox, "2", "pm_card_visa");
    post(&sandbox, "/v1/payment_intents", &CHARGE);
    sandbox.advance(DAY);
    let later = post(&sandbox, "/v1/payment_intents", &CHARGE);
    let list = |query: &str| {
        get(&sandbox, &format!("/v1/payment_intents?{query}"))["data"].as_array().unwrap().len()
    };
    assert_eq!(list("customer=cus_1"), 2);
    assert_eq!(list("customer=cus_2"), 0);
    assert_eq!(list(&format!("created[gte]={}", later["created"])), 1);
    assert_eq!(list(&format!("created[lt]={}", later["created"])), 1);
    assert_eq!(list(&format!("created={}", later["created"])), 1);
}

#[test]
fn references_are_expanded_where_that_is_possible() {
    let sandbox = with_card("pm_card_visa");
    post(&sandbox, "/v1/payment_intents", &CHARGE);
    sandbox.advance(5);
    let path = "/v1/payment_intents?expand[]=data.latest_charge.balance_transaction&expand[]=data.customer";
    let intent = &get(&sandbox, path)["data"][0];
    assert_eq!(intent["latest_charge"]["balance_transaction"]["net"], 1099 - 31 - 30);
    assert_eq!(intent["customer"]["email"], "pat@example.com");
    for path in ["amount", "latest_charge", "data.amount", "data.latest_charge.payment_intent.customer.id"] {
        let (status, _) = send(&sandbox, &Request::get(format!("/v1/payment_intents?expand[]={path}")));
        assert_eq!(status, 400, "{path}");
    }
    let mut fields = CHARGE.to_vec();
    fields.push(("expand[]", "nothing"));
    assert_eq!(refused(&sandbox, "/v1/payment_intents", &fields).0, 400);
    assert_eq!(sandbox.books().payment_intents.len(), 1);
}

#[test]
fn money_is_booked_a_moment_after_the_success() {
    let sandbox = with_card("pm_card_visa");
    let intent = post(&sandbox, "/v1/payment_intents", &CHARGE);
    let path = format!("/v1/charges/{}", intent["latest_charge"].as_str().unwrap());
    assert!(get(&sandbox, &path)["balance_transaction"].is_null());
    sandbox.advance(2);
    assert!(get(&sandbox, &path)["balance_transaction"].is_string());
    assert_eq!(get(&sandbox, "/v1/balance")["pending"][0]["amount"], 1038);
    sandbox.advance(2 * DAY);
    assert_eq!(get(&sandbox, "/v1/balance")["available"][0]["amount"], 1038);
}

#[test]
fn search_lags_behind() {
    let sandbox = with_card("pm_card_visa");
    let mut fields = CHARGE.to_vec();
    fields.push(("metadata[due]", "d1"));
    post(&sandbox, "/v1/payment_intents", &fields);
    let query = "/v1/payment_intents/search?query=metadata%5B%27due%27%5D%3A%27d1%27&expand[]=total_count";
    let found = || get(&sandbox, query)["data"].as_array().unwrap().len();
    assert_eq!((0..20).map(|_| found()).max(), Some(0));
    sandbox.advance(2 * 3600);
    assert_eq!((0..20).map(|_| found()).max(), Some(1));
}

#[test]
fn deleted_customers_answer_but_cannot_be_used() {
    let sandbox = with_card("pm_card_visa");
    let delete = Request { method: "DELETE".parse().unwrap(), ..Request::get("/v1/customers/cus_1") };
    assert_eq!(send(&sandbox, &delete).1["deleted"], true);
    assert_eq!(get(&sandbox, "/v1/customers/cus_1")["deleted"], true);
    let tried = refused(&sandbox, "/v1/payment_intents", &CHARGE);
    assert_eq!((tried.0, tried.1.as_str(), tried.2.as_str()), (400, "resource_missing", "customer"));
    assert_eq!(get(&sandbox, "/v1/customers")["data"].as_array().unwrap().len(), 0);
}

#[test]
fn updates_change_only_what_is_sent_and_tell_the_old_values() {
    let sandbox = with_card("pm_card_visa");
    let path = "/v1/customers/cus_1";
    post(&sandbox, path, &[("metadata[a]", "1"), ("metadata[b]", "2")]);
    let fields = [("metadata[a]", ""), ("invoice_settings[default_payment_method]", "pm_1"), ("name", "")];
    let customer = post(&sandbox, path, &fields);
    assert_eq!(customer["metadata"], serde_json::json!({ "b": "2" }));
    assert_eq!(
        (&customer["email"], &customer["name"]),
        (&"pat@example.com".into(), &serde_json::Value::Null)
    );
    let event = &get(&sandbox, "/v1/events?type=customer.updated")["data"][0];
    assert_eq!(event["data"]["previous_attributes"]["name"], "Pat");
    assert_eq!(post(&sandbox, path, &[("metadata", "")])["metadata"], serde_json::json!({}));
}

#[test]
fn things_that_do_not_exist_are_404_in_the_path_and_400_in_a_parameter() {
    let sandbox = sandbox();
    let (status, value) = send(&sandbox, &Request::get("/v1/payment_intents/pi_none"));
    assert_eq!((status, &value["error"]["code"]), (404, &"resource_missing".into()));
    let fields = [("amount", "100"), ("currency", "usd"), ("customer", "cus_none")];
    let tried = refused(&sandbox, "/v1/payment_intents", &fields);
    assert_eq!((tried.0, tried.1.as_str(), tried.2.as_str()), (400, "resource_missing", "customer"));
    assert_eq!(send(&sandbox, &Request::get("/v1/subscriptions")).0, 404);
}
