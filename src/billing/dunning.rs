//! The ladder: what happens, and when, between a decline and its end.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::decline::{Class, Decline};
use super::ladder::{Ladder, LadderId};
use super::network_rules::{Try, earliest_retry};
use super::retry::{Question, RetryPolicy, next_retry};

/// A mail that a charge can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// The payment failed; here is a link.
    PaymentFailed,
    /// The bank wants a confirmation; here is a link.
    AuthenticationRequired,
    /// The last notice before the end.
    LastNotice,
    /// Paid after a decline.
    Recovered,
    /// The ladder ended unpaid.
    SubscriptionEnded,
}

impl MailKind {
    /// The template's name, also the word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentFailed => "payment_failed",
            Self::AuthenticationRequired => "authentication_required",
            Self::LastNotice => "last_notice",
            Self::Recovered => "recovered",
            Self::SubscriptionEnded => "subscription_ended",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        use MailKind::{AuthenticationRequired, LastNotice, PaymentFailed, Recovered, SubscriptionEnded};
        [PaymentFailed, AuthenticationRequired, LastNotice, Recovered, SubscriptionEnded]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }

    /// Whether the mail says that money is still owed: it must not leave after the charge was paid.
    #[must_use]
    pub fn asks_for_money(self) -> bool {
        match self {
            Self::PaymentFailed | Self::AuthenticationRequired | Self::LastNotice => true,
            Self::Recovered | Self::SubscriptionEnded => false,
        }
    }
}

/// What a worker does when a past-due charge wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Try the saved card.
    Collect,
    /// Send the step's mail and go one step on.
    Remind,
    /// End the ladder.
    GiveUp,
}

impl Action {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Remind => "remind",
            Self::GiveUp => "give_up",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Collect, Self::Remind, Self::GiveUp].into_iter().find(|action| action.as_str() == word)
    }
}

/// What happens next to a charge, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Next {
    /// Not before this instant.
    pub at: Timestamp,
    /// What.
    pub action: Action,
}

/// A charge's way down the ladder. It exists from the first decline on and stays when the charge is paid, which
/// is how a recovered charge is told from one that was never declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dunning {
    /// When the first decline came.
    pub since: Timestamp,
    /// Index of the ladder step that comes next (or that is being tried).
    pub step: u32,
    /// How many declines so far, the customer's own tries in Checkout not counted.
    pub declines: u32,
    /// Class of the newest decline.
    pub class: Class,
    /// Payments on its page that the bank refused days later. Each had put the ladder off meanwhile.
    pub late_refusals: u32,
    /// The ladder it goes: that of its class when it took the first step.
    pub ladder: LadderId,
    /// What the ladder had planned when a try was put before it: of a card that was just saved, at an operator's word, or a
    /// payment on a page whose result comes days later. Such a try is no step of the ladder, which goes on as planned if it is
    /// declined.
    pub aside: Option<Next>,
}

/// Limit: after so many payments that the bank refused days later, the page takes cards only. One may be an empty account, the next
/// another account; each puts the ladder off for up to two weeks, and whoever goes on could put off its end for ever.
const LATE_REFUSALS_MAX: u32 = 2;

impl Dunning {
    /// Whether its page takes nothing but cards any more.
    #[must_use]
    pub fn takes_cards_only(&self) -> bool {
        self.late_refusals >= LATE_REFUSALS_MAX
    }
}

/// By which rules a case is handled.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Which ladder on record this is.
    pub id: LadderId,
    /// The ladder.
    pub ladder: &'a Ladder,
    /// Who chooses the instants of retries.
    pub retry: &'a dyn RetryPolicy,
    /// The customer's time zone.
    pub zone: &'a TimeZone,
}

impl<'a> Rules<'a> {
    /// This ladder, in UTC and without a record of it.
    #[must_use]
    pub fn of(ladder: &'a Ladder) -> Self {
        static UTC: TimeZone = TimeZone::UTC;
        Self { id: LadderId::default(), ladder, retry: &super::retry::ByLadder, zone: &UTC }
    }
}

/// How the step of a mail begins that tells of a payment on a page that the bank refused days later.
pub const LATE_REFUSAL: &str = "page-";

/// Limit: a technical failure is retried silently for this long before the customer hears of it.
const SILENT: Duration = Duration::from_secs(24 * 3600);
/// The pause before a silent retry; the networks' ceilings usually move it to a day.
const SILENT_PAUSE: Duration = Duration::from_secs(3600);

/// What a ladder decided: the mails to send now and what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Mails that are due now, with the step they belong to.
    pub mails: Vec<(u32, MailKind)>,
    /// The case after this.
    pub dunning: Dunning,
    /// What comes next.
    pub next: Next,
}

/// Answers a decline: opens or continues the case.
#[must_use]
pub fn on_decline(
    case: Option<Dunning>,
    decline: &Decline,
    rules: &Rules<'_>,
    history: &[Try],
    now: Timestamp,
) -> Rung {
    let class = decline.class();
    let retried = case.is_some();
    let (step, declines, late_refusals) = (0, 0, 0);
    let fresh = Dunning { since: now, step, declines, late_refusals, class, ladder: rules.id, aside: None };
    let mut dunning = case.unwrap_or(fresh);
    dunning.declines += 1;
    (dunning.class, dunning.ladder) = (class, rules.id);
    if let Some(planned) = dunning.aside.take() {
        return Rung { mails: Vec::new(), dunning, next: as_planned(planned, decline, history, now) };
    }
    if class == Class::Technical && now.duration_since(dunning.since).unsigned_abs() < SILENT {
        let wanted = now.checked_add(SILENT_PAUSE).unwrap_or(now);
        if let Some(at) = earliest_retry(decline, history, wanted) {
            return Rung { mails: Vec::new(), dunning, next: Next { at, action: Action::Collect } };
        }
    }
    let mut mails = Vec::new();
    if retried {
        leave_step(&mut dunning, rules, &mut mails);
    }
    let next = next_step(&mut dunning, Some((decline, history)), rules, now, &mut mails);
    Rung { mails, dunning, next }
}

/// The ladder goes on where it stood. A retry that the card networks do not allow any more is left out: then only its
/// step's mail is due.
fn as_planned(planned: Next, decline: &Decline, history: &[Try], now: Timestamp) -> Next {
    let at = planned.at.max(now);
    match planned.action {
        Action::Remind | Action::GiveUp => Next { at, ..planned },
        Action::Collect => match earliest_retry(decline, history, at) {
            Some(at) => Next { at, action: Action::Collect },
            None => Next { at, action: Action::Remind },
        },
    }
}

/// Carries out a step that only sends a mail, and finds the next one. `last` is the newest decline with the
/// history of its card, if a machine retry is still possible.
#[must_use]
pub fn on_remind(case: Dunning, last: Option<(&Decline, &[Try])>, rules: &Rules<'_>, now: Timestamp) -> Rung {
    let mut dunning = Dunning { ladder: rules.id, ..case };
    let mut mails = Vec::new();
    leave_step(&mut dunning, rules, &mut mails);
    let next = next_step(&mut dunning, last, rules, now, &mut mails);
    Rung { mails, dunning, next }
}

fn leave_step(dunning: &mut Dunning, rules: &Rules<'_>, mails: &mut Vec<(u32, MailKind)>) {
    if let Some(step) = rules.ladder.step(dunning.step) {
        if let Some(kind) = step.mail {
            mails.push((dunning.step, worded(kind, dunning.class)));
        }
        dunning.step += 1;
    }
}

fn next_step(
    dunning: &mut Dunning,
    last: Option<(&Decline, &[Try])>,
    rules: &Rules<'_>,
    now: Timestamp,
    mails: &mut Vec<(u32, MailKind)>,
) -> Next {
    let ladder = rules.ladder;
    while let Some(step) = ladder.step(dunning.step) {
        let not_before = now.checked_add(Duration::from_secs(step.after_secs)).unwrap_or(Timestamp::MAX);
        let retry_at = last.filter(|_| step.retry).and_then(|(decline, history)| {
            let (declines, zone) = (dunning.declines, rules.zone);
            next_retry(
                rules.retry,
                Question { decline, history, declines, ladder, step, zone, not_before, now },
            )
        });
        if let Some(at) = retry_at {
            return Next { at, action: Action::Collect };
        }
        let at = ladder.slot(step, not_before, rules.zone);
        if at > now {
            return Next { at, action: Action::Remind };
        }
        leave_step(dunning, rules, mails);
    }
    let end = now.checked_add(Duration::from_secs(ladder.finally_after_secs)).unwrap_or(Timestamp::MAX);
    Next { at: end, action: Action::GiveUp }
}

/// A bank that wants a confirmation is not a failed payment: the mail says so.
fn worded(kind: MailKind, class: Class) -> MailKind {
    match (kind, class) {
        (MailKind::PaymentFailed, Class::Authenticate) => MailKind::AuthenticationRequired,
        (kind, _) => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::network_rules::tried;

    const DAY: i64 = 86_400;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn decline(code: &str) -> Decline {
        Decline { decline_code: Some(code.into()), ..Decline::default() }
    }

    #[test]
    fn a_soft_decline_mails_at_once_and_retries_up_the_ladder() {
        let ladder = Ladder::default();
        let rules = Rules::of(&ladder);
        let funds = decline("insufficient_funds");
        let first = on_decline(None, &funds, &rules, &[tried(at(0))], at(0));
        assert_eq!(first.mails, [(0, MailKind::PaymentFailed)]);
        assert_eq!(first.next, Next { at: at(3 * DAY), action: Action::Collect });
        let second =
            on_decline(Some(first.dunning), &funds, &rules, &[tried(at(0)), tried(at(3 * DAY))], at(3 * DAY));
        assert_eq!((second.mails.len(), second.next.at), (0, at(7 * DAY)));
        let third = on_decline(Some(second.dunning), &funds, &rules, &[], at(7 * DAY));
        assert_eq!(third.mails, [(2, MailKind::PaymentFailed)]);
        let fourth = on_decline(Some(third.dunning), &funds, &rules, &[], at(12 * DAY));
        assert_eq!(fourth.mails, [(3, MailKind::LastNotice)]);
        assert_eq!(fourth.next, Next { at: at(15 * DAY), action: Action::GiveUp });
    }

    #[test]
    fn authentication_goes_straight_to_the_link_and_is_never_retried_by_machine() {
        let ladder = Ladder::default();
        let rules = Rules::of(&ladder);
        let mut rung = on_decline(None, &decline("authentication_required"), &rules, &[tried(at(0))], at(0));
        assert_eq!(rung.mails, [(0, MailKind::AuthenticationRequired)]);
        let mut guard = 0;
        while rung.next.action != Action::GiveUp {
            assert_eq!(rung.next.action, Action::Remind);
            rung = on_remind(rung.dunning, None, &rules, rung.next.at);
            guard += 1;
            assert!(guard < 10);
        }
        assert_eq!(rung.next.at, at(15 * DAY));
    }

    #[test]
    fn a_technical_failure_is_silent_for_a_day() {
        let ladder = Ladder::default();
        let rules = Rules::of(&ladder);
        let down = decline("issuer_not_available");
        let first = on_decline(None, &down, &rules, &[tried(at(0))], at(0));
        assert!(first.mails.is_empty());
        assert_eq!(first.next, Next { at: at(DAY), action: Action::Collect });
        let late = on_decline(Some(first.dunning), &down, &rules, &[], at(DAY - 1));
        assert!(late.mails.is_empty());
        assert_eq!(
            (late.next.at, late.dunning.declines),
            (at(DAY - 1 + 3600), 2),
            "an hour's pause at least"
        );
        let second = on_decline(Some(first.dunning), &down, &rules, &[tried(at(0)), tried(at(DAY))], at(DAY));
        assert_eq!(second.mails, [(0, MailKind::PaymentFailed)]);
    }

    #[test]
    fn a_try_beside_the_ladder_uses_up_none_of_its_steps() {
        let ladder = Ladder::default();
        let rules = Rules::of(&ladder);
        let first = on_decline(None, &decline("insufficient_funds"), &rules, &[tried(at(0))], at(0));
        let aside = Dunning { aside: Some(first.next), ..first.dunning };
        for (code, next) in [
            ("insufficient_funds", Next { at: at(3 * DAY), action: Action::Collect }),
            ("lost_card", Next { at: at(3 * DAY), action: Action::Remind }),
        ] {
            let rung = on_decline(Some(aside), &decline(code), &rules, &[tried(at(DAY))], at(DAY));
            assert_eq!((rung.mails, rung.next), (vec![], next), "{code}");
            assert_eq!(
                (rung.dunning.step, rung.dunning.aside, rung.dunning.declines),
                (first.dunning.step, None, 2)
            );
        }
        let late = on_decline(Some(aside), &decline("insufficient_funds"), &rules, &[], at(5 * DAY));
        assert_eq!(late.next, Next { at: at(5 * DAY), action: Action::Collect }, "not in the past");
    }

    #[test]
    fn every_ladder_ends() {
        let ladder = Ladder { steps: Vec::new(), finally_after_secs: 0, ..Ladder::default() };
        let rules = Rules::of(&ladder);
        let rung = on_decline(None, &decline("do_not_honor"), &rules, &[tried(at(0))], at(0));
        assert_eq!(rung.next, Next { at: at(0), action: Action::GiveUp });
    }
}
