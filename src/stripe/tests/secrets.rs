//! Nothing that is printed holds a key, a card number, a mail address or a link that pays.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::script::{KEY, Script, Sent, answer};
use crate::stripe::checkout::CheckoutSession;
use crate::stripe::customers::{Customer, CustomerFields};
use crate::stripe::fields::scrub;
use crate::stripe::{Client, ClientOptions, HttpOptions, HttpTransport, Request, SetupError, Transport};

const FORBIDDEN: [&str; 6] =
    [KEY, "whsec_topsecret", "4242424242424242", "4242 4242 4242 4242", "pat@example.com", "c/pay/cs_1"];

fn assert_clean(printed: &str) {
    for secret in FORBIDDEN {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[test]
fn messages_are_scrubbed() {
    assert_eq!(
        scrub("Invalid API Key provided: sk_test_****abcd of whsec_x."),
        "Invalid API Key provided: *** of ***"
    );
    assert_eq!(scrub("Number 4242 4242-4242 4242, 12 left"), "Number ***, 12 left");
    assert_eq!(scrub("Amount must be at least 50 cents ü 1234"), "Amount must be at least 50 cents ü 1234");
}

#[tokio::test]
async fn errors_requests_and_clients_print_no_secret() {
    let message = format!("Bad key {KEY} whsec_topsecret 4242424242424242 4242 4242 4242 4242");
    for status in [400, 401, 402, 403] {
        for kind in ["card_error", "invalid_request_error"] {
            let body = format!(r#"{{"error":{{"type":"{kind}","message":"{message}"}}}}"#);
            let stripe = Script::new([answer(status, body)]);
            let client = stripe.client();
            let body = CustomerFields { email: Some("pat@example.com"), ..Default::default() };
            let error = client.create_customer(body.encode(), "key-1").await.unwrap_err();
            assert_clean(&format!("{error} {error:?} {client:?} {body:?} {:?}", stripe.options()));
            assert_clean(&format!(
                "{:?} {:?} {:?}",
                stripe.seen(),
                stripe.seen()[0].headers,
                answer(200, KEY)
            ));
        }
    }
}

#[test]
fn objects_print_no_personal_data() {
    let session: CheckoutSession = serde_json::from_str(
        r#"{"id":"cs_1","status":"open","payment_status":"unpaid","mode":"payment","created":1,"expires_at":2,
            "url":"https://checkout.stripe.com/c/pay/cs_1","livemode":false}"#,
    )
    .unwrap();
    assert_eq!(&**session.url.as_ref().unwrap(), "https://checkout.stripe.com/c/pay/cs_1");
    let customer: Customer = serde_json::from_str(r#"{"id":"cus_1","email":"pat@example.com"}"#).unwrap();
    assert_clean(&format!("{session:?} {customer:?}"));
}

struct Elsewhere(bool);

#[async_trait]
impl Transport for Elsewhere {
    async fn send(&self, _: Request) -> Sent {
        unreachable!("no client is made, or none sends")
    }

    fn reaches_stripe(&self) -> bool {
        self.0
    }
}

#[test]
fn a_live_key_goes_to_stripe_or_nowhere() {
    let clock = Script::new([]).clock.clone();
    let client = |key: &str, stripe: bool| {
        let options = ClientOptions::new(SecretString::from(key), clock.clone());
        Client::new(Arc::new(Elsewhere(stripe)), options).map(|client| client.livemode())
    };
    for live in ["sk_live_1", "rk_live_1"] {
        assert_eq!(client(live, false), Err(SetupError::LiveKeyElsewhere));
        assert_eq!(client(live, true), Ok(true));
    }
    for test in ["sk_test_1", "rk_test_1"] {
        assert_eq!((client(test, false), client(test, true)), (Ok(false), Ok(false)));
    }
    for other in ["", "pk_live_1", "pk_test_1", "whsec_1", " sk_live_1", "SK_LIVE_1", "sk_test_\n"] {
        assert_eq!(client(other, true), Err(SetupError::Key), "{other:?}");
    }
}

#[test]
fn only_stripe_itself_counts_as_stripe() {
    let clock = Script::new([]).clock.clone();
    let reaches = |base: &str| {
        let options = HttpOptions { base_url: base.to_owned(), ..HttpOptions::default() };
        HttpTransport::new(&options, clock.clone()).ok().map(|transport| transport.reaches_stripe())
    };
    assert_eq!(reaches("https://api.stripe.com"), Some(true));
    assert_eq!(reaches("https://api.stripe.com/"), Some(true));
    for other in ["https://api.stripe.com.evil.example", "https://api.stripe.com:444", "http://127.0.0.1:1"] {
        assert_eq!(reaches(other), Some(false), "{other}");
    }
    for refused in [
        "http://api.stripe.com",
        "https://api.stripe.com/v1",
        "https://api.stripe.com?x",
        "https://u:p@api.stripe.com",
        "http://127.0.0.1.evil.example",
        "ftp://127.0.0.1",
        "api.stripe.com",
        "",
    ] {
        assert_eq!(reaches(refused), None, "{refused}");
    }
}
