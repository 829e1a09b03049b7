//! Lists are read to their end, or not believed.

use super::script::{Script, Sent, answer, intent, no_answer};
use crate::stripe::error::Why;
use crate::stripe::events::EventFilter;
use crate::stripe::{Error, Next};

fn page(ids: &[&str], has_more: bool) -> Sent {
    let data: Vec<String> = ids.iter().map(|id| intent("succeeded").replace("pi_1", id)).collect();
    answer(
        200,
        format!(r#"{{"object":"list","data":[{}],"has_more":{has_more},"url":"/v1/x"}}"#, data.join(",")),
    )
}

#[tokio::test]
async fn pages_of_one_are_followed_to_the_end() {
    let stripe = Script::new([page(&["pi_c"], true), page(&["pi_b"], true), page(&["pi_a"], false)]);
    let from = stripe.clock.now();
    let found = stripe.client().list_payment_intents("cus_1", from).await.unwrap();
    assert_eq!(found.iter().map(|intent| intent.id.as_str()).collect::<Vec<_>>(), ["pi_c", "pi_b", "pi_a"]);
    let first =
        "/v1/payment_intents?customer=cus_1&created[gte]=1767225600&expand[]=data.latest_charge&limit=100";
    let paths: Vec<String> = stripe.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(
        paths,
        [first.to_owned(), format!("{first}&starting_after=pi_c"), format!("{first}&starting_after=pi_b")]
    );
}

#[tokio::test]
async fn an_empty_list_is_an_answer() {
    let stripe = Script::new([page(&[], false)]);
    let from = stripe.clock.now();
    assert!(stripe.client().list_payment_intents("cus_1", from).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_that_breaks_off_is_no_list() {
    let stripe = Script::new([page(&["pi_b"], true), no_answer(), no_answer(), no_answer()]);
    let from = stripe.clock.now();
    let error = stripe.client().list_payment_intents("cus_1", from).await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
}

#[tokio::test]
async fn a_list_without_end_is_refused_loudly() {
    let endless = (0..101).map(|i| page(&[&format!("pi_{i}")], true));
    let still = [page(&["pi_b"], true), page(&["pi_b"], true)];
    let hollow = [page(&["pi_b"], true), page(&[], true)];
    for (answers, pages) in [(endless.collect::<Vec<_>>(), 100), (still.into(), 2), (hollow.into(), 2)] {
        let stripe = Script::new(answers);
        let from = stripe.clock.now();
        let error = stripe.client().list_payment_intents("cus_1", from).await.unwrap_err();
        let Error::Unknown(doubt) = &error else { panic!("{error}") };
        assert_eq!(doubt.why, Why::ListWithoutEnd { pages });
        assert_eq!(error.next(), Next::Park);
    }
}

#[tokio::test]
async fn events_are_filtered_by_stripe() {
    let event = r#"{"id":"evt_1","object":"event","type":"payment_intent.succeeded","api_version":null,
        "created":1767225600,"livemode":false,"data":{"object":{"id":"pi_1","object":"payment_intent",
        "metadata":{"recurd_charge":"c1","foreign":"x"}}},"request":null}"#;
    let stripe = Script::new([answer(200, format!(r#"{{"data":[{event}],"has_more":false}}"#))]);
    let filter = EventFilter {
        created_from: stripe.clock.now(),
        types: &["payment_intent.succeeded", "charge.refunded"],
        delivery_success: Some(false),
    };
    let events = stripe.client().events(&filter).all().await.unwrap();
    assert_eq!(events[0].object_id.as_deref(), Some("pi_1"));
    assert_eq!(events[0].metadata.keys().collect::<Vec<_>>(), ["recurd_charge"]);
    assert_eq!(
        stripe.seen()[0].path,
        "/v1/events?created[gte]=1767225600&types[]=payment_intent.succeeded&types[]=charge.refunded\
         &delivery_success=false&limit=100"
    );
}
