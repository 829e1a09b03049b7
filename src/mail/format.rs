//! Amounts and dates as text in the customer's language: numbers and dates by ICU4X, from the Unicode locale data.
//!
//! The library's own currency formatter rounds to the decimals its data have (`HUF 1,235` for 1234.56 forints). A mail
//! must show what is charged, so symbol and pattern stand here, for the languages the mails are written in.

use icu_datetime::FixedCalendarDateTimeFormatter;
use icu_datetime::fieldsets::YMD;
use icu_datetime::input::Date;
use icu_decimal::DecimalFormatter;
use icu_decimal::input::Decimal;
use icu_locale_core::Locale;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::billing::money::{Currency, Money};

/// No line break between number and currency.
const BLANK: char = '\u{a0}';

/// An amount for people: `$1,250.00`, `1.250,00 €`, `1 250,00 €`, `JP¥3,000`, `CHF 12.50`.
///
/// The blank does not break. Currencies without a symbol in that language carry their code.
#[must_use]
pub fn amount(money: Money, locale: &str) -> String {
    let locale = parsed(locale);
    let number = number(money, &locale);
    let (language, region) = parts(&locale);
    let symbol = symbol(money.currency(), language, region);
    let code = money.currency().to_string();
    match (place(language, region), symbol) {
        (Place::Before, Some(symbol)) => format!("{symbol}{number}"),
        (Place::Before | Place::BeforeBlank, None) => format!("{code}{BLANK}{number}"),
        (Place::BeforeBlank, Some(symbol)) => format!("{symbol}{BLANK}{number}"),
        (Place::After, symbol) => format!("{number}{BLANK}{}", symbol.unwrap_or(&code)),
    }
}

/// A date for people in the customer's time zone: `November 21, 2025`, `21. November 2025`, `2025年11月21日`.
#[must_use]
pub fn date(at: Timestamp, zone: &TimeZone, locale: &str) -> String {
    let day = at.to_zoned(zone.clone()).date();
    let month = u8::try_from(day.month()).unwrap_or(1);
    let written = Date::try_new_gregorian(day.year().into(), month, u8::try_from(day.day()).unwrap_or(1));
    let format = FixedCalendarDateTimeFormatter::try_new((&parsed(locale)).into(), YMD::long());
    match (written, format) {
        (Ok(written), Ok(format)) => format.format(&written).to_string(),
        _ => day.to_string(),
    }
}

/// What is no language tag is read as English.
fn parsed(locale: &str) -> Locale {
    Locale::try_from_str(&locale.replace('_', "-")).unwrap_or(icu_locale_core::locale!("en"))
}

fn parts(locale: &Locale) -> (&str, Option<&str>) {
    (locale.id.language.as_str(), locale.id.region.as_ref().map(|region| region.as_str()))
}

/// All the decimals that are charged.
fn number(money: Money, locale: &Locale) -> String {
    let decimal = money.decimal();
    // Stripe counts ISK and UGX in hundredths that must be zero; people know no such hundredths.
    let shown = match decimal.strip_suffix(".00") {
        Some(whole) if money.currency().multiple() == 100 => whole,
        _ => &decimal,
    };
    match (DecimalFormatter::try_new(locale.into(), Default::default()), shown.parse::<Decimal>()) {
        (Ok(format), Ok(number)) => format.format_to_string(&number),
        _ => shown.to_owned(),
    }
}

/// Where a currency stands.
enum Place {
    Before,
    BeforeBlank,
    After,
}

/// As in the Unicode locale data (CLDR 49, `currencyFormats`) for the languages that have mails; others: behind.
fn place(language: &str, region: Option<&str>) -> Place {
    match (language, region) {
        ("en" | "zh", _) => Place::Before,
        ("de", Some("AT" | "CH" | "LI")) => Place::BeforeBlank,
        ("es", Some(region)) if !matches!(region, "ES" | "GQ" | "PH") => Place::Before,
        _ => Place::After,
    }
}

/// As in the Unicode locale data (CLDR 49, `currencies`), for the currencies whose symbol tells them apart.
fn symbol(currency: Currency, language: &str, region: Option<&str>) -> Option<&'static str> {
    if !matches!(language, "en" | "de" | "fr" | "es" | "zh") {
        return None;
    }
    let american = matches!(region, None | Some("US"));
    Some(match (currency.code(), language) {
        ("usd", "en") if american => "$",
        ("usd", "de") => "$",
        ("usd", "fr") => "$US",
        ("usd", _) => "US$",
        ("eur", _) => "€",
        ("gbp", "fr") => "£GB",
        ("gbp", _) => "£",
        ("jpy", "en" | "de") => "¥",
        ("jpy", _) => "JP¥",
        ("cny", "zh") => "¥",
        ("cny", _) => "CN¥",
        ("aud", "fr") => "$AU",
        ("aud", "de" | "zh") => "AU$",
        ("aud", _) => "A$",
        ("cad", "fr") => "$CA",
        ("cad", _) => "CA$",
        ("mxn", "fr") => "$MX",
        ("mxn", _) => "MX$",
        ("nzd", "fr") => "$NZ",
        ("nzd", _) => "NZ$",
        ("inr", _) => "₹",
        ("krw", _) => "₩",
        ("ils", _) => "₪",
        ("php", _) => "₱",
        ("vnd", _) => "₫",
        ("brl", _) => "R$",
        ("hkd", _) => "HK$",
        ("twd", _) => "NT$",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `~` is a blank that does not break, `_` a narrow one.
    fn shown(text: &str, locale: &str) -> String {
        amount(text.parse().unwrap(), locale).replace('\u{a0}', "~").replace('\u{202f}', "_")
    }

    #[test]
    fn amounts_read_like_amounts() {
        assert_eq!(shown("29.00 USD", "en"), "$29.00");
        assert_eq!(shown("0.50 USD", "en-US"), "$0.50");
        assert_eq!(shown("1250.00 EUR", "en"), "€1,250.00");
        assert_eq!(shown("1234567.89 GBP", "en"), "£1,234,567.89");
        assert_eq!(shown("3000 JPY", "en"), "¥3,000");
        assert_eq!(shown("12.50 CHF", "en"), "CHF~12.50");
        assert_eq!(shown("5.120 KWD", "en"), "KWD~5.120");
        assert_eq!(shown("500 ISK", "en"), "ISK~500");
        assert_eq!(shown("100 CAD", "en"), "CA$100.00");
        assert_eq!(shown("29.00 USD", "en-GB"), "US$29.00");
    }

    #[test]
    fn amounts_are_written_as_in_each_language() {
        let all = |text| ["de", "fr", "es", "zh"].map(|locale| shown(text, locale));
        assert_eq!(all("1250.00 EUR"), ["1.250,00~€", "1_250,00~€", "1250,00~€", "€1,250.00"]);
        assert_eq!(all("12500.00 USD"), ["12.500,00~$", "12_500,00~$US", "12.500,00~US$", "US$12,500.00"]);
        assert_eq!(all("3000 JPY"), ["3.000~¥", "3_000~JP¥", "3000~JP¥", "JP¥3,000"]);
        assert_eq!(all("5.120 KWD"), ["5,120~KWD", "5,120~KWD", "5,120~KWD", "KWD~5.120"]);
        assert_eq!(all("500 UGX"), ["500~UGX", "500~UGX", "500~UGX", "UGX~500"]);
        assert_eq!(all("88.00 CNY"), ["88,00~CN¥", "88,00~CN¥", "88,00~CN¥", "¥88.00"]);
    }

    #[test]
    fn regions_have_their_own_way() {
        assert_eq!(shown("12.50 CHF", "de-CH"), "CHF~12.50");
        assert_eq!(shown("12.50 EUR", "de_AT"), "€~12,50");
        assert_eq!(shown("12500.00 MXN", "es-MX"), "MX$12,500.00");
        assert_eq!(shown("12.50 EUR", "it"), "12,50~EUR");
        assert_eq!(shown("12.50 EUR", "no language"), "€12.50");
    }

    #[test]
    fn no_decimal_that_is_charged_is_left_out() {
        for currency in Currency::all() {
            let money = Money::from_minor(currency.multiple() * 123_400, currency).unwrap();
            let digits: String =
                shown(&money.to_string(), "de").chars().filter(char::is_ascii_digit).collect();
            let charged: String = money.decimal().chars().filter(char::is_ascii_digit).collect();
            let hundredths = if currency.multiple() == 100 { "00" } else { "" };
            assert_eq!(format!("{digits}{hundredths}"), charged, "{currency}");
        }
    }

    #[test]
    fn dates_are_those_of_the_customers_zone() {
        let at: Timestamp = "2025-11-21T23:30:00Z".parse().unwrap();
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(date(at, &TimeZone::UTC, "en"), "November 21, 2025");
        assert_eq!(date(at, &tokyo, "en-US"), "November 22, 2025");
        assert_eq!(date(at, &TimeZone::UTC, "en-GB"), "21 November 2025");
        assert_eq!(date(at, &TimeZone::UTC, "de-AT"), "21. November 2025");
        assert_eq!(date(at, &TimeZone::UTC, "fr"), "21 novembre 2025");
        assert_eq!(date(at, &TimeZone::UTC, "es-MX"), "21 de noviembre de 2025");
        assert_eq!(date(at, &tokyo, "zh-CN"), "2025年11月22日");
        assert_eq!(date(at, &TimeZone::UTC, ""), "November 21, 2025");
    }
}
