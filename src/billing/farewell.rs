//! Whether a ladder may end a subscription: not before the customer has been told, and had the time they were told of.

use std::time::Duration;

use jiff::Timestamp;

use super::dunning::MailKind;
use super::ladder::{Finally, Ladder};

/// How long the end rests while a mail is still on its way.
const REST: Duration = Duration::from_secs(3600);

/// A mail of a ladder and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which mail.
    pub kind: MailKind,
    /// What the mail server did with it.
    pub fate: Fate,
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits to leave.
    Waiting,
    /// The mail server accepted it.
    Accepted(Timestamp),
    /// It did not leave, or nobody knows whether it did, and it will not be tried again.
    Lost,
}

/// What becomes of a ladder whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It ends.
    Now,
    /// Not before this instant.
    Wait(Timestamp),
    /// The customer does not know: a person must decide.
    Unheard,
}

/// Decides about the end of a ladder from the mails it promised. A last notice counts where there is one, else any mail
/// about the decline. A ladder without mails is silent because the merchant wants it so.
#[must_use]
pub fn farewell(mails: &[Told], ladder: &Ladder, now: Timestamp) -> Farewell {
    if ladder.finally == Finally::Uncollectible || mails.is_empty() {
        return Farewell::Now;
    }
    let last_notice = mails.iter().any(|mail| mail.kind == MailKind::LastNotice);
    let count = || mails.iter().filter(|mail| !last_notice || mail.kind == MailKind::LastNotice);
    let accepted = count().filter_map(|mail| match mail.fate {
        Fate::Accepted(at) => Some(at),
        Fate::Waiting | Fate::Lost => None,
    });
    match accepted.max() {
        Some(told_at) => {
            let after = Duration::from_secs(ladder.finally_after_secs);
            let end = told_at.checked_add(after).unwrap_or(Timestamp::MAX);
            if end <= now { Farewell::Now } else { Farewell::Wait(end) }
        }
        None if count().any(|mail| mail.fate == Fate::Waiting) => {
            Farewell::Wait(now.checked_add(REST).unwrap_or(Timestamp::MAX))
        }
        None => Farewell::Unheard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * DAY).unwrap()
    }

    #[test]
    fn nobody_is_parted_with_who_was_not_told_or_has_time_left() {
        use Fate::{Accepted, Lost, Waiting};
        use MailKind::{LastNotice, PaymentFailed};
        let ladder = Ladder::default();
        let mail = |kind, fate| Told { kind, fate };
        let hour = at(15) + jiff::SignedDuration::from_hours(1);
        for (mails, expected) in [
            (vec![], Farewell::Now),
            (vec![mail(PaymentFailed, Accepted(at(0))), mail(LastNotice, Accepted(at(12)))], Farewell::Now),
            (
                vec![mail(PaymentFailed, Accepted(at(0))), mail(LastNotice, Accepted(at(14)))],
                Farewell::Wait(at(17)),
            ),
            (vec![mail(PaymentFailed, Accepted(at(0))), mail(LastNotice, Waiting)], Farewell::Wait(hour)),
            (vec![mail(PaymentFailed, Accepted(at(0))), mail(LastNotice, Lost)], Farewell::Unheard),
            (vec![mail(PaymentFailed, Accepted(at(0))), mail(PaymentFailed, Lost)], Farewell::Now),
            (vec![mail(PaymentFailed, Lost)], Farewell::Unheard),
        ] {
            assert_eq!(farewell(&mails, &ladder, at(15)), expected, "{mails:?}");
        }
        let goes_on = Ladder { finally: Finally::Uncollectible, ..ladder };
        assert_eq!(farewell(&[mail(LastNotice, Lost)], &goes_on, at(15)), Farewell::Now, "nothing is ended");
    }
}
