//! The bank behind a card: it says yes, no, or "ask the holder".

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::cards::Behaviour;
use super::faults::{Effect, duration};
use super::params::Metadata;
use super::payment_methods::PaymentMethod;

/// A charge that the bank is asked about.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// `pm_...`
    pub payment_method: &'a str,
    /// `cus_...`
    pub customer: Option<&'a str>,
    /// The same for the same card number.
    pub fingerprint: &'a str,
    /// `visa`, `mastercard` and so on.
    pub brand: &'a str,
    /// Minor units.
    pub amount: i64,
    /// Lowercase code.
    pub currency: &'a str,
    /// Whether the holder is there and can authenticate.
    pub on_session: bool,
    /// Whether the holder has just authenticated.
    pub authenticated: bool,
    /// The how many-th charge of this card of this customer: 1 is the first.
    pub number: u32,
    /// Unix seconds.
    pub now: i64,
    /// `pi_...`
    pub payment_intent: &'a str,
    /// Of the intent.
    pub metadata: &'a Metadata,
}

/// A bank of your own: it answers, or leaves the answer to the card's table with `None`.
pub type Issuer = Arc<dyn Fn(&Attempt<'_>) -> Option<Verdict> + Send + Sync>;

/// What the bank says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Decline(Decline),
    /// Only if the holder authenticates: off-session that is a decline.
    Authenticate,
    /// The answer comes later.
    Processing {
        /// When.
        after: Duration,
        /// What it is then.
        then: Box<Verdict>,
    },
}

/// Why a charge is declined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decline {
    /// The error's code, mostly `card_declined`.
    pub code: String,
    /// The bank's reason.
    pub decline_code: String,
    /// `try_again_later`, `do_not_try_again` or `confirm_card_data`.
    pub advice_code: Option<String>,
    /// The network's code for the decline.
    pub network_decline_code: Option<String>,
    /// Mastercard's advice; sent for Mastercard cards only.
    pub network_advice_code: Option<String>,
    /// The parameter to blame.
    pub param: Option<String>,
    /// For the customer.
    pub message: String,
    /// Stopped by risk rules before the network saw it.
    pub blocked: bool,
}

static DECLINES: LazyLock<HashMap<String, Decline>> = LazyLock::new(|| {
    let text = include_str!("../../data/sandbox_declines.csv");
    let reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    let rows = reader.into_records().filter_map(Result::ok);
    rows.filter_map(|row| decline_row(&row)).map(|decline| (decline.decline_code.clone(), decline)).collect()
});

fn decline_row(row: &csv::StringRecord) -> Option<Decline> {
    let some = |at: usize| row.get(at).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Decline {
        decline_code: some(0)?,
        code: some(1)?,
        advice_code: some(2),
        network_decline_code: some(3),
        network_advice_code: some(4),
        param: some(5),
        message: some(6)?,
        blocked: false,
    })
}

impl Decline {
    /// The decline with this decline code; an unknown code is a plain decline that carries it.
    #[must_use]
    pub fn of(decline_code: &str) -> Self {
        DECLINES.get(decline_code).cloned().unwrap_or_else(|| Self {
            code: "card_declined".to_owned(),
            decline_code: decline_code.to_owned(),
            advice_code: None,
            network_decline_code: None,
            network_advice_code: None,
            param: None,
            message: "Your card was declined.".to_owned(),
            blocked: false,
        })
    }

    pub(super) fn blocked_by_risk() -> Self {
        Self { blocked: true, network_decline_code: None, advice_code: None, ..Self::of("fraudulent") }
    }
}

/// One step of a card's script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) verdict: Scripted,
    /// What happens to the answer.
    pub(super) effect: Option<Effect>,
    /// The network sends the new card a minute later.
    pub(super) updates: bool,
    /// The card leaves its customer a minute later.
    pub(super) detaches: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scripted {
    Always(Verdict),
    /// Funds only around the 1st and the 15th.
    Payday,
}

/// Reads a script: steps with commas between, `xN` repeats, `+` adds a fault or an effect.
pub(super) fn script(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for part in text.split(',') {
        let mut pieces = part.split('+').map(str::trim);
        let (words, times) = repeated(pieces.next().unwrap_or_default())?;
        let mut step = Step { verdict: verdict(words)?, effect: None, updates: false, detaches: false };
        for piece in pieces {
            match piece {
                "update" => step.updates = true,
                "detach" => step.detaches = true,
                fault => step.effect = Some(Effect::parse(fault)?),
            }
        }
        steps.extend(std::iter::repeat_n(step, times));
    }
    Ok(steps)
}

/// Limit: a longer script is a typing mistake.
const REPEATS_MAX: usize = 1000;

fn repeated(words: &str) -> Result<(&str, usize), String> {
    let Some((start, last)) = words.rsplit_once(' ') else { return Ok((words, 1)) };
    match last.strip_prefix('x').and_then(|digits| digits.parse().ok()) {
        Some(times) if times <= REPEATS_MAX => Ok((start.trim(), times)),
        Some(_) => Err(format!("{words:?} repeats more than {REPEATS_MAX} times")),
        None => Ok((words, 1)),
    }
}

fn verdict(words: &str) -> Result<Scripted, String> {
    let simple = |word: &str| match word {
        "ok" => Verdict::Approve,
        "3ds" => Verdict::Authenticate,
        "blocked" => Verdict::Decline(Decline::blocked_by_risk()),
        code => Verdict::Decline(Decline::of(code)),
    };
    match words.split_whitespace().collect::<Vec<_>>()[..] {
        ["payday"] => Ok(Scripted::Payday),
        [word] => Ok(Scripted::Always(simple(word))),
        ["processing", time, then] => {
            let after = duration(time).ok_or_else(|| format!("{time:?} is not a time such as 3d"))?;
            Ok(Scripted::Always(Verdict::Processing { after, then: Box::new(simple(then)) }))
        }
        _ => Err(format!("{words:?} is no step of a script")),
    }
}

impl Scripted {
    fn at(&self, now: i64) -> Verdict {
        match self {
            Self::Always(verdict) => verdict.clone(),
            Self::Payday if is_payday(now) => Verdict::Approve,
            Self::Payday => Verdict::Decline(Decline::of("insufficient_funds")),
        }
    }
}

fn is_payday(now: i64) -> bool {
    let day = jiff::Timestamp::from_second(now).map_or(1, |at| at.to_zoned(jiff::tz::TimeZone::UTC).day());
    matches!(day, 1..=3 | 15..=17)
}

/// The step of the card's script that this attempt gets; its last one repeats.
pub(super) fn step(card: &PaymentMethod, number: u32) -> Option<&Step> {
    let steps = card.script.as_deref().unwrap_or(&card.kind.script);
    let at = usize::try_from(number.max(1) - 1).unwrap_or(usize::MAX);
    steps.get(at).or_else(|| steps.last())
}

/// What the bank says: its own model first, then the card's script, then the card's table.
pub(super) fn decide(issuer: Option<&Issuer>, card: &PaymentMethod, attempt: &Attempt<'_>) -> Verdict {
    if let Some(verdict) = issuer.and_then(|issuer| issuer(attempt)) {
        return verdict;
    }
    if let Some(step) = step(card, attempt.number) {
        return with_holder(step.verdict.at(attempt.now), attempt);
    }
    let behaviour = if attempt.on_session { card.kind.on_session } else { card.kind.off_session };
    let decline = || Verdict::Decline(card.kind.decline.clone());
    match behaviour {
        Behaviour::Pays if card.is_expired(attempt.now) => Verdict::Decline(Decline::of("expired_card")),
        Behaviour::Pays => Verdict::Approve,
        Behaviour::Declines => decline(),
        Behaviour::Blocked => Verdict::Decline(Decline::blocked_by_risk()),
        Behaviour::AuthenticatesUntilSetUp if card.is_set_up => Verdict::Approve,
        Behaviour::AuthenticatesThenDeclines if attempt.authenticated => decline(),
        Behaviour::Authenticates | Behaviour::AuthenticatesUntilSetUp if attempt.authenticated => {
            Verdict::Approve
        }
        Behaviour::Authenticates
        | Behaviour::AuthenticatesUntilSetUp
        | Behaviour::AuthenticatesThenDeclines => Verdict::Authenticate,
    }
}

/// A demand for authentication is met when the holder is there: the page takes it as done.
fn with_holder(verdict: Verdict, attempt: &Attempt<'_>) -> Verdict {
    match verdict {
        Verdict::Decline(decline)
            if attempt.on_session && decline.decline_code == "authentication_required" =>
        {
            Verdict::Approve
        }
        Verdict::Authenticate if attempt.authenticated => Verdict::Approve,
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_from_words() {
        let steps = script("insufficient_funds x2, ok + no-answer, processing 3d ok").unwrap();
        assert_eq!(steps.len(), 4);
        assert_eq!(steps[1].verdict, Scripted::Always(Verdict::Decline(Decline::of("insufficient_funds"))));
        assert_eq!(steps[2].effect, Some(Effect::NoAnswer { executed: true }));
        assert!(matches!(steps[3].verdict, Scripted::Always(Verdict::Processing { .. })));
        assert!(script("ok + nonsense").is_err() && script("two words").is_err());
    }

    #[test]
    fn paydays_are_the_first_and_the_fifteenth() {
        let january = |day: i64| 1_767_225_600 + (day - 1) * 86_400;
        let paydays: Vec<i64> = (1..=31).filter(|day| is_payday(january(*day))).collect();
        assert_eq!(paydays, [1, 2, 3, 15, 16, 17]);
    }

    #[test]
    fn an_unknown_decline_code_is_carried() {
        let decline = Decline::of("code_of_tomorrow");
        assert_eq!(
            (decline.code.as_str(), decline.decline_code.as_str()),
            ("card_declined", "code_of_tomorrow")
        );
    }
}
