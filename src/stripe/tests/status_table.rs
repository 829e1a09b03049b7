//! Every status Stripe answers with, with and without its word on resending: outcome, next step, number of sends.

use super::script::{Script, Sent, answer_with, declined, intent, refused};
use crate::stripe::{Error, Next};

/// What the call came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Declined,
    Rejected,
    RateLimited,
    Unknown { cached_5xx: bool },
}

use Outcome::{Declined, Done, RateLimited, Rejected};
const UNKNOWN: Outcome = Outcome::Unknown { cached_5xx: false };
const CACHED: Outcome = Outcome::Unknown { cached_5xx: true };

fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Done,
        Err(Error::Declined(_)) => Declined,
        Err(Error::Rejected(_)) => Rejected,
        Err(Error::RateLimited(_)) => RateLimited,
        Err(Error::Unreachable(_)) => unreachable!("every scripted request is answered"),
        Err(Error::Unknown(doubt)) => Outcome::Unknown { cached_5xx: doubt.cached_5xx },
    }
}

struct Row {
    status: u16,
    body: String,
    outcome: Outcome,
    next: Option<Next>,
    /// How often a POST is sent when Stripe's header says true, says false, is absent.
    posts: [usize; 3],
    /// The same for a GET.
    gets: [usize; 3],
}

fn row(
    status: u16,
    body: String,
    outcome: Outcome,
    next: Option<Next>,
    posts: [usize; 3],
    gets: [usize; 3],
) -> Row {
    Row { status, body, outcome, next, posts, gets }
}

fn table() -> Vec<Row> {
    let server = || r#"{"error":{"type":"api_error","message":"Sorry."}}"#.to_owned();
    let invalid = |code: &str| refused("invalid_request_error", code);
    let (park, reconcile, same_key) = (Some(Next::Park), Some(Next::Reconcile), Some(Next::RetrySameKey));
    let stop = Some(Next::StopAndAlert);
    let never = [3, 1, 1];
    let by_default = [3, 1, 3];
    vec![
        row(200, intent("succeeded"), Done, None, [1; 3], [1; 3]),
        row(200, intent("processing"), Done, None, [1; 3], [1; 3]),
        row(200, "half a bo".into(), UNKNOWN, reconcile, [1; 3], [1; 3]),
        row(302, String::new(), UNKNOWN, reconcile, never, never),
        row(400, invalid("parameter_missing"), Rejected, park, never, never),
        row(400, invalid("resource_missing"), Rejected, park, never, never),
        row(400, invalid("amount_too_small"), Rejected, park, never, never),
        row(400, invalid("payment_intent_unexpected_state"), Rejected, reconcile, never, never),
        row(400, refused("idempotency_error", ""), Rejected, reconcile, [1; 3], [1; 3]),
        row(400, refused("card_error", "card_declined"), Rejected, park, never, never),
        row(400, "<html>proxy</html>".into(), UNKNOWN, reconcile, never, never),
        row(401, invalid(""), Rejected, stop, never, never),
        row(402, declined(), Declined, Some(Next::NewAttempt), [1; 3], [1; 3]),
        row(402, invalid("card_number_raw"), Rejected, park, never, never),
        row(403, invalid(""), Rejected, stop, never, never),
        row(404, invalid("resource_missing"), Rejected, park, never, never),
        row(409, invalid("idempotency_key_in_use"), UNKNOWN, same_key, by_default, by_default),
        row(424, server(), UNKNOWN, reconcile, never, never),
        row(429, invalid("rate_limit"), RateLimited, same_key, by_default, by_default),
        row(429, invalid("lock_timeout"), RateLimited, same_key, by_default, by_default),
        row(429, "<html>edge</html>".into(), RateLimited, same_key, by_default, by_default),
        row(500, server(), CACHED, reconcile, [1; 3], by_default),
        row(501, server(), CACHED, reconcile, [1; 3], by_default),
        row(502, "bad gateway".into(), UNKNOWN, reconcile, by_default, by_default),
        row(503, server(), UNKNOWN, reconcile, by_default, by_default),
        row(504, server(), UNKNOWN, reconcile, by_default, by_default),
    ]
}

#[tokio::test]
async fn every_status_has_one_outcome_one_next_step_and_a_bounded_number_of_sends() {
    for row in table() {
        for (i, should_retry) in [Some("true"), Some("false"), None].into_iter().enumerate() {
            let answers = || -> Vec<Sent> {
                let headers: Vec<_> =
                    should_retry.map(|word| ("Stripe-Should-Retry", word)).into_iter().collect();
                (0..3).map(|_| answer_with(row.status, &headers, row.body.clone())).collect()
            };
            let what = format!("{} {:?} should-retry {should_retry:?}", row.status, row.body);

            let stripe = Script::new(answers());
            let posted = stripe.client().create_payment_intent("amount=1099", "key-1").await;
            assert_eq!(outcome(&posted), row.outcome, "POST {what}");
            assert_eq!(posted.err().map(|e| e.next()), row.next, "POST {what}");
            assert_eq!(stripe.sends(), row.posts[i], "POST {what}");

            let stripe = Script::new(answers());
            let got = stripe.client().retrieve_payment_intent("pi_1").await;
            assert_eq!(outcome(&got), row.outcome, "GET {what}");
            assert_eq!(stripe.sends(), row.gets[i], "GET {what}");
        }
    }
}

#[tokio::test]
async fn a_replayed_gateway_error_is_a_kept_one() {
    let replayed = answer_with(503, &[("Idempotent-Replayed", "true")], "{}");
    let stripe = Script::new([replayed]);
    let result = stripe.client().create_payment_intent("amount=1099", "key-1").await;
    assert_eq!(outcome(&result), CACHED);
    assert_eq!(stripe.sends(), 1);
}

#[tokio::test]
async fn the_helpers_name_the_cause() {
    async fn error(status: u16, body: String) -> Error {
        Script::new([answer_with(status, &[], body)])
            .client()
            .retrieve_payment_intent("pi_1")
            .await
            .unwrap_err()
    }
    let invalid = |code: &str| refused("invalid_request_error", code);
    assert!(error(404, invalid("resource_missing")).await.is_resource_missing());
    assert!(error(400, invalid("resource_missing")).await.is_resource_missing());
    assert!(error(400, invalid("amount_too_large")).await.is_amount_problem());
    assert!(
        error(400, r#"{"error":{"type":"invalid_request_error","param":"amount"}}"#.into())
            .await
            .is_amount_problem()
    );
    assert!(!error(400, invalid("parameter_unknown")).await.is_amount_problem());
    assert!(error(401, invalid("")).await.is_auth());
    assert!(error(403, invalid("")).await.is_auth());
    assert!(error(400, refused("idempotency_error", "")).await.is_idempotency_mismatch());

    let state = format!(
        r#"{{"error":{{"type":"invalid_request_error","code":"payment_intent_unexpected_state","payment_intent":{}}}}}"#,
        intent("succeeded")
    );
    let error = error(400, state).await;
    assert!(error.is_unexpected_state());
    assert_eq!(error.payment_intent().unwrap().status.as_str(), "succeeded");
}

#[tokio::test]
async fn a_decline_carries_everything_that_is_known() {
    let headers = [("Request-Id", "req_1"), ("Idempotent-Replayed", "true")];
    let stripe = Script::new([answer_with(402, &headers, declined())]);
    let error = stripe.client().create_payment_intent("amount=1099", "key-1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "POST /v1/payment_intents (req_1): the card was declined, card_declined/insufficient_funds (a saved answer)"
    );
    let Error::Declined(decline) = error else { panic!("{error}") };
    assert!(decline.replayed);
    assert_eq!(decline.error.advice_code.as_deref(), Some("try_again_later"));
    assert_eq!(decline.error.network_decline_code.as_deref(), Some("51"));
    assert_eq!(decline.error.charge.as_deref(), Some("ch_1"));
    assert_eq!(decline.error.payment_intent.unwrap().metadata["recurd_charge"], "c1");
}
