//! Which function answers which path.

use super::api::{Answered, Call};
use super::errors::ApiError;
use super::http::Request;
use super::state::State;
use super::{
    account, charges, checkout, customers, disputes, events, intent_search, payment_intents, payment_methods,
    refunds, setup_intents, webhook_endpoints,
};

/// One endpoint.
pub(super) struct Route {
    /// Method and path, as in the table of parameters.
    pub(super) endpoint: &'static str,
    /// The kind of object it answers with; decides what can be expanded.
    pub(super) object: &'static str,
    pub(super) is_list: bool,
    pub(super) run: fn(&mut State, &Call<'_>) -> Answered,
}

const fn one(
    endpoint: &'static str,
    object: &'static str,
    run: fn(&mut State, &Call<'_>) -> Answered,
) -> Route {
    Route { endpoint, object, is_list: false, run }
}

const fn list(
    endpoint: &'static str,
    object: &'static str,
    run: fn(&mut State, &Call<'_>) -> Answered,
) -> Route {
    Route { endpoint, object, is_list: true, run }
}

/// A fixed path stands before a pattern that would match it too.
static ROUTES: [Route; 43] = [
    one("GET /v1/account", "account", account::account),
    one("GET /v1/balance", "balance", account::balance),
    list("GET /v1/charges", "charge", charges::list),
    one("GET /v1/charges/{charge}", "charge", charges::retrieve),
    list("GET /v1/checkout/sessions", "checkout.session", checkout::list),
    one("POST /v1/checkout/sessions", "checkout.session", checkout::create),
    one("GET /v1/checkout/sessions/{session}", "checkout.session", checkout::retrieve),
    one("POST /v1/checkout/sessions/{session}/expire", "checkout.session", checkout::expire),
    list("GET /v1/checkout/sessions/{session}/line_items", "item", checkout::line_items),
    list("GET /v1/customers", "customer", customers::list),
    one("POST /v1/customers", "customer", customers::create),
    one("GET /v1/customers/{customer}", "customer", customers::retrieve),
    one("POST /v1/customers/{customer}", "customer", customers::update),
    one("DELETE /v1/customers/{customer}", "customer", customers::delete),
    list("GET /v1/customers/{customer}/payment_methods", "payment_method", payment_methods::list_of_customer),
    list("GET /v1/disputes", "dispute", disputes::list),
    one("GET /v1/disputes/{dispute}", "dispute", disputes::retrieve),
    list("GET /v1/events", "event", events::list),
    one("GET /v1/events/{id}", "event", events::retrieve),
    list("GET /v1/payment_intents", "payment_intent", payment_intents::list),
    one("POST /v1/payment_intents", "payment_intent", payment_intents::create),
    list("GET /v1/payment_intents/search", "payment_intent", intent_search::search),
    one("GET /v1/payment_intents/{intent}", "payment_intent", payment_intents::retrieve),
    one("POST /v1/payment_intents/{intent}", "payment_intent", payment_intents::update),
    one("POST /v1/payment_intents/{intent}/cancel", "payment_intent", payment_intents::cancel),
    one("POST /v1/payment_intents/{intent}/confirm", "payment_intent", payment_intents::confirm),
    list("GET /v1/payment_methods", "payment_method", payment_methods::list),
    one("POST /v1/payment_methods", "payment_method", payment_methods::create),
    one("GET /v1/payment_methods/{payment_method}", "payment_method", payment_methods::retrieve),
    one("POST /v1/payment_methods/{payment_method}/attach", "payment_method", payment_methods::attach),
    one("POST /v1/payment_methods/{payment_method}/detach", "payment_method", payment_methods::detach),
    list("GET /v1/refunds", "refund", refunds::list),
    one("POST /v1/refunds", "refund", refunds::create),
    one("GET /v1/refunds/{refund}", "refund", refunds::retrieve),
    list("GET /v1/setup_intents", "setup_intent", setup_intents::list),
    one("POST /v1/setup_intents", "setup_intent", setup_intents::create),
    one("GET /v1/setup_intents/{intent}", "setup_intent", setup_intents::retrieve),
    one("POST /v1/setup_intents/{intent}/confirm", "setup_intent", setup_intents::confirm),
    list("GET /v1/webhook_endpoints", "webhook_endpoint", webhook_endpoints::list),
    one("POST /v1/webhook_endpoints", "webhook_endpoint", webhook_endpoints::create),
    one("GET /v1/webhook_endpoints/{webhook_endpoint}", "webhook_endpoint", webhook_endpoints::retrieve),
    one("POST /v1/webhook_endpoints/{webhook_endpoint}", "webhook_endpoint", webhook_endpoints::update),
    one("DELETE /v1/webhook_endpoints/{webhook_endpoint}", "webhook_endpoint", webhook_endpoints::delete),
];

/// The route of a request, and the id in its path.
pub(super) fn find(request: &Request) -> Result<(&'static Route, &str), ApiError> {
    let path = request.path().trim_end_matches('/');
    for route in &ROUTES {
        let Some((method, pattern)) = route.endpoint.split_once(' ') else { continue };
        if request.method.as_str() == method
            && let Some(id) = matches(pattern, path)
        {
            return Ok((route, id));
        }
    }
    let message =
        format!("Unrecognized request URL ({}: {path}). The sandbox has not all of Stripe.", request.method);
    Err(ApiError::new(404, "invalid_request_error", message))
}

fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let mut id = "";
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        if wanted.starts_with('{') && !part.is_empty() {
            id = part;
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_parameters() {
        for route in &ROUTES {
            assert!(super::super::schema::of(route.endpoint).is_some(), "{}", route.endpoint);
        }
    }

    #[test]
    fn ids_are_found_in_paths() {
        let request = Request::post("/v1/payment_intents/pi_1/confirm", &[]);
        let (route, id) = find(&request).unwrap();
        assert_eq!((route.endpoint, id), ("POST /v1/payment_intents/{intent}/confirm", "pi_1"));
        assert!(find(&Request::get("/v1/nothing")).is_err());
    }
}
