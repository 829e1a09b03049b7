//! Stories of one charge: what happens, and what the customer and the operator hear of it.

use super::*;
use crate::billing::charge::Work;
use crate::billing::dunning::Action;
use crate::billing::unknown::{Inquiry, MISS_GAP, inquiry};

#[test]
fn a_good_card_is_charged_and_nobody_is_told() {
    let scene = scene().sent().then(answer(1, Outcome::Paid(receipt(at(5)))));
    let paid = receipt(at(5));
    assert_eq!(scene.charge.state, State::Paid { at: paid.at, payment_intent: paid.payment_intent });
    assert_eq!((scene.effects.len(), scene.charge.collector, scene.charge.version), (0, None, 3));
}

#[test]
fn a_soft_decline_mails_then_retries_the_same_payment_intent_and_recovers() {
    let funds = Outcome::Declined(decline("insufficient_funds"));
    let scene = scene().sent().then(answer(1, funds)).after(DAY);
    assert_eq!(scene.mails(), ["payment_failed"]);
    let scene = scene.then(Event::Begin);
    let attempt = scene.charge.open_attempt().unwrap();
    assert_eq!((attempt.number, attempt.operation, scene.charge.generation), (2, Operation::Confirm, 1));
    let scene = scene.then(Event::Sending).then(answer(2, Outcome::Paid(receipt(at(DAY)))));
    assert_eq!(scene.mails(), ["payment_failed", "recovered"]);
    assert!(scene.charge.is_recovered());
}

#[test]
fn the_ladder_ends_only_after_the_collector_is_dead() {
    let funds = || Outcome::Declined(decline("insufficient_funds"));
    let scene =
        scene().sent().then(answer(1, funds())).after(DAY).sent_again().then(answer(2, funds())).after(DAY);
    assert_eq!(scene.mails(), ["payment_failed", "last_notice"]);
    assert_eq!(scene.apply(&Event::StepDue), Err(Refused::CollectorAlive));
    let scene = scene.then(Event::CollectorDead).then(Event::StepDue);
    assert_eq!((scene.state(), scene.mails().last()), ("uncollectible", Some(&"subscription_ended")));
    assert!(scene.effects.contains(&Effect::EndSubscription(Finally::Cancel)));
}

#[test]
fn a_customer_pays_by_link_and_the_new_card_becomes_the_default() {
    let auth = Outcome::Declined(decline("authentication_required"));
    let scene = scene().sent().then(answer(1, auth));
    assert_eq!(scene.mails(), ["authentication_required"]);
    let open = Event::OpenLink { until: at(HOUR) };
    assert_eq!(scene.apply(&open), Err(Refused::CollectorAlive), "the PaymentIntent is canceled first");
    let scene =
        scene.then(Event::CollectorDead).then(open).then(Event::LinkOpened { session: "cs_1".into() });
    assert_eq!(scene.apply(&Event::Begin), Err(Refused::OutOfPlace("link_open")), "the machine waits");
    assert_eq!(scene.charge.generation, 2, "each collector has a number of its own");
    let by_link = Receipt { new_card: Some("pm_2".into()), session: Some("cs_1".into()), ..receipt(at(9)) };
    let scene = scene.then(Event::Paid(by_link));
    assert!(scene.effects.contains(&Effect::AdoptCard { payment_method: "pm_2".into() }));
    assert_eq!((scene.state(), scene.mails().last()), ("paid", Some(&"recovered")));
}

#[test]
fn a_link_that_expires_leaves_the_ladder_where_it_stood() {
    let funds = Outcome::Declined(decline("insufficient_funds"));
    let declined = scene().sent().then(answer(1, funds)).then(Event::CollectorDead);
    let planned = declined.charge.state.clone();
    let scene = declined.then(Event::OpenLink { until: at(HOUR) }).after(HOUR).then(Event::CollectorDead);
    assert_eq!(scene.charge.state, planned);
}

#[test]
fn a_lost_answer_tells_nobody_and_the_same_attempt_goes_on() {
    let scene = scene().sent().then(answer(1, Outcome::Unknown { poisoned: false })).after(MINUTE);
    assert_eq!((scene.state(), scene.effects.len(), scene.charge.dunning), ("collecting", 0, None));
    assert_eq!(inquiry(&scene.sent_facts(), at(scene.now)), Inquiry::Resend);
    let scene = scene.then(Event::Sending);
    assert_eq!((scene.charge.attempts, scene.sent_facts().sends), (1, 2));
    assert_eq!(scene.sent_facts().first_at, at(0), "the key's age is counted from its first use");
}

#[test]
fn a_refused_resend_does_not_unsend_the_first_sending() {
    let lost = scene().sent().then(answer(1, Outcome::Unknown { poisoned: false })).after(MINUTE);
    let not_run = || answer(1, Outcome::NotRun { not_before: at(10 * MINUTE) });
    let scene = lost.clone().then(Event::Sending).then(not_run());
    assert_eq!(scene.sent_facts(), Sent { sends: 1, last_at: at(10 * MINUTE), ..lost.sent_facts() });
    let scene = scene.then(not_run()).then(not_run());
    assert_eq!(scene.sent_facts().sends, 1, "what was never marked as leaving is not subtracted");
    let scene = scene.then(answer(1, Outcome::NotRun { not_before: at(20 * MINUTE) }));
    assert_eq!(scene.sent_facts().last_at, at(20 * MINUTE), "it is not asked about before");
}

#[test]
fn a_first_sending_that_never_left_is_written_down_again() {
    let scene = scene().sent().then(answer(1, Outcome::NotRun { not_before: at(MINUTE) }));
    let phase = scene.charge.open_attempt().unwrap().phase;
    assert_eq!(phase, Phase::Prepared { not_before: at(MINUTE) });
}

#[test]
fn a_retry_that_was_written_down_waits_for_the_card_networks_too() {
    let declined = scene().sent().then(answer(1, Outcome::Declined(decline("insufficient_funds"))));
    let prepared = declined.after(DAY).then(Event::Begin);
    let later = prepared.clone().then(Event::NotYet { allowed: Some(at(3 * DAY)) });
    assert_eq!(later.charge.open_attempt().unwrap().phase, Phase::Prepared { not_before: at(3 * DAY) });
    let never = prepared.then(Event::NotYet { allowed: None });
    assert_eq!((never.state(), never.charge.open_attempt()), ("past_due", None));
}

#[test]
fn a_first_try_that_was_written_down_for_a_refused_card_is_no_try() {
    let scene = scene().then(Event::Begin).then(Event::NotYet { allowed: None });
    assert_eq!((scene.state(), scene.charge.open_attempt(), scene.charge.dunning), ("due", None, None));
    let refused = scene.then(Event::Declined(Decline::refused_before(Some("fp_1"))));
    assert_eq!((refused.state(), refused.charge.dunning.unwrap().class), ("past_due", Class::Never));
}

#[test]
fn two_empty_readings_prove_an_attempt_void_only_an_hour_apart() {
    let gap = i64::try_from(MISS_GAP.as_secs()).unwrap();
    let missing = || answer(1, Outcome::Missing);
    let scene = scene().sent().then(answer(1, Outcome::Unknown { poisoned: false })).after(3 * DAY);
    let scene = scene.then(missing()).after(gap - 1).then(missing());
    assert_eq!(
        (scene.state(), scene.sent_facts().misses),
        ("collecting", 1),
        "the second came too soon to count"
    );
    let scene = scene.after(1).then(missing());
    assert_eq!((scene.state(), scene.charge.dunning), ("due", None));
    let scene = scene.then(Event::Begin);
    assert_eq!(scene.charge.open_attempt().unwrap().number, 2, "a new attempt, hence a new key");
}

#[test]
fn a_cancel_does_not_shorten_the_wait_for_a_lost_answer() {
    let missing = || answer(1, Outcome::Missing);
    let scene =
        scene().sent().then(answer(1, Outcome::Unknown { poisoned: false })).then(Event::Stop(End::Canceled));
    let scene = scene.after(3 * DAY).then(missing()).after(MINUTE).then(missing());
    assert_eq!(scene.state(), "closing");
    let (_, wakes) = scene.charge.wake().unwrap();
    let scene = Scene { now: wakes.as_second(), ..scene };
    assert!(scene.now >= HOUR);
    let scene = scene.then(missing()).then(Event::CollectorDead);
    assert_eq!(scene.state(), "canceled");
}

#[test]
fn a_server_error_is_watched_for_three_days_and_then_shown_to_a_person() {
    let missing = || answer(1, Outcome::Missing);
    let mut scene = scene().sent().then(answer(1, Outcome::Unknown { poisoned: true }));
    assert_eq!(inquiry(&scene.sent_facts(), at(MINUTE)), Inquiry::Read);
    for _ in 0..71 {
        scene = scene.after(HOUR).then(missing());
        assert_eq!((scene.state(), scene.effects.len()), ("collecting", 0));
    }
    let scene = scene.after(HOUR).then(missing());
    assert_eq!((scene.state(), scene.alarms().len(), scene.mails().len()), ("needs_review", 1, 0));
}

#[test]
fn what_is_ours_to_mend_reaches_the_operator_and_no_customer() {
    let refused = scene().sent().then(answer(1, Outcome::Rejected("no such parameter".into())));
    let misconfigured = scene().sent().then(answer(1, Outcome::Declined(decline("merchant_blacklist"))));
    for scene in [refused, misconfigured] {
        assert_eq!((scene.state(), scene.mails().len(), scene.alarms().len()), ("needs_review", 0, 1));
        assert_eq!((scene.charge.dunning, scene.charge.open_attempt()), (None, None));
    }
}

#[test]
fn each_review_raises_an_alarm_of_its_own() {
    let scene =
        scene().then(Event::Review("one".into())).then(Event::CollectNow).then(Event::Review("two".into()));
    let steps: Vec<&str> = scene.alarms().iter().map(|(step, _)| *step).collect();
    assert_eq!(steps.len(), 2);
    assert_ne!(steps[0], steps[1], "the same step would be kept once, and the second review be silent");
}

#[test]
fn the_wrong_amount_or_customer_is_never_paid() {
    let less = Receipt { amount: "28.99 USD".parse().unwrap(), ..receipt(at(0)) };
    let euros = Receipt { amount: "29.00 EUR".parse().unwrap(), ..receipt(at(0)) };
    let stranger = Receipt { customer: CustomerId(uuid::Uuid::nil()), ..receipt(at(0)) };
    for receipt in [less, euros, stranger] {
        let open = scene().sent().then(answer(1, Outcome::Paid(receipt.clone())));
        assert_eq!((open.state(), open.alarms().len()), ("needs_review", 1));
        let ended = scene().then(Event::Stop(End::Canceled)).then(Event::Paid(receipt));
        assert_eq!(
            (ended.state(), ended.alarms().len()),
            ("canceled", 1),
            "money after the end is never silent"
        );
    }
}

#[test]
fn money_that_comes_after_the_end_is_booked_with_an_alarm() {
    for end in [End::Canceled, End::Uncollectible, End::PaidOutside] {
        let scene = scene().then(Event::Stop(end)).then(Event::Paid(receipt(at(5))));
        assert_eq!((scene.state(), scene.alarms().len()), ("paid", 1));
        assert_eq!(scene.apply(&Event::Paid(receipt(at(6)))), Err(Refused::TooLate("paid")));
    }
}

#[test]
fn a_cancel_waits_until_nothing_can_take_the_money() {
    let unsent = scene().then(Event::Begin).then(Event::Stop(End::Canceled));
    assert_eq!((unsent.state(), unsent.charge.collector.clone()), ("canceled", None), "nothing has left");
    let sent = scene().sent().then(Event::Stop(End::Canceled));
    assert_eq!(sent.state(), "closing");
    let paid = sent.clone().then(answer(1, Outcome::Paid(receipt(at(0)))));
    assert_eq!((paid.state(), paid.alarms().len()), ("paid", 1));
    let dead = sent.then(answer(1, Outcome::CollectorDead));
    assert_eq!((dead.state(), dead.charge.open_attempt()), ("canceled", None));
}

#[test]
fn a_second_cancel_does_not_forget_the_page_that_may_be_open() {
    let opening = scene().then(Event::OpenLink { until: at(HOUR) }).then(Event::Stop(End::Canceled));
    let again = opening.then(Event::Stop(End::Canceled));
    assert_eq!(again.state(), "closing", "the Session's request may still be answered");
    assert!(again.charge.collector.is_some());
}

#[test]
fn a_canceled_charge_whose_payment_is_pending_stays_canceled() {
    let pending = |scene: Scene| {
        [
            scene.clone().then(Event::Pending),
            scene.then(answer(1, Outcome::Processing { payment_intent: "pi_1".into() })),
        ]
    };
    for scene in pending(scene().sent().then(Event::Stop(End::Canceled))) {
        assert_eq!(scene.state(), "closing");
        assert!(scene.apply(&Event::Declined(decline("insufficient_funds"))).is_err(), "no ladder starts");
        assert_eq!(scene.then(Event::CollectorDead).state(), "canceled");
    }
}

#[test]
fn a_pending_payment_is_asked_about_every_six_hours() {
    let pending = scene().after(HOUR).sent().then(Event::Pending);
    assert_eq!(pending.charge.state, State::Processing { poll_at: at(7 * HOUR) });
    let ending = pending.then(Event::Stop(End::Canceled)).after(HOUR).then(Event::Pending);
    assert_eq!(ending.charge.wake(), Some((Work::Reconcile, at(8 * HOUR))));
}

#[test]
fn a_cancel_survives_the_review() {
    let scene =
        scene().sent().then(answer(1, Outcome::Unknown { poisoned: true })).then(Event::Stop(End::Canceled));
    let scene = scene.after(4 * DAY).then(answer(1, Outcome::Missing));
    assert_eq!(scene.state(), "needs_review");
    let late = answer(1, Outcome::Declined(decline("insufficient_funds")));
    let declined = scene.clone().then(late);
    assert_eq!(declined.state(), "closing", "a canceled charge went up the ladder");
    assert!(declined.mails().is_empty(), "the customer was asked for money they need not pay");
    assert_eq!(declined.then(Event::CollectorDead).state(), "canceled");
    let paid = scene.clone().then(answer(1, Outcome::Paid(receipt(at(0)))));
    assert_eq!((paid.state(), paid.alarms().len()), ("paid", 2), "the review, and the money");
    assert_eq!(scene.clone().then(answer(1, Outcome::CollectorDead)).state(), "canceled");
    assert_eq!(scene.clone().then(Event::Review("again".into())).charge.end(), Some(End::Canceled));
    assert_eq!(scene.then(Event::CollectNow).charge.end(), None, "a person wants it after all");
}

#[test]
fn a_page_that_dies_pending_brings_no_machine_retry_of_a_lost_card() {
    let scene =
        scene().sent().then(answer(1, Outcome::Declined(decline("lost_card")))).then(Event::CollectorDead);
    let scene =
        scene.then(Event::OpenLink { until: at(HOUR) }).then(Event::Pending).then(Event::CollectorDead);
    assert!(scene.apply(&Event::Begin).is_err(), "{:?}", scene.charge.state);
    assert!(scene.charge.wake().is_some());
}

#[test]
fn a_payment_on_a_page_that_the_bank_refuses_days_later_is_told_and_the_ladder_goes_on_as_planned() {
    let declined = scene().sent().then(answer(1, Outcome::Declined(decline("insufficient_funds"))));
    let planned = declined.charge.wake().unwrap().1;
    let pending =
        declined.then(Event::CollectorDead).then(Event::OpenLink { until: at(HOUR) }).then(Event::Pending);
    for (days, next) in [(1, planned), (5, at(5 * DAY))] {
        let refused = pending.clone().after(days * DAY).then(Event::PageRefused);
        assert_eq!(refused.charge.wake(), Some((Work::Collect, next)));
        assert_eq!(refused.mails(), ["payment_failed"; 2]);
        assert_eq!(refused.charge.dunning.unwrap().aside, None);
        let canceled = pending.clone().after(days * DAY).then(Event::CollectorDead);
        assert_eq!(canceled.charge.wake(), Some((Work::Collect, next)));
        assert_eq!(canceled.mails().len(), 1, "no bank refused: nobody is told so");
    }
}

#[test]
fn a_session_that_answers_late_does_not_rename_the_payment_intent() {
    let scene = scene().sent().then(answer(1, Outcome::Declined(decline("insufficient_funds"))));
    let scene = scene.then(Event::Stop(End::Canceled));
    assert!(scene.apply(&Event::LinkOpened { session: "cs_1".into() }).is_err());
}

#[test]
fn a_payment_intent_that_the_database_forgot_is_adopted_and_confirmed() {
    let adopt = adopted(CollectorKind::PaymentIntent, 2, 3, false);
    let scene = scene().then(adopt).then(Event::Begin);
    let attempt = scene.charge.open_attempt().unwrap();
    assert_eq!((attempt.operation, attempt.number, scene.charge.generation), (Operation::Confirm, 4, 2));
}

#[test]
fn what_was_missed_here_and_declined_elsewhere_waits_for_a_person_and_opens_no_page_beside_it() {
    let missed = Scene { charge: Charge { state: State::Missed, ..due() }, ..scene() };
    let found = missed.then(adopted(CollectorKind::PaymentIntent, 1, 1, false));
    assert_eq!((found.state(), found.charge.wake()), ("missed", None), "nobody asked for it here");
    assert_eq!(found.apply(&Event::OpenLink { until: at(HOUR) }), Err(Refused::CollectorAlive));
    let ends = found.clone().then(Event::Stop(End::Canceled));
    assert_eq!(ends.state(), "closing", "it is closed before the charge ends");
    let again = found.then(Event::CollectNow).then(Event::Begin);
    assert_eq!(again.charge.open_attempt().unwrap().operation, Operation::Confirm);
}

#[test]
fn what_is_adopted_gets_a_number_that_no_dead_collector_has() {
    let declined = scene().sent().then(answer(1, Outcome::Declined(decline("insufficient_funds"))));
    let of_a_dead_one = declined.then(Event::CollectorDead);
    let found = of_a_dead_one.then(adopted(CollectorKind::PaymentIntent, 1, 1, false));
    assert_eq!(found.charge.collector.unwrap().generation, 2, "number 1 is dead");
    let unnamed = scene().then(Event::Begin).then(adopted(CollectorKind::PaymentIntent, 1, 1, true));
    assert_eq!(unnamed.charge.collector.unwrap().generation, 1, "it is the one that was written down");
}

#[test]
fn what_was_ended_without_knowing_of_a_payment_intent_ends_again_once_that_is_dead() {
    let settled = scene().then(Event::Stop(End::PaidOutside));
    let found = settled.then(adopted(CollectorKind::PaymentIntent, 1, 1, true));
    assert_eq!((found.charge.state.as_str(), found.charge.end()), ("closing", Some(End::PaidOutside)));
    assert!(found.effects.iter().any(|one| matches!(one, Effect::Alarm { .. })), "the operator is told");
    assert!(found.apply(&Event::Begin).is_err());
    let becomes = |event| found.apply(&event).unwrap().charge.state;
    assert_eq!(becomes(Event::CollectorDead).as_str(), "settled");
    assert_eq!(becomes(Event::Paid(receipt(at(9)))).as_str(), "paid", "and the operator is told again");
}

#[test]
fn a_page_that_waits_for_a_bank_is_adopted_and_the_ladder_waits_with_it() {
    let declined = scene().sent().then(answer(1, Outcome::Declined(decline("insufficient_funds"))));
    let (_, next) = declined.charge.wake().unwrap();
    let pending = declined.then(adopted(CollectorKind::CheckoutSession, 2, 0, true));
    assert_eq!(pending.charge.state.as_str(), "processing");
    assert!(pending.apply(&Event::Begin).is_err(), "the money may still come");
    let refused = pending.then(Event::PageRefused);
    assert_eq!(refused.charge.wake(), Some((Work::Collect, next)));
    assert_eq!((refused.charge.generation, refused.charge.collector), (2, None));
}

#[test]
fn a_page_that_is_adopted_and_refused_is_followed_by_no_try_that_the_last_decline_forbids() {
    let forbidden = scene().sent().then(answer(1, Outcome::Declined(decline("authentication_required"))));
    let waits = forbidden.then(Event::CollectorDead).then(Event::Review("somebody asked".into()));
    let refused = waits.then(adopted(CollectorKind::CheckoutSession, 2, 0, true)).then(Event::PageRefused);
    let State::PastDue { next } = refused.charge.state else { panic!("{:?}", refused.charge) };
    assert_eq!(next.action, Action::Remind);
}

#[test]
fn a_withdrawn_permission_stops_the_series() {
    let revoked = Outcome::Declined(decline("revocation_of_all_authorizations"));
    let scene = scene().sent().then(answer(1, revoked));
    assert!(scene.effects.contains(&Effect::StopSeries));
    assert!(scene.apply(&Event::Begin).is_err());
}

#[test]
fn an_answer_to_another_attempt_changes_nothing() {
    let scene = scene()
        .sent()
        .then(answer(1, Outcome::Declined(decline("insufficient_funds"))))
        .after(DAY)
        .sent_again();
    for outcome in
        [Outcome::Declined(decline("insufficient_funds")), Outcome::Missing, Outcome::CollectorDead]
    {
        assert_eq!(scene.apply(&answer(1, outcome)), Err(Refused::TooLate("collecting")));
    }
}
