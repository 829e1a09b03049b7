//! What another ladder would have done with a case of the past. Whether a try at another moment would have been paid,
//! nobody knows: only the moments are told.

use jiff::Timestamp;

use super::decline::Decline;
use super::dunning::{Action, Rules, on_decline, on_remind};
use super::network_rules::Try;

/// A case as it was.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its declines in order, at least one.
    pub declines: Vec<(Timestamp, Decline)>,
    /// When it ended, or the present for an open one.
    pub until: Timestamp,
    /// Whether a retry was paid then.
    pub paid_by_machine: bool,
}

/// What the other ladder would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Retries before the end of the real case.
    pub retries: u32,
    /// The first retry at the moment at which the real one was paid, or later.
    pub from_then_on: Option<Timestamp>,
    /// When it would have given up, if before that.
    pub gives_up: Option<Timestamp>,
}

/// Limit: no ladder has more steps, silent retries included.
const STEPS_MAX: usize = 100;

/// Goes another ladder with the answers of the past: each try is declined as the newest real one before it was, until the
/// real case ended. A case that was given up goes on to the other ladder's end.
#[must_use]
pub fn replay(past: &Past, gave_up: bool, rules: &Rules<'_>) -> Replay {
    let mut found = Replay::default();
    let Some((first_at, first)) = past.declines.first() else { return found };
    let mut history = vec![Try::declined(first, *first_at)];
    let mut last = first;
    let mut rung = on_decline(None, last, rules, &history, *first_at);
    for _ in 0..STEPS_MAX {
        let at = rung.next.at;
        let over = at >= past.until && !gave_up;
        match rung.next.action {
            Action::GiveUp => {
                found.gives_up = (!over).then_some(at);
                return found;
            }
            Action::Collect if over => {
                found.from_then_on = past.paid_by_machine.then_some(at);
                return found;
            }
            _ if over && !past.paid_by_machine => return found,
            Action::Remind => rung = on_remind(rung.dunning, Some((last, &history)), rules, at),
            Action::Collect => {
                found.retries += 1;
                let before = past.declines.iter().rev().find(|(when, _)| *when <= at);
                last = before.map_or(last, |(_, decline)| decline);
                history.push(Try::declined(last, at));
                rung = on_decline(Some(rung.dunning), last, rules, &history, at);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::ladder::Ladder;
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    fn past(days: &[i64], until: i64, paid_by_machine: bool) -> Past {
        let funds = Decline { decline_code: Some("insufficient_funds".into()), ..Decline::default() };
        let declines = days.iter().map(|day| (at(*day), funds.clone())).collect();
        Past { declines, until: at(until), paid_by_machine }
    }

    /// Tries on days 3, 7 and 12, and ends on day 15.
    fn told(past: &Past, gave_up: bool) -> Replay {
        replay(past, gave_up, &Rules::of(&Ladder::default()))
    }

    #[test]
    fn the_first_try_from_the_payment_on_is_told() {
        let found = told(&past(&[0, 2], 5, true), false);
        assert_eq!(found, Replay { retries: 1, from_then_on: Some(at(7)), gives_up: None });
        let same = told(&past(&[0], 3, true), false);
        assert_eq!((same.retries, same.from_then_on), (0, Some(at(3))), "at the same moment");
    }

    #[test]
    fn a_ladder_that_ends_before_the_payment_is_told_so() {
        let found = told(&past(&[0, 10], 20, true), false);
        assert_eq!(found, Replay { retries: 3, from_then_on: None, gives_up: Some(at(15)) });
        let link = told(&past(&[0], 20, false), false);
        assert_eq!(link.gives_up, Some(at(15)));
        assert_eq!(told(&past(&[0], 5, false), false), Replay { retries: 1, ..Replay::default() });
    }

    #[test]
    fn what_was_given_up_is_followed_to_the_other_ladders_end() {
        let found = told(&past(&[0, 1], 2, false), true);
        assert_eq!(found, Replay { retries: 3, from_then_on: None, gives_up: Some(at(15)) });
    }

    #[test]
    fn what_no_machine_may_try_again_is_not_tried() {
        let mut lost = past(&[0], 20, false);
        lost.declines[0].1.decline_code = Some("lost_card".into());
        assert_eq!(told(&lost, true).retries, 0);
    }
}
