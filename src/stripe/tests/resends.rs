//! Sending the same bytes again: when, how often, and what is believed afterwards.

use std::sync::Arc;
use std::time::Duration;

use super::script::{Script, answer, answer_with, intent, no_answer, not_sent, refused};
use crate::stripe::{Error, Next};

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key_and_bytes() {
    let headers = [("Idempotent-Replayed", "true"), ("Request-Id", "req_2")];
    let stripe = Script::new([no_answer(), answer_with(200, &headers, intent("succeeded"))]);
    let answer = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap();
    assert!(answer.replayed);
    assert_eq!((answer.sends, answer.request_id.as_deref()), (2, Some("req_2")));
    let seen = stripe.seen();
    assert_eq!(seen[0].idempotency_key(), Some("key-1"));
    assert_eq!(seen[0].headers, seen[1].headers);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[0].path, seen[1].path);
}

#[tokio::test]
async fn tries_are_bounded_and_pauses_pass_on_our_clock() {
    let stripe = Script::new([no_answer(), no_answer(), no_answer()]);
    let start = stripe.clock.now();
    let error = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)));
    assert_eq!((stripe.sends(), error.call().sends), (3, 3));
    assert_eq!(stripe.clock.now().duration_since(start).unsigned_abs(), Duration::from_millis(1500));
    assert_eq!(
        error.to_string(),
        "POST /v1/payment_intents [sent 3 times]: outcome unknown, no answer: timed out"
    );
}

#[tokio::test]
async fn what_never_left_is_not_unknown() {
    let stripe = Script::new([not_sent(), not_sent(), not_sent()]);
    let error = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!(error.next(), Next::RetrySameKey);
    assert_eq!(stripe.sends(), 3);
}

#[tokio::test]
async fn after_one_send_that_may_have_run_only_an_answer_settles_the_call() {
    let limited = || answer(429, refused("invalid_request_error", "rate_limit"));
    let refusal = || answer(401, refused("invalid_request_error", ""));
    let missing = || answer(404, refused("invalid_request_error", "resource_missing"));
    let endings =
        [vec![not_sent(), not_sent()], vec![limited(), limited()], vec![refusal()], vec![missing()]];
    for ending in endings {
        let what = format!("{ending:?}");
        let stripe = Script::new([vec![no_answer()], ending].concat());
        let error = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{what}: {error}");
        assert_eq!(error.next(), Next::Reconcile, "{what}");
        assert_eq!(error.call().sends as usize, stripe.sends(), "{what}");
    }
}

#[tokio::test]
async fn a_read_that_failed_once_leaves_no_doubt_behind() {
    let missing = answer(404, refused("invalid_request_error", "resource_missing"));
    let stripe = Script::new([no_answer(), missing]);
    let error = stripe.client().retrieve_payment_intent("pi_1").await.unwrap_err();
    assert!(error.is_resource_missing(), "{error}");
}

#[tokio::test]
async fn a_500_after_a_503_is_never_sent_again() {
    let stripe = Script::new([answer(503, "{}"), answer(500, "{}")]);
    let error = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap_err();
    let Error::Unknown(doubt) = &error else { panic!("{error}") };
    assert!(doubt.cached_5xx);
    assert_eq!(stripe.sends(), 2);
}

#[tokio::test]
async fn nothing_leaves_after_the_deadline() {
    let stripe = Script::new([no_answer()]);
    let now = stripe.clock.now();
    let client = stripe.client().not_after(now + jiff::SignedDuration::from_millis(100));
    let error = client.create_payment_intent("amount=1099", "key-1").await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "the first send may have run: {error}");
    assert_eq!(
        (stripe.sends(), error.call().sends),
        (1, 1),
        "the resend was due after 500 ms, when the time had passed"
    );

    stripe.clock.advance(Duration::from_secs(1));
    let error = client.create_payment_intent("amount=1099", "key-1").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!(stripe.sends(), 1);
}

#[tokio::test]
async fn the_clock_is_compared_with_stripes() {
    let date = [("Date", "Thu, 01 Jan 2026 00:00:00 GMT")];
    let stripe = Script::new([answer_with(200, &date, intent("succeeded"))]);
    let client = stripe.client();
    assert_eq!(client.skew_secs(), None);
    stripe.clock.advance(Duration::from_secs(90));
    let answer = client.retrieve_payment_intent("pi_1").await.unwrap();
    assert_eq!(answer.stripe_date.unwrap().as_second(), 1_767_225_600);
    assert_eq!(client.skew_secs(), Some(90));
}

#[test]
fn an_answer_that_was_long_on_its_way_is_no_skew() {
    let at = |secs: i64| jiff::Timestamp::from_second(1_767_225_600 + secs).unwrap();
    for (started, ended, date, skew) in
        [(0, 0, 0, 0), (0, 200_000, 1, 0), (0, 200_000, 199_999, 0), (90, 91, 0, 90), (0, 1, 301, -300)]
    {
        let found = crate::stripe::client::skew_secs(at(started), at(ended), at(date));
        assert_eq!(found, skew, "{started}..{ended} dated {date}");
    }
}

#[tokio::test]
async fn behind_a_closed_gate_nothing_leaves_that_takes_money() {
    struct Closed;
    impl crate::stripe::Gate for Closed {
        fn ask(&self) -> futures::future::BoxFuture<'_, Result<(), String>> {
            Box::pin(std::future::ready(Err("closed".to_owned())))
        }
    }
    let stripe =
        Script::new([answer_with(200, &[], intent("canceled")), answer_with(200, &[], intent("succeeded"))]);
    let client = stripe.client().behind(Arc::new(Closed));
    for refused in [
        client.create_payment_intent("amount=1099", "key-1").await,
        client.confirm_payment_intent("pi_1", "payment_method=pm_1", "key-2").await,
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::Unreachable(why) if why.reason == "closed"), "{error}");
        assert_eq!(error.call().sends, 1, "a gate does not open while a call waits");
    }
    assert_eq!(stripe.sends(), 0);
    client.cancel_payment_intent("pi_1", "", "key-3").await.unwrap();
    client.retrieve_payment_intent("pi_1").await.unwrap();
    assert_eq!(stripe.sends(), 2, "what ends or reads a payment passes");
}
