//! Money in Stripe's minor units, and the currencies Stripe charges in.
//!
//! Amounts are `i64` minor units with their currency; no float comes near them. The currency table is
//! `data/currencies.csv` and follows <https://docs.stripe.com/currencies>, which differs from ISO 4217
//! (5 ISK is `500` at Stripe).

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// Limit: Stripe takes card amounts of at most 12 digits; larger ones are a typing mistake.
pub const AMOUNT_MINOR_MAX: i64 = 999_999_999_999;

#[derive(Debug, PartialEq, Eq)]
struct CurrencyFacts {
    code: &'static str,
    exponent: u32,
    multiple: i64,
    min_minor: Option<i64>,
}

static CURRENCIES: LazyLock<HashMap<&'static str, CurrencyFacts>> = LazyLock::new(|| {
    include_str!("../../data/currencies.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .skip(1)
        .map(|line| {
            let facts = parse_row(line).expect("data/currencies.csv is checked by a test");
            (facts.code, facts)
        })
        .collect()
});

fn parse_row(line: &'static str) -> Option<CurrencyFacts> {
    let mut fields = line.split(',');
    Some(CurrencyFacts {
        code: fields.next()?,
        exponent: fields.next()?.parse().ok()?,
        multiple: fields.next()?.parse().ok()?,
        min_minor: fields.next()?.parse().ok(),
    })
}

/// A currency that Stripe charges in.
#[derive(Clone, Copy)]
pub struct Currency(&'static CurrencyFacts);

impl Currency {
    /// Every currency of the table, in no particular order.
    pub fn all() -> impl Iterator<Item = Self> {
        CURRENCIES.values().map(Currency)
    }

    /// The code as Stripe takes it: three lowercase letters.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code
    }

    /// How many decimals Stripe's minor unit has (0, 2 or 3).
    #[must_use]
    pub fn exponent(self) -> u32 {
        self.0.exponent
    }

    /// An amount in minor units must be a multiple of this (100 for ISK and UGX, 10 for three-decimal currencies).
    #[must_use]
    pub fn multiple(self) -> i64 {
        self.0.multiple
    }

    /// The smallest charge in minor units, where Stripe publishes one.
    #[must_use]
    pub fn min_minor(self) -> Option<i64> {
        self.0.min_minor
    }
}

impl PartialEq for Currency {
    fn eq(&self, other: &Self) -> bool {
        self.0.code == other.0.code
    }
}
impl Eq for Currency {}
impl std::hash::Hash for Currency {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.code.hash(state);
    }
}
impl PartialOrd for Currency {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Currency {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.code.cmp(other.0.code)
    }
}
impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code)
    }
}
impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.code.to_ascii_uppercase())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        CURRENCIES
            .get(code.to_ascii_lowercase().as_str())
            .map(Currency)
            .ok_or_else(|| MoneyError::UnknownCurrency(code.to_owned()))
    }
}

/// An amount of one currency, in Stripe's minor units. Never negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why a text or a number is not an amount Stripe would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code is not in Stripe's table.
    #[error("{0:?} is not a currency that Stripe charges in; use a three-letter code such as USD")]
    UnknownCurrency(String),
    /// Not of the form `29.00 USD`.
    #[error("{0:?} is not an amount; write it as a decimal and a currency, such as \"29.00 USD\"")]
    Malformed(String),
    /// More decimals than the currency has.
    #[error("{text:?} has more decimals than {currency} takes ({decimals})")]
    TooManyDecimals {
        /// What was written.
        text: String,
        /// The currency it was written in.
        currency: Currency,
        /// How many decimals that currency has.
        decimals: u32,
    },
    /// Not a multiple of the currency's step.
    #[error("{minor} minor units of {currency} is not a multiple of {multiple}, which Stripe asks for")]
    NotAMultiple {
        /// The amount in minor units.
        minor: i64,
        /// Its currency.
        currency: Currency,
        /// The step.
        multiple: i64,
    },
    /// Below Stripe's minimum, above its maximum, or below zero.
    #[error("{amount} is outside what Stripe takes ({min} to {max})")]
    OutOfRange {
        /// The amount as text.
        amount: String,
        /// The smallest, with its currency.
        min: Money,
        /// The largest.
        max: Money,
    },
    /// Arithmetic left the range of amounts.
    #[error("the amount is too large to compute with")]
    Overflow,
}

impl Money {
    /// An amount from minor units, as Stripe's API gives them.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] below zero or above twelve digits. Stripe's minimum is not checked here,
    /// since a total may be zero: see [`Money::chargeable`].
    pub fn from_minor(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        if (0..=AMOUNT_MINOR_MAX).contains(&minor) {
            return Ok(Self { minor, currency });
        }
        let bound = |minor| Self { minor, currency };
        let (min, max) = (bound(0), bound(AMOUNT_MINOR_MAX));
        Err(MoneyError::OutOfRange { amount: format!("{minor} {currency} in minor units"), min, max })
    }

    /// Minor units: cents for USD, yen for JPY.
    #[must_use]
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// `self` times a quantity.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`] above twelve digits.
    pub fn times(self, quantity: i64) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_mul(quantity).ok_or(MoneyError::Overflow)?;
        Self::from_minor(minor, self.currency).map_err(|_| MoneyError::Overflow)
    }

    /// Checks that Stripe would take this as a charge: minimum, maximum and step of the currency.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`] or [`MoneyError::NotAMultiple`].
    pub fn chargeable(self) -> Result<Self, MoneyError> {
        let bound = |minor| Self { minor, ..self };
        let (min, max) = (bound(self.currency.min_minor().unwrap_or(1)), bound(AMOUNT_MINOR_MAX));
        if self.minor < min.minor {
            return Err(MoneyError::OutOfRange { amount: self.to_string(), min, max });
        }
        let multiple = self.currency.multiple();
        if self.minor % multiple != 0 {
            return Err(MoneyError::NotAMultiple { minor: self.minor, currency: self.currency, multiple });
        }
        Ok(self)
    }

    /// The decimal text without the currency: `29.00`.
    #[must_use]
    pub fn decimal(self) -> String {
        let exponent = self.currency.exponent();
        if exponent == 0 {
            return self.minor.to_string();
        }
        let unit = 10_i64.pow(exponent);
        format!("{}.{:0width$}", self.minor / unit, self.minor % unit, width = exponent as usize)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads `29.00 USD`. Signs, separators of thousands, exponents and missing currencies are refused.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let malformed = || MoneyError::Malformed(text.to_owned());
        let (number, code) = text.trim().split_once(' ').ok_or_else(malformed)?;
        let currency: Currency = code.trim().parse()?;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(malformed()),
            None => (number, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(malformed());
        }
        let exponent = currency.exponent() as usize;
        if fraction.len() > exponent {
            let decimals = currency.exponent();
            return Err(MoneyError::TooManyDecimals { text: text.to_owned(), currency, decimals });
        }
        let minor: i64 =
            format!("{whole}{fraction:0<exponent$}").parse().map_err(|_| MoneyError::Overflow)?;
        Self::from_minor(minor, currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_follow_stripes_minor_units() {
        assert_eq!(money("29.00 USD").minor(), 2900);
        assert_eq!(money("29 usd").minor(), 2900);
        assert_eq!(money("29.5 USD").minor(), 2950);
        assert_eq!(money("1000 JPY").minor(), 1000);
        assert_eq!(money("5.124 KWD").minor(), 5124);
        // Stripe, unlike ISO 4217, gives ISK and UGX two decimals that must be 00.
        assert_eq!(money("5 ISK").minor(), 500);
        assert_eq!(money("5 UGX").minor(), 500);
    }

    #[test]
    fn a_currency_is_its_code() {
        let (eur, usd) = (money("1 EUR").currency(), money("1 USD").currency());
        assert_eq!((eur.code(), eur.to_string(), format!("{eur:?}")), ("eur", "EUR".into(), "eur".into()));
        assert!(eur < usd && eur != usd, "rows and locks are ordered by code");
        assert!(Currency::all().count() > 100 && Currency::all().any(|one| one == usd));
    }

    #[test]
    fn nothing_is_owed_only_at_zero() {
        assert!(money("0 USD").is_zero());
        assert!(!money("0.01 USD").is_zero());
    }

    #[test]
    fn text_survives_a_round_trip_in_every_currency() {
        for currency in Currency::all() {
            for minor in [0, 1, 99, 100, 101, 123_456_789] {
                let amount = Money::from_minor(minor, currency).unwrap();
                assert_eq!(money(&amount.to_string()), amount);
            }
        }
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in
            ["", "29", "29.00", "USD 29", "-1 USD", "+1 USD", "1,000 USD", "1e3 USD", "29. USD", ".5 USD"]
        {
            assert!(text.parse::<Money>().is_err(), "{text:?} was taken");
        }
        assert!(matches!("1.001 USD".parse::<Money>(), Err(MoneyError::TooManyDecimals { decimals: 2, .. })));
        assert!(matches!("1.5 JPY".parse::<Money>(), Err(MoneyError::TooManyDecimals { decimals: 0, .. })));
        assert!(matches!("1 XXX".parse::<Money>(), Err(MoneyError::UnknownCurrency(_))));
        assert!("9999999999999.00 USD".parse::<Money>().is_err());
    }

    #[test]
    fn stripes_minimum_and_step_are_checked() {
        assert!(money("0.50 USD").chargeable().is_ok());
        assert!(money("0.49 USD").chargeable().is_err());
        assert!(money("0 JPY").chargeable().is_err());
        assert!(matches!(
            money("5.50 ISK").chargeable(),
            Err(MoneyError::NotAMultiple { multiple: 100, .. })
        ));
        assert!(matches!(
            money("5.125 BHD").chargeable(),
            Err(MoneyError::NotAMultiple { multiple: 10, .. })
        ));
    }

    #[test]
    fn multiplication_is_checked() {
        assert_eq!(money("29.00 USD").times(3).unwrap(), money("87.00 USD"));
        assert_eq!(money("29.00 USD").times(i64::MAX), Err(MoneyError::Overflow));
    }
}
