//! Faults: what arrives, and what was really done.

use recurd::sandbox::{Answer, Effect, RateLimits, Rule};

use crate::{charge, charge_result, get, paid_charges, send, with_card};

fn once(words: &str) -> Rule {
    Rule::once("POST", "/v1/payment_intents", Effect::parse(words).unwrap())
}

#[test]
fn every_word_does_what_it_says() {
    // words, status that arrives (0: nothing whole), charges paid at once
    let cases = [
        ("not-sent", 0, 0),
        ("no-answer", 0, 1),
        ("no-answer not-executed", 0, 0),
        ("arrives-late 2h", 0, 0),
        ("cut 40", 0, 1),
        ("late 30s", 200, 1),
        ("500", 500, 1),
        ("500 not-executed", 500, 0),
        ("500 forward 40h", 500, 0),
        ("504 retry=true", 504, 1),
        ("409", 409, 0),
        ("429 global-concurrency", 429, 0),
        ("lock-timeout", 429, 0),
    ];
    for (words, status, paid) in cases {
        let sandbox = with_card("pm_card_visa");
        sandbox.add_fault(once(words));
        assert_eq!((send(&sandbox, &charge()).0, paid_charges(&sandbox)), (status, paid), "{words}");
    }
}

#[test]
fn the_same_words_work_as_a_header() {
    let sandbox = with_card("pm_card_visa");
    let outcome = sandbox.handle(&charge().header("sandbox-fault", "503 not-executed retry=false"));
    let response = outcome.response().unwrap();
    assert_eq!((response.status, &response.headers["stripe-should-retry"]), (503, &"false".parse().unwrap()));
    assert_eq!(send(&sandbox, &charge().header("sandbox-fault", "fire")).0, 400);
}

#[test]
fn what_is_forwarded_happens_later_and_is_told_by_an_event() {
    let sandbox = with_card("pm_card_visa");
    sandbox.add_fault(once("500 forward 40h"));
    send(&sandbox, &charge().key("k1"));
    sandbox.advance(40 * 3600);
    assert_eq!(paid_charges(&sandbox), 1);
    assert_eq!(
        get(&sandbox, "/v1/events?type=payment_intent.succeeded")["data"].as_array().unwrap().len(),
        1
    );
    assert_eq!(sandbox.books().charges[0].created, crate::START + 40 * 3600);
}

#[test]
fn a_request_that_arrives_late_meets_the_answer_of_its_repetition() {
    let sandbox = with_card("pm_card_visa");
    sandbox.add_fault(once("arrives-late 2h"));
    send(&sandbox, &charge().key("k1"));
    assert_eq!(send(&sandbox, &charge().key("k1")).0, 200);
    sandbox.advance(7200);
    assert_eq!(paid_charges(&sandbox), 1);
}

#[test]
fn cards_bring_their_own_faults() {
    for (card, status) in [("lostAnswer", 0), ("cutAnswer", 0), ("error500Executed", 500)] {
        let sandbox = with_card(&format!("pm_card_sandbox_{card}"));
        assert_eq!((send(&sandbox, &charge()).0, paid_charges(&sandbox)), (status, 1), "{card}");
    }
    for card in ["error500NotExecuted", "error500Later"] {
        let sandbox = with_card(&format!("pm_card_sandbox_{card}"));
        assert_eq!((send(&sandbox, &charge()).0, sandbox.books().payment_intents.len()), (500, 0), "{card}");
        sandbox.advance(7200);
        assert_eq!(paid_charges(&sandbox), usize::from(card == "error500Later"));
        assert_eq!(charge_result(&sandbox), "succeeded");
    }
}

#[test]
fn a_cut_answer_has_its_first_bytes() {
    let sandbox = with_card("pm_card_visa");
    sandbox.add_fault(once("cut 40"));
    let Answer::CutAfter { response, bytes } = sandbox.handle(&charge()).answer else { panic!("not cut") };
    assert!(bytes == 40 && response.body.len() > 1000);
}

#[test]
fn an_object_is_locked_while_its_answer_is_late() {
    let sandbox = with_card("pm_card_sandbox_fundsOnceThenGood");
    let (_, value) = send(&sandbox, &charge());
    let id = value["error"]["payment_intent"]["id"].as_str().unwrap().to_owned();
    let confirm = recurd::sandbox::Request::post(
        format!("/v1/payment_intents/{id}/confirm"),
        &[("payment_method", "pm_1"), ("off_session", "true")],
    );
    let _ = sandbox.handle(&confirm.clone().header("sandbox-fault", "late 60s"));
    let (status, value) = send(&sandbox, &confirm);
    assert_eq!((status, &value["error"]["code"]), (429, &"lock_timeout".into()));
}

#[test]
fn a_rule_can_skip_count_and_choose() {
    let sandbox = with_card("pm_card_visa");
    let effect = Effect::parse("429").unwrap();
    sandbox.add_fault(Rule {
        skip: 1,
        times: Some(2),
        key: Some("mine".to_owned()),
        ..Rule::once("POST", "/v1/payment_intents$", effect)
    });
    let statuses: Vec<u16> = (0..4).map(|n| send(&sandbox, &charge().key(&format!("mine-{n}"))).0).collect();
    assert_eq!(statuses, [200, 429, 429, 200]);
    assert_eq!(send(&sandbox, &charge().key("yours")).0, 200);
}

#[test]
fn rate_limits_are_enforced_when_they_are_on() {
    let sandbox = with_card("pm_card_visa");
    sandbox.set_rate_limits(Some(RateLimits::LIVE));
    let statuses: Vec<u16> = (0..30).map(|_| send(&sandbox, &charge()).0).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 25);
    let outcome = sandbox.handle(&charge());
    assert_eq!(outcome.response().unwrap().headers["stripe-rate-limited-reason"], "endpoint-rate");
    sandbox.advance(1);
    assert_eq!(send(&sandbox, &charge()).0, 200);
}
