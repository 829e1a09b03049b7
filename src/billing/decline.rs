//! What a decline means: its class decides whether a machine may try again, or only the customer can help.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What can be done about a decline.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody between Stripe and the issuer was unreachable; the card itself was not refused.
    Technical,
    /// Not enough money, or over a limit, now.
    Funds,
    /// Refused without a reason.
    Generic,
    /// The card's data are wrong or old: the customer must enter a card.
    FixData,
    /// The issuer wants the customer to confirm: only a page can help.
    Authenticate,
    /// Never again with this card.
    Never,
    /// Ours to mend: no customer hears of it.
    Configuration,
}

impl Class {
    /// The word in the database, in metrics and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Technical => "technical",
            Self::Funds => "funds",
            Self::Generic => "generic",
            Self::FixData => "fix_data",
            Self::Authenticate => "authenticate",
            Self::Never => "never",
            Self::Configuration => "configuration",
        }
    }

    /// Reads the word in the database.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        use Class::{Authenticate, Configuration, FixData, Funds, Generic, Never, Technical};
        [Technical, Funds, Generic, FixData, Authenticate, Never, Configuration]
            .into_iter()
            .find(|class| class.as_str() == word)
    }

    /// Whether the same card may be tried again without the customer.
    #[must_use]
    pub fn allows_machine_retry(self) -> bool {
        match self {
            Self::Technical | Self::Funds | Self::Generic => true,
            Self::FixData | Self::Authenticate | Self::Never | Self::Configuration => false,
        }
    }
}

/// A line of `data/decline_codes.csv`.
struct Row {
    /// None: this code alone decides nothing.
    class: Option<Class>,
    stops_series: bool,
    wait: Option<Duration>,
}

/// Whose code it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Stripe's `decline_code`, `code` or `outcome.reason`.
    Code,
    /// Stripe's `advice_code`.
    Advice,
    /// Mastercard's `network_advice_code`.
    Mastercard,
    /// Visa's `network_decline_code`.
    Visa,
}

static TABLE: LazyLock<HashMap<Kind, HashMap<&'static str, Row>>> = LazyLock::new(|| {
    let mut table: HashMap<Kind, HashMap<&'static str, Row>> = HashMap::new();
    let lines = include_str!("../../data/decline_codes.csv").lines();
    for line in lines.filter(|line| !line.starts_with('#')).skip(1) {
        let (kind, code, row) = parse_row(line).expect("data/decline_codes.csv is checked by a test");
        table.entry(kind).or_default().insert(code, row);
    }
    table
});

fn look_up(kind: Kind, code: &str) -> Option<&'static Row> {
    TABLE.get(&kind)?.get(code)
}

fn parse_row(line: &'static str) -> Option<(Kind, &'static str, Row)> {
    let [kind, code, class, effect] = line.split(',').collect::<Vec<_>>().try_into().ok()?;
    let kind = match kind {
        "advice_code" => Kind::Advice,
        "mastercard" => Kind::Mastercard,
        "visa" => Kind::Visa,
        "decline_code" | "error_code" | "outcome_reason" | "other_method" | "own" => Kind::Code,
        _ => return None,
    };
    let class = if class.is_empty() { None } else { Some(Class::parse(class)?) };
    let wait = match effect.strip_prefix("wait ") {
        Some(wait) => Some(hours(wait)?),
        None if ["", "stops_series"].contains(&effect) => None,
        None => return None,
    };
    Some((kind, code, Row { class, stops_series: effect == "stops_series", wait }))
}

/// Reads `72h`.
pub(super) fn hours(text: &str) -> Option<Duration> {
    Some(Duration::from_secs(3600 * text.strip_suffix('h')?.parse::<u64>().ok()?))
}

/// An issuer's (or Stripe's) refusal, as it stands in the 402 or in `last_payment_error`.
/// Fields as in <https://docs.stripe.com/api/errors>.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// `card_declined`, `expired_card`, `authentication_required` and so on.
    pub code: Option<String>,
    /// The finer reason of a card decline.
    pub decline_code: Option<String>,
    /// `try_again_later`, `do_not_try_again` or `confirm_card_data`.
    pub advice_code: Option<String>,
    /// The card network's raw code.
    pub network_decline_code: Option<String>,
    /// The network's two-character advice (Mastercard's MAC).
    pub network_advice_code: Option<String>,
    /// Stripe's sentence, for logs and `explain`.
    pub message: Option<String>,
    /// The PaymentIntent that was declined.
    pub payment_intent: Option<String>,
    /// Stripe's charge (`ch_`) of this try: tells two reports of one decline from two declines.
    pub stripe_charge: Option<String>,
    /// The card's fingerprint, where the answer says it: the key of the networks' limits.
    pub fingerprint: Option<String>,
    /// The card's brand in Stripe's spelling (`visa`), where the answer says it: whose limits they are.
    #[serde(default)]
    pub brand: Option<String>,
}

/// The code of ours for a charge of a customer who has no saved card.
pub const NO_CARD: &str = "no_saved_card";
/// The code of ours for a charge whose card was declined for ever before, for another charge.
pub const REFUSED_BEFORE: &str = "card_refused_before";

impl Decline {
    /// The decline of a charge for which there is no card to try.
    #[must_use]
    pub fn no_card() -> Self {
        Self { code: Some(NO_CARD.into()), ..Self::default() }
    }

    /// The decline of a charge whose card is not tried, because a bank said "never again" of it.
    #[must_use]
    pub fn refused_before(fingerprint: Option<&str>) -> Self {
        Self {
            code: Some(REFUSED_BEFORE.into()),
            fingerprint: fingerprint.map(Into::into),
            ..Self::default()
        }
    }

    /// Whether no card was tried: the code is ours.
    #[must_use]
    pub fn is_untried(&self) -> bool {
        self.code.as_deref().is_some_and(|code| [NO_CARD, REFUSED_BEFORE].contains(&code))
    }

    /// The most telling code, for people and reports.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.decline_code.as_deref().or(self.code.as_deref()).unwrap_or("unknown")
    }

    /// Classifies by the issuer's advice first (it is about this very charge), then by the codes.
    /// Order as in <https://docs.stripe.com/declines/codes>.
    #[must_use]
    pub fn class(&self) -> Class {
        let by_code = self.row().and_then(|row| row.class);
        if let Some(class @ (Class::Authenticate | Class::Configuration)) = by_code {
            return class;
        }
        let class_of = |row: Option<&Row>| row.and_then(|row| row.class);
        let (advice, by_mastercard) = (class_of(self.advice()), class_of(self.mastercards_advice()));
        let by_visa = class_of(self.visas_code());
        if [advice, by_mastercard, by_visa, by_code].contains(&Some(Class::Never)) {
            return Class::Never;
        }
        let telling = by_code.filter(|class| *class != Class::Generic);
        advice.or(by_mastercard).or(telling).or(by_visa).unwrap_or(Class::Generic)
    }

    /// Whether the cardholder withdrew the permission: the whole subscription must stop charging.
    #[must_use]
    pub fn stops_series(&self) -> bool {
        let rows = [self.row(), self.mastercards_advice(), self.visas_code()];
        rows.into_iter().flatten().any(|row| row.stops_series)
    }

    /// Before when the network wants no other try, after this decline at an instant.
    #[must_use]
    pub fn not_before(&self, at: Timestamp) -> Option<Timestamp> {
        at.checked_add(self.mastercards_advice()?.wait?).ok()
    }

    fn advice(&self) -> Option<&'static Row> {
        look_up(Kind::Advice, self.advice_code.as_deref()?)
    }

    fn mastercards_advice(&self) -> Option<&'static Row> {
        look_up(Kind::Mastercard, self.network_advice_code.as_deref()?)
    }

    /// Other networks number their codes differently; of a card nobody knows the brand of, the strictest reading counts.
    fn visas_code(&self) -> Option<&'static Row> {
        // Stripe's own word for a brand that it does not know.
        if self.brand.as_deref().is_some_and(|brand| !["visa", "unknown"].contains(&brand)) {
            return None;
        }
        look_up(Kind::Visa, self.network_decline_code.as_deref()?)
    }

    /// Whether neither code is in the table.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.row().is_none()
    }

    /// The finest known code decides; `card_declined` alone says nothing.
    fn row(&self) -> Option<&'static Row> {
        let codes = [&self.decline_code, &self.code].into_iter().flatten();
        codes.into_iter().find_map(|code| look_up(Kind::Code, code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decline(decline_code: &str, advice: Option<&str>, mac: Option<&str>) -> Decline {
        Decline {
            code: Some("card_declined".into()),
            decline_code: Some(decline_code.into()),
            advice_code: advice.map(Into::into),
            network_advice_code: mac.map(Into::into),
            ..Decline::default()
        }
    }

    #[test]
    fn codes_have_their_class() {
        assert_eq!(decline("insufficient_funds", None, None).class(), Class::Funds);
        assert_eq!(decline("processing_error", None, None).class(), Class::Technical);
        assert_eq!(
            decline("authentication_required", Some("do_not_try_again"), None).class(),
            Class::Authenticate
        );
        assert_eq!(decline("lost_card", None, None).class(), Class::Never);
        assert_eq!(decline("merchant_blacklist", None, None).class(), Class::Configuration);
        let expired = Decline { code: Some("expired_card".into()), ..Decline::default() };
        assert_eq!(expired.class(), Class::FixData);
    }

    #[test]
    fn the_issuers_advice_outranks_the_code() {
        assert_eq!(decline("insufficient_funds", Some("do_not_try_again"), None).class(), Class::Never);
        assert_eq!(decline("do_not_honor", None, Some("03")).class(), Class::Never);
        assert_eq!(decline("do_not_honor", Some("confirm_card_data"), None).class(), Class::FixData);
        assert_eq!(decline("stolen_card", Some("confirm_card_data"), None).class(), Class::Never);
        assert_eq!(decline("insufficient_funds", Some("try_again_later"), Some("24")).class(), Class::Funds);
    }

    #[test]
    fn visas_codes_bind_unless_the_card_is_known_to_be_anothers() {
        let never = |brand: Option<&str>| Decline {
            brand: brand.map(Into::into),
            network_decline_code: Some("14".into()),
            ..decline("generic_decline", None, None)
        };
        for brand in [None, Some("visa"), Some("unknown")] {
            assert_eq!(never(brand).class(), Class::Never, "{brand:?}");
        }
        assert_eq!(never(Some("mastercard")).class(), Class::Generic);
    }

    #[test]
    fn an_unknown_code_is_generic_and_noticed() {
        let unknown = Decline { decline_code: Some("moon_phase".into()), ..Decline::default() };
        assert_eq!((unknown.class(), unknown.is_unknown()), (Class::Generic, true));
        assert!(!decline("moon_phase", None, None).is_unknown(), "card_declined is known");
    }

    #[test]
    fn a_withdrawn_permission_stops_the_series() {
        assert!(decline("revocation_of_all_authorizations", None, None).stops_series());
        assert!(decline("do_not_honor", None, Some("21")).stops_series());
        assert!(!decline("lost_card", None, None).stops_series());
        for (code, stops) in [("R0", true), ("R1", true), ("R3", true), ("R2", false)] {
            let network = Some(code.to_owned());
            let raw = Decline { network_decline_code: network, ..Decline::default() };
            assert_eq!(raw.stops_series(), stops, "{code}");
        }
    }

    #[test]
    fn the_networks_own_advice_outranks_the_code_too() {
        for advice in ["03", "21", "40", "41"] {
            assert_eq!(decline("insufficient_funds", None, Some(advice)).class(), Class::Never, "{advice}");
        }
        assert_eq!(decline("insufficient_funds", None, Some("01")).class(), Class::FixData);
    }

    #[test]
    fn the_reason_is_the_finest_code() {
        assert_eq!(decline("lost_card", None, None).reason(), "lost_card");
        assert_eq!(
            Decline { code: Some("expired_card".into()), ..Decline::default() }.reason(),
            "expired_card"
        );
        assert_eq!(Decline::default().reason(), "unknown");
    }
}
