//! The cards: Stripe's test cards and those only the sandbox has, by token and by number.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::issuer::{Decline, Step, script};

/// What a card does when it is used in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Pays,
    Declines,
    /// Stopped before the network.
    Blocked,
    Authenticates,
    /// Asks for authentication until the card was set up with it.
    AuthenticatesUntilSetUp,
    AuthenticatesThenDeclines,
}

/// One row of the tables of cards.
#[derive(Debug)]
pub(super) struct CardKind {
    /// Empty for a card that is only known by its number.
    pub(super) token: String,
    /// Of a bank account its IBAN.
    pub(super) number: String,
    pub(super) brand: String,
    pub(super) country: String,
    pub(super) funding: String,
    pub(super) attaches: bool,
    pub(super) on_setup: Behaviour,
    pub(super) off_session: Behaviour,
    pub(super) on_session: Behaviour,
    pub(super) decline: Decline,
    /// Besides: `dispute:fraudulent`, `refund_fails` and so on.
    pub(super) effect: String,
    /// Steps of charges, one after another; empty for Stripe's own cards.
    pub(super) script: Vec<Step>,
    /// In words, for the sandbox's own cards.
    pub(super) meaning: String,
}

/// Bank debits that the Checkout page takes, in Stripe's spelling.
pub(super) const SEPA_DEBIT: &str = "sepa_debit";
/// A transfer that the customer authorises on a page of the bank, in Stripe's spelling.
pub(super) const IDEAL: &str = "ideal";
/// What a payment by iDEAL is made with: nothing is typed for it.
pub(super) const IDEAL_TOKEN: &str = "pm_sandbox_ideal";

impl CardKind {
    /// `card`, a debit of a bank account, or iDEAL.
    pub(super) fn method(&self) -> &'static str {
        match self.brand.as_str() {
            SEPA_DEBIT => SEPA_DEBIT,
            IDEAL => IDEAL,
            _ => "card",
        }
    }
}

fn is_iban(number: &str) -> bool {
    number.starts_with(|first: char| first.is_ascii_alphabetic())
}

static KINDS: LazyLock<Vec<CardKind>> = LazyLock::new(|| {
    let stripe =
        rows(include_str!("../../data/test_payment_methods.csv")).filter_map(|row| stripe_card(&row));
    let own = rows(include_str!("../../data/sandbox_payment_methods.csv")).filter_map(|row| own_card(&row));
    stripe.chain(own).collect()
});

static BY_TOKEN: LazyLock<HashMap<&str, &CardKind>> = LazyLock::new(|| {
    KINDS.iter().filter(|kind| !kind.token.is_empty()).map(|kind| (kind.token.as_str(), kind)).collect()
});

/// The table's rows; a test reads all of them, so a broken row is found there.
fn rows(text: &'static str) -> impl Iterator<Item = csv::StringRecord> {
    let reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    reader.into_records().filter_map(Result::ok)
}

fn stripe_card(row: &csv::StringRecord) -> Option<CardKind> {
    let text = |at: usize| row.get(at).map(str::to_owned);
    let mut decline = Decline::of(row.get(10).filter(|code| !code.is_empty()).unwrap_or("generic_decline"));
    decline.advice_code = text(11).filter(|code| !code.is_empty());
    Some(CardKind {
        token: text(0)?,
        number: text(1)?,
        brand: text(2)?,
        country: text(3)?,
        funding: text(4)?,
        attaches: row.get(5)? == "ok",
        on_setup: behaviour(row.get(6)?)?,
        off_session: behaviour(row.get(7)?)?,
        on_session: behaviour(row.get(8)?)?,
        decline,
        effect: text(13)?,
        script: Vec::new(),
        meaning: String::new(),
    })
}

fn own_card(row: &csv::StringRecord) -> Option<CardKind> {
    let number = row.get(1)?;
    let (brand, country) = match number.get(..2) {
        Some(country) if is_iban(number) => (SEPA_DEBIT, country),
        _ if row.get(0)? == IDEAL_TOKEN => (IDEAL, "NL"),
        _ => ("visa", "US"),
    };
    Some(CardKind {
        token: row.get(0)?.to_owned(),
        number: number.to_owned(),
        brand: brand.to_owned(),
        country: country.to_owned(),
        funding: "credit".to_owned(),
        attaches: true,
        on_setup: Behaviour::Pays,
        off_session: Behaviour::Pays,
        on_session: Behaviour::Pays,
        decline: Decline::of("generic_decline"),
        effect: String::new(),
        script: script(row.get(2)?).ok()?,
        meaning: row.get(3)?.to_owned(),
    })
}

fn behaviour(word: &str) -> Option<Behaviour> {
    Some(match word {
        "ok" => Behaviour::Pays,
        "declined" => Behaviour::Declines,
        "blocked" => Behaviour::Blocked,
        "3ds" => Behaviour::Authenticates,
        "after_setup" => Behaviour::AuthenticatesUntilSetUp,
        "3ds_declined" => Behaviour::AuthenticatesThenDeclines,
        _ => return None,
    })
}

/// The card behind a token: `pm_card_visa`, `tok_visa`, or a token and a name, `pm_card_visa_bob`.
pub(super) fn by_token(text: &str) -> Option<&'static CardKind> {
    if let Some(kind) = BY_TOKEN.get(text) {
        return Some(kind);
    }
    if let Some(rest) = text.strip_prefix("tok_") {
        return BY_TOKEN.get(format!("pm_card_{rest}").as_str()).copied();
    }
    let mut start = text;
    while let Some((shorter, _)) = start.rsplit_once('_') {
        if let Some(kind) = BY_TOKEN.get(shorter) {
            return Some(kind);
        }
        start = shorter;
    }
    None
}

/// Whether the text is a token itself, which makes a new card each time it is used.
pub(super) fn is_token(text: &str) -> bool {
    text.starts_with("tok_") || BY_TOKEN.contains_key(text)
}

/// The card with this number.
pub(super) fn by_number(number: &str) -> Option<&'static CardKind> {
    KINDS.iter().find(|kind| kind.number == number)
}

/// The cards only the sandbox has.
pub(super) fn own() -> impl Iterator<Item = &'static CardKind> {
    KINDS.iter().filter(|kind| !kind.script.is_empty())
}

/// Luhn's check of a number's last digit.
pub(super) fn passes_luhn(number: &str) -> bool {
    let digits = number.bytes().rev().filter(u8::is_ascii_digit).map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The check digits of an IBAN (ISO 13616).
pub(super) fn passes_97(iban: &str) -> bool {
    let Some((start, rest)) = iban.split_at_checked(4).filter(|_| iban.is_ascii()) else { return false };
    let mut digits = rest.chars().chain(start.chars()).map(|digit| digit.to_digit(36));
    let rest = digits.try_fold(0_u32, |rest, digit| {
        let digit = digit?;
        Some((rest * if digit > 9 { 100 } else { 10 } + digit) % 97)
    });
    rest == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> usize {
        text.lines().filter(|line| !line.starts_with('#')).count() - 1
    }

    #[test]
    fn every_row_of_both_tables_is_understood() {
        let rows = lines(include_str!("../../data/test_payment_methods.csv"))
            + lines(include_str!("../../data/sandbox_payment_methods.csv"));
        assert_eq!(KINDS.len(), rows);
        for kind in KINDS.iter().filter(|kind| !kind.number.is_empty()) {
            let passes = if kind.method() == "card" { passes_luhn } else { passes_97 };
            assert!(passes(&kind.number), "{}", kind.number);
        }
    }

    #[test]
    fn a_token_can_carry_a_name() {
        assert_eq!(by_token("pm_card_chargeCustomerFail_bob").unwrap().token, "pm_card_chargeCustomerFail");
        assert_eq!(by_token("tok_visa").unwrap().token, "pm_card_visa");
        assert_eq!(by_token("pm_card_sandbox_payday_a_b").unwrap().token, "pm_card_sandbox_payday");
        assert!(by_token("pm_1abc").is_none());
    }
}
