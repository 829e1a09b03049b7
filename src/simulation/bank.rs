//! The banks behind the cards: money by pay day, moods, advice, lost and expired cards, authentication.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::rng::Rng;
use crate::sandbox::{Attempt, Decline, Issuer, Verdict};

const HOUR: u64 = 3600;
const DAY: i64 = 86_400;

/// How a card behaves.
#[derive(Clone, Debug)]
enum Temper {
    Good,
    /// Money on some days of the month only.
    PayDay(i8),
    /// In so many of 100 cases one of these.
    Moody(u32, &'static [&'static str]),
    /// From then on always this.
    EndsAt(i64, &'static str),
    /// Off-session the bank wants the holder.
    Careful,
    /// The answer takes days.
    Slow(u32),
}

const MOODS: &[&str] =
    &["generic_decline", "do_not_honor", "insufficient_funds", "card_velocity_exceeded", "call_issuer"];
const TROUBLES: &[&str] = &["processing_error", "issuer_not_available", "try_again_later"];
const ENDS: &[&str] = &[
    "lost_card",
    "stolen_card",
    "expired_card",
    "invalid_account",
    "stop_payment_order",
    "code_of_tomorrow",
    "authentication_required",
    "fraudulent",
];
/// Mastercard's advice with the wait it asks for in hours.
const ADVICE: &[(&str, u64)] = &[("24", 1), ("25", 24), ("26", 48), ("27", 96), ("28", 144), ("02", 72)];

/// What a bank asked for with a decline.
#[derive(Clone, Debug)]
pub struct Order {
    /// Unix seconds.
    pub at: i64,
    /// The charge of ours.
    pub charge: String,
    /// The card.
    pub fingerprint: String,
    /// Not before this instant; `None`: never again.
    pub not_before: Option<i64>,
}

/// All banks.
#[derive(Debug)]
pub struct Bank {
    rng: Rng,
    cards: BTreeMap<String, Temper>,
    /// What was asked for, oldest first.
    pub orders: Vec<Order>,
    /// Every card is good from now on.
    pub is_kind: bool,
}

/// Shared with the sandbox, which asks it.
pub type Shared = Arc<Mutex<Bank>>;

impl Bank {
    /// The banks of a seed, and what the sandbox asks.
    #[must_use]
    pub fn new(seed: u64) -> (Shared, Issuer) {
        let bank =
            Self { rng: Rng::new(seed, "bank"), cards: BTreeMap::new(), orders: Vec::new(), is_kind: false };
        let bank = Arc::new(Mutex::new(bank));
        let asked = bank.clone();
        let issuer: Issuer = Arc::new(move |attempt: &Attempt<'_>| {
            Some(asked.lock().unwrap_or_else(PoisonError::into_inner).decide(attempt))
        });
        (bank, issuer)
    }

    fn decide(&mut self, attempt: &Attempt<'_>) -> Verdict {
        if self.is_kind {
            return Verdict::Approve;
        }
        let temper = match self.cards.get(attempt.fingerprint) {
            Some(temper) => temper.clone(),
            None => {
                let temper = self.temper(attempt.now);
                self.cards.insert(attempt.fingerprint.to_owned(), temper.clone());
                temper
            }
        };
        let verdict = self.verdict(&temper, attempt);
        if let Verdict::Decline(decline) = &verdict {
            self.remember(decline, attempt);
        }
        verdict
    }

    fn temper(&mut self, now: i64) -> Temper {
        let rng = &mut self.rng;
        let later = now + rng.between(0, 80) * DAY;
        match rng.below(100) {
            0..40 => Temper::Good,
            40..55 => Temper::PayDay(i8::try_from(rng.between(1, 25)).unwrap_or(1)),
            55..68 => Temper::Moody(u32::try_from(rng.between(10, 90)).unwrap_or(50), MOODS),
            68..75 => Temper::Moody(u32::try_from(rng.between(10, 90)).unwrap_or(50), TROUBLES),
            75..89 => Temper::EndsAt(later, rng.pick::<&str>(ENDS)),
            89..96 => Temper::Careful,
            _ => Temper::Slow(u32::try_from(rng.between(0, 100)).unwrap_or(50)),
        }
    }

    fn verdict(&mut self, temper: &Temper, attempt: &Attempt<'_>) -> Verdict {
        match temper {
            Temper::Good => Verdict::Approve,
            Temper::PayDay(day) if is_after_pay_day(*day, attempt.now) => Verdict::Approve,
            Temper::PayDay(_) => self.decline("insufficient_funds"),
            Temper::Moody(percent, codes) if self.rng.chance(percent * 100) => {
                let code = *self.rng.pick::<&str>(codes);
                self.decline(code)
            }
            Temper::EndsAt(from, code) if attempt.now >= *from => {
                if *code == "authentication_required" && attempt.on_session {
                    return Verdict::Approve;
                }
                Verdict::Decline(Decline::of(code))
            }
            Temper::Moody(..) | Temper::EndsAt(..) => Verdict::Approve,
            Temper::Careful if attempt.authenticated => Verdict::Approve,
            Temper::Careful => Verdict::Authenticate,
            Temper::Slow(percent) => {
                let pays = self.rng.chance(percent * 100);
                let then =
                    if pays { Verdict::Approve } else { Verdict::Decline(Decline::of("generic_decline")) };
                let hours = u64::try_from(self.rng.between(1, 120)).unwrap_or(1);
                Verdict::Processing { after: Duration::from_secs(hours * HOUR), then: Box::new(then) }
            }
        }
    }

    /// A decline, sometimes with the network's advice.
    fn decline(&mut self, code: &str) -> Verdict {
        let mut decline = Decline::of(code);
        if self.rng.chance(2000) {
            let (advice, _) = self.rng.pick(ADVICE);
            decline.network_advice_code = Some((*advice).to_owned());
        }
        if self.rng.chance(200) {
            decline.advice_code = Some("do_not_try_again".to_owned());
            decline.network_advice_code = Some("03".to_owned());
        }
        Verdict::Decline(decline)
    }

    fn remember(&mut self, decline: &Decline, attempt: &Attempt<'_>) {
        let Some(charge) = attempt.metadata.get("recurd_charge") else { return };
        let advice = decline.network_advice_code.as_deref().filter(|_| attempt.brand == "mastercard");
        let wait = advice.and_then(|code| ADVICE.iter().find(|(known, _)| *known == code));
        let never =
            decline.advice_code.as_deref() == Some("do_not_try_again") || matches!(advice, Some("03" | "21"));
        let not_before = match (never, wait) {
            (true, _) => None,
            (false, Some((_, hours))) => Some(attempt.now + i64::try_from(hours * HOUR).unwrap_or(0)),
            (false, None) => return,
        };
        let (charge, fingerprint) = (charge.clone(), attempt.fingerprint.to_owned());
        self.orders.push(Order { at: attempt.now, charge, fingerprint, not_before });
    }
}

/// Whether less than ten days have passed since the pay day.
fn is_after_pay_day(day: i8, now: i64) -> bool {
    let today = jiff::Timestamp::from_second(now).map_or(1, |at| at.to_zoned(jiff::tz::TimeZone::UTC).day());
    (today - day).rem_euclid(30) < 10
}
