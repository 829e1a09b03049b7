//! Words that stand in databases and in plans that were sold: they may never change.

use super::*;
use crate::billing::charge::Work;
use crate::billing::dunning::Action;
use crate::billing::subscription::SubscriptionState;

/// Each value has its word, the word reads back, and nothing else does.
fn assert_words<T: Copy + PartialEq + std::fmt::Debug>(
    as_str: fn(T) -> &'static str,
    parse: fn(&str) -> Option<T>,
    words: &[(T, &str)],
) {
    for (value, word) in words {
        assert_eq!((as_str(*value), parse(word)), (*word, Some(*value)));
    }
    assert_eq!((parse(""), parse("another")), (None, None));
}

#[test]
fn the_words_in_the_database_are_these() {
    assert_words(
        CollectorKind::as_str,
        CollectorKind::parse,
        &[
            (CollectorKind::PaymentIntent, "payment_intent"),
            (CollectorKind::CheckoutSession, "checkout_session"),
        ],
    );
    assert_words(
        Operation::as_str,
        Operation::parse,
        &[(Operation::Create, "create"), (Operation::Confirm, "confirm")],
    );
    assert_words(
        End::as_str,
        End::parse,
        &[
            (End::Canceled, "canceled"),
            (End::Uncollectible, "uncollectible"),
            (End::PaidOutside, "paid_outside"),
        ],
    );
    assert_words(
        Action::as_str,
        Action::parse,
        &[(Action::Collect, "collect"), (Action::Remind, "remind"), (Action::GiveUp, "give_up")],
    );
    assert_words(
        MailKind::as_str,
        MailKind::parse,
        &[
            (MailKind::PaymentFailed, "payment_failed"),
            (MailKind::AuthenticationRequired, "authentication_required"),
            (MailKind::LastNotice, "last_notice"),
            (MailKind::Recovered, "recovered"),
            (MailKind::SubscriptionEnded, "subscription_ended"),
        ],
    );
    assert_words(
        SubscriptionState::as_str,
        SubscriptionState::parse,
        &[
            (SubscriptionState::Pending, "pending"),
            (SubscriptionState::Active, "active"),
            (SubscriptionState::Paused, "paused"),
            (SubscriptionState::Canceled, "canceled"),
            (SubscriptionState::Completed, "completed"),
        ],
    );
    let workers = [(Work::Collect, "collect"), (Work::Dun, "dun"), (Work::Reconcile, "reconcile")];
    for (work, word) in workers {
        assert_eq!(work.as_str(), word);
    }
}

#[test]
fn only_what_was_declined_and_then_paid_is_recovered() {
    let funds = || Outcome::Declined(decline("insufficient_funds"));
    let at_once = scene().sent().then(answer(1, Outcome::Paid(receipt(at(0)))));
    assert!(!at_once.charge.is_recovered());
    let declined = scene().sent().then(answer(1, funds()));
    assert!(!declined.charge.is_recovered());
    assert!(declined.then(Event::Paid(receipt(at(0)))).charge.is_recovered());
}

#[test]
fn only_some_mails_ask_for_money() {
    for kind in [MailKind::PaymentFailed, MailKind::AuthenticationRequired, MailKind::LastNotice] {
        assert!(kind.asks_for_money(), "{kind:?} must not leave after the payment");
    }
    for kind in [MailKind::Recovered, MailKind::SubscriptionEnded] {
        assert!(!kind.asks_for_money(), "{kind:?} would never leave");
    }
}
