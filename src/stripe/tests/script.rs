//! A Stripe that answers by script and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use secrecy::SecretString;

use crate::clock::Clock;
use crate::stripe::{
    Client, ClientOptions, RateLimits, Request, Response, RetryPolicy, Transport, TransportError,
};

pub(super) const KEY: &str = "sk_test_scripted_secret_key";

pub(super) type Sent = Result<Response, TransportError>;

pub(super) struct Script {
    answers: Mutex<VecDeque<Sent>>,
    seen: Mutex<Vec<Request>>,
    pub(super) clock: Clock,
}

impl Script {
    pub(super) fn new(answers: impl IntoIterator<Item = Sent>) -> Arc<Self> {
        let clock = Clock::manual(Timestamp::from_second(1_767_225_600).unwrap());
        let answers = Mutex::new(answers.into_iter().collect());
        Arc::new(Self { answers, seen: Mutex::default(), clock })
    }

    pub(super) fn options(&self) -> ClientOptions {
        ClientOptions {
            limits: RateLimits::unlimited(),
            retry: RetryPolicy::without_jitter(),
            ..ClientOptions::new(SecretString::from(KEY), self.clock.clone())
        }
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
        Client::new(self.clone(), self.options()).unwrap()
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn sends(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request) -> Sent {
        self.seen.lock().unwrap().push(request);
        self.answers.lock().unwrap().pop_front().expect("the script has an answer for every request")
    }
}

pub(super) fn answer(status: u16, body: impl Into<String>) -> Sent {
    answer_with(status, &[], body)
}

pub(super) fn answer_with(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Sent {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    Ok(Response { status, headers, body: Bytes::from(body.into()) })
}

pub(super) fn no_answer() -> Sent {
    Err(TransportError::NoAnswer("timed out".to_owned()))
}

pub(super) fn not_sent() -> Sent {
    Err(TransportError::NotSent("connection refused".to_owned()))
}

pub(super) fn intent(status: &str) -> String {
    format!(
        r#"{{"id":"pi_1","object":"payment_intent","status":"{status}","amount":1099,"amount_received":0,
            "currency":"usd","customer":"cus_1","payment_method":null,"latest_charge":"ch_1",
            "metadata":{{"recurd_charge":"c1"}},"created":1767225600,"livemode":false,"brand_new":[1,{{}}]}}"#
    )
}

pub(super) fn declined() -> String {
    format!(
        r#"{{"error":{{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds",
            "advice_code":"try_again_later","network_decline_code":"51","charge":"ch_1",
            "message":"Your card has insufficient funds.","payment_intent":{}}}}}"#,
        intent("requires_payment_method")
    )
}

pub(super) fn refused(kind: &str, code: &str) -> String {
    format!(r#"{{"error":{{"type":"{kind}","code":"{code}","message":"No.","param":"x"}}}}"#)
}
