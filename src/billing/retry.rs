//! Who decides when a declined card is tried again. Whatever a policy wishes, the card networks' ceilings have the last
//! word: [`next_retry`] is the only way from a wish to an instant.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::decline::Decline;
use super::ladder::{Ladder, LadderStep};
use super::network_rules::{Try, earliest_retry};

/// What a policy is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The newest decline.
    pub decline: &'a Decline,
    /// The tries of the card within the networks' longest window.
    pub history: &'a [Try],
    /// How many declines this charge has had.
    pub declines: u32,
    /// The ladder of the case.
    pub ladder: &'a Ladder,
    /// Its step that wants a retry.
    pub step: &'a LadderStep,
    /// The customer's time zone.
    pub zone: &'a TimeZone,
    /// An earlier instant is not taken: the step's own, and later what the networks' rules leave.
    pub not_before: Timestamp,
    /// The present.
    pub now: Timestamp,
}

/// A way to choose the instant of a retry: a pure function of what is asked.
pub trait RetryPolicy: std::fmt::Debug + Send + Sync {
    /// Its name in the configuration and in logs.
    fn name(&self) -> &'static str;

    /// When it would try again, at [`Question::not_before`] or later; `None`: not by machine.
    fn retry_at(&self, question: &Question<'_>) -> Option<Timestamp>;
}

/// The default: at the ladder's step, on its days and in its hours.
#[derive(Clone, Copy, Debug)]
pub struct ByLadder;

impl RetryPolicy for ByLadder {
    fn name(&self) -> &'static str {
        "ladder"
    }

    fn retry_at(&self, question: &Question<'_>) -> Option<Timestamp> {
        Some(question.ladder.slot(question.step, question.not_before, question.zone))
    }
}

/// As the ladder, but only where Stripe's `advice_code` says that trying later can help.
/// <https://docs.stripe.com/declines/codes>
#[derive(Clone, Copy, Debug)]
pub struct ByAdvice;

impl RetryPolicy for ByAdvice {
    fn name(&self) -> &'static str {
        "stripe_advice"
    }

    fn retry_at(&self, question: &Question<'_>) -> Option<Timestamp> {
        let advised = question.decline.advice_code.as_deref() == Some("try_again_later");
        if advised { ByLadder.retry_at(question) } else { None }
    }
}

/// The policies there are, by name.
#[must_use]
pub fn named(name: &str) -> Option<&'static dyn RetryPolicy> {
    let all: [&'static dyn RetryPolicy; 2] = [&ByLadder, &ByAdvice];
    all.into_iter().find(|policy| policy.name() == name)
}

/// Limit: how often a policy may choose anew after the networks' rules moved its choice.
const CHOICES_MAX: usize = 8;

/// When the card is tried again: the policy's wish, inside the networks' rules. `None`: not by machine.
#[must_use]
pub fn next_retry(policy: &dyn RetryPolicy, question: Question<'_>) -> Option<Timestamp> {
    let mut question = question;
    for _ in 0..CHOICES_MAX {
        let wish = policy.retry_at(&question)?.max(question.not_before);
        let allowed = earliest_retry(question.decline, question.history, wish)?;
        if allowed == wish {
            return Some(wish);
        }
        question.not_before = allowed;
    }
    earliest_retry(question.decline, question.history, question.not_before)
}

#[cfg(test)]
mod tests {
    use super::super::ladder::Slot;
    use super::super::network_rules::tried;
    use super::super::plan::Window;
    use super::*;

    fn utc(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ask(
        policy: &dyn RetryPolicy,
        decline: &Decline,
        history: &[Try],
        not_before: &str,
    ) -> Option<Timestamp> {
        let ladder = Ladder { window: Some(Window { from_hour: 9, to_hour: 11 }), ..Ladder::default() };
        let step = LadderStep { retry: true, on: vec![Slot::Weekday(5)], ..LadderStep::default() };
        next_retry(
            policy,
            Question {
                decline,
                history,
                declines: 1,
                ladder: &ladder,
                step: &step,
                zone: &TimeZone::UTC,
                not_before: utc(not_before),
                now: utc(not_before),
            },
        )
    }

    #[test]
    fn a_wish_that_the_networks_move_is_wished_anew() {
        let funds = Decline { decline_code: Some("insufficient_funds".into()), ..Decline::default() };
        assert_eq!(ask(&ByLadder, &funds, &[], "2026-11-25T08:00:00Z"), Some(utc("2026-11-27T09:00:00Z")));
        // Three tries within seven days, the oldest of them on Friday the 27th at noon.
        let tries =
            ["2026-11-27T12:00:00Z", "2026-11-29T12:00:00Z", "2026-12-01T12:00:00Z"].map(|at| tried(utc(at)));
        let found = ask(&ByLadder, &funds, &tries, "2026-12-02T08:00:00Z");
        assert_eq!(
            found,
            Some(utc("2026-12-11T09:00:00Z")),
            "not on the 4th at noon, but a week later in its hours"
        );
    }

    #[test]
    fn no_policy_tries_what_the_networks_forbid() {
        let lost = Decline {
            decline_code: Some("lost_card".into()),
            advice_code: Some("try_again_later".into()),
            ..Decline::default()
        };
        assert_eq!(ask(&ByLadder, &lost, &[], "2026-11-25T08:00:00Z"), None);
        assert_eq!(ask(&ByAdvice, &lost, &[], "2026-11-25T08:00:00Z"), None);
    }

    #[test]
    fn by_advice_only_what_stripe_advises() {
        let silent = Decline { decline_code: Some("insufficient_funds".into()), ..Decline::default() };
        let advised = Decline { advice_code: Some("try_again_later".into()), ..silent.clone() };
        assert_eq!(ask(&ByAdvice, &silent, &[], "2026-11-25T08:00:00Z"), None);
        let at = ask(&ByAdvice, &advised, &[], "2026-11-25T08:00:00Z");
        assert_eq!(at, Some(utc("2026-11-27T09:00:00Z")));
    }

    #[test]
    fn a_policy_that_never_settles_still_keeps_the_rules() {
        #[derive(Debug)]
        struct Late;
        impl RetryPolicy for Late {
            fn name(&self) -> &'static str {
                "late"
            }
            fn retry_at(&self, question: &Question<'_>) -> Option<Timestamp> {
                Some(question.now)
            }
        }
        let funds = Decline { decline_code: Some("insufficient_funds".into()), ..Decline::default() };
        let tries = [tried(utc("2026-11-25T08:00:00Z"))];
        let found = ask(&Late, &funds, &tries, "2026-11-25T08:00:00Z");
        assert_eq!(found, Some(utc("2026-11-26T08:00:00Z")), "one try in 24 hours");
    }
}
