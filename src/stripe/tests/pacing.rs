//! How fast requests leave, on a clock that is moved by hand.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::script::{Script, Sent, answer, answer_with, intent, refused};
use crate::stripe::{Client, ClientOptions, RateLimits, RetryPolicy};

fn limited(stripe: &Arc<Script>, endpoint: Option<u32>, account: Option<u32>) -> Client {
    let limits = RateLimits {
        endpoint_per_sec: endpoint.and_then(NonZeroU32::new),
        account_per_sec: account.and_then(NonZeroU32::new),
    };
    Client::new(stripe.clone(), ClientOptions { limits, ..stripe.options() }).unwrap()
}

fn paid(count: usize) -> Vec<Sent> {
    (0..count).map(|_| answer(200, intent("succeeded"))).collect()
}

fn secs_since(stripe: &Script, start: Timestamp) -> f64 {
    stripe.clock.now().duration_since(start).as_secs_f64()
}

#[tokio::test]
async fn an_endpoint_is_held_to_its_rate_and_uses_99_percent_of_it() {
    let stripe = Script::new(paid(1000));
    let client = limited(&stripe, Some(25), None);
    let start = stripe.clock.now();
    let calls = (0..1000).map(|_| client.create_payment_intent("amount=1", "key-1"));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let rate = 1000.0 / secs_since(&stripe, start);
    assert!((24.75..25.1).contains(&rate), "{rate} a second");
}

#[tokio::test]
async fn no_second_sees_a_gush() {
    let stripe = Script::new(paid(200));
    let client = limited(&stripe, Some(25), None);
    stripe.clock.advance(Duration::from_secs(3600));
    let mut sent: Vec<Timestamp> = Vec::new();
    for _ in 0..200 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
        sent.push(stripe.clock.now());
    }
    for window in sent.windows(27) {
        assert!(window[26].duration_since(window[0]) >= SignedDuration::from_secs(1), "27 within a second");
    }
}

#[tokio::test]
async fn endpoints_do_not_wait_for_each_other_but_share_the_account() {
    let stripe = Script::new(paid(200));
    let client = limited(&stripe, Some(10), None);
    let start = stripe.clock.now();
    for _ in 0..100 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
        client.retrieve_payment_intent("pi_1").await.unwrap();
    }
    assert!(secs_since(&stripe, start) < 10.2, "two endpoints at 10 a second each");

    let stripe = Script::new(paid(200));
    let client = limited(&stripe, Some(1000), Some(10));
    let start = stripe.clock.now();
    for _ in 0..100 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
        client.retrieve_payment_intent("pi_1").await.unwrap();
    }
    assert!(secs_since(&stripe, start) > 19.0, "200 calls at 10 a second");
}

/// How many calls leave in five seconds.
async fn calls_in_five_secs(stripe: &Script, client: &Client) -> usize {
    let (start, before) = (stripe.clock.now(), stripe.sends());
    while secs_since(stripe, start) < 5.0 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
    }
    stripe.sends() - before
}

#[tokio::test]
async fn a_429_halves_the_rate_of_its_endpoint_and_it_comes_back() {
    let too_fast = answer_with(429, &[("Stripe-Rate-Limited-Reason", "endpoint-rate")], "{}");
    let stripe = Script::new([vec![too_fast], paid(2000)].concat());
    let limits = RateLimits { endpoint_per_sec: NonZeroU32::new(20), account_per_sec: None };
    let options = ClientOptions { limits, retry: RetryPolicy::never(), ..stripe.options() };
    let client = Client::new(stripe.clone(), options).unwrap();
    client.create_payment_intent("amount=1", "key-1").await.unwrap_err();

    let start = stripe.clock.now();
    for _ in 0..10 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
    }
    let took = secs_since(&stripe, start);
    assert!((0.98..1.1).contains(&took), "ten calls at 10 a second took {took} s");

    for _ in 0..300 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
    }
    let recovered = calls_in_five_secs(&stripe, &client).await;
    assert!((99..=102).contains(&recovered), "{recovered} in five seconds, later");
}

#[tokio::test]
async fn a_lock_on_an_object_slows_nobody() {
    let locked = answer(429, refused("invalid_request_error", "lock_timeout"));
    let stripe = Script::new([vec![locked], paid(200)].concat());
    let client = limited(&stripe, Some(20), None);
    client.create_payment_intent("amount=1", "key-1").await.unwrap();
    let calls = calls_in_five_secs(&stripe, &client).await;
    assert!(calls >= 99, "{calls}");
}

#[tokio::test]
async fn giving_up_in_the_queue_harms_nobody() {
    let stripe = Script::new(paid(3));
    let client = limited(&stripe, Some(1), None);
    let call = || client.create_payment_intent("amount=1", "key-1");
    call().await.unwrap();
    call().await.unwrap();
    {
        let mut waiting = Box::pin(call());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
    }
    call().await.unwrap();
    assert_eq!(stripe.sends(), 3);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_queue() {
    let stripe = Script::new(paid(10));
    let client = limited(&stripe, Some(2), None);
    let start = stripe.clock.now();
    client.create_payment_intent("amount=1", "key-1").await.unwrap();
    stripe.clock.set(start - SignedDuration::from_hours(24));
    for _ in 0..9 {
        client.create_payment_intent("amount=1", "key-1").await.unwrap();
    }
    assert!(stripe.clock.now() < start - SignedDuration::from_hours(23));
}
