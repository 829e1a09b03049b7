//! Amounts and dates as text. English only; the seam behind which a locale library can come later.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::billing::money::Money;

/// An amount for people: `$29.00`, `€1,250.00`, `¥3,000`, `CHF 12.50`.
///
/// Symbols are those English readers tell apart (`CA$`, `A$`); other currencies carry their code, with a
/// blank that does not break. Every locale gets English for now.
#[must_use]
pub fn amount(money: Money, _locale: &str) -> String {
    let decimal = money.decimal();
    let (whole, fraction) = decimal.split_once('.').unwrap_or((&decimal, ""));
    // Stripe counts ISK and UGX in hundredths that must be zero; people know no such hundredths.
    let unused = money.currency().multiple() == 100 && fraction.bytes().all(|b| b == b'0');
    let number = match fraction {
        "" => group(whole),
        _ if unused => group(whole),
        fraction => format!("{}.{fraction}", group(whole)),
    };
    match symbol(money.currency().code()) {
        Some(symbol) => format!("{symbol}{number}"),
        None => format!("{}\u{a0}{number}", money.currency()),
    }
}

fn group(whole: &str) -> String {
    let mut grouped = String::with_capacity(whole.len() + whole.len() / 3);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// As the Unicode locale data have them for English.
fn symbol(code: &str) -> Option<&'static str> {
    Some(match code {
        "usd" => "$",
        "eur" => "€",
        "gbp" => "£",
        "jpy" => "¥",
        "inr" => "₹",
        "krw" => "₩",
        "ils" => "₪",
        "php" => "₱",
        "vnd" => "₫",
        "aud" => "A$",
        "brl" => "R$",
        "cad" => "CA$",
        "cny" => "CN¥",
        "hkd" => "HK$",
        "mxn" => "MX$",
        "nzd" => "NZ$",
        "twd" => "NT$",
        _ => return None,
    })
}

/// A date for people in the customer's time zone: `November 21, 2025`, in British and kindred English `21 November 2025`.
#[must_use]
pub fn date(at: Timestamp, zone: &TimeZone, locale: &str) -> String {
    let american = matches!(locale, "en" | "en-US") || !locale.starts_with("en");
    let pattern = if american { "%B %-d, %Y" } else { "%-d %B %Y" };
    at.to_zoned(zone.clone()).strftime(pattern).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        amount(text.parse().unwrap(), "en").replace('\u{a0}', "~")
    }

    #[test]
    fn amounts_read_like_amounts() {
        assert_eq!(shown("29.00 USD"), "$29.00");
        assert_eq!(shown("0.50 USD"), "$0.50");
        assert_eq!(shown("1250.00 EUR"), "€1,250.00");
        assert_eq!(shown("1234567.89 GBP"), "£1,234,567.89");
        assert_eq!(shown("3000 JPY"), "¥3,000");
        assert_eq!(shown("12.50 CHF"), "CHF~12.50");
        assert_eq!(shown("5.120 KWD"), "KWD~5.120");
        assert_eq!(shown("500 ISK"), "ISK~500");
        assert_eq!(shown("100 CAD"), "CA$100.00");
    }

    #[test]
    fn dates_are_those_of_the_customers_zone() {
        let at: Timestamp = "2025-11-21T23:30:00Z".parse().unwrap();
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(date(at, &TimeZone::UTC, "en"), "November 21, 2025");
        assert_eq!(date(at, &tokyo, "en-US"), "November 22, 2025");
        assert_eq!(date(at, &TimeZone::UTC, "en-GB"), "21 November 2025");
        assert_eq!(date(at, &TimeZone::UTC, "de-AT"), "November 21, 2025");
    }
}
