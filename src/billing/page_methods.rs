//! What our payment page offers besides the card, for each currency. Off-session nothing but cards is charged.

use std::collections::BTreeMap;

use super::money::Currency;
use crate::nearest::nearest;

/// A row of `data/page_methods.csv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageMethod {
    /// Stripe's name.
    pub name: &'static str,
    /// Lowercase codes of the currencies it pays in.
    pub currencies: Vec<&'static str>,
}

impl PageMethod {
    /// Every method that we know, in the order of their names.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let lines = include_str!("../../data/page_methods.csv").lines();
        let rows = lines.filter(|line| !line.starts_with('#')).skip(1);
        rows.map(|row| parse_row(row).expect("data/page_methods.csv is checked by a test")).collect()
    }
}

fn parse_row(line: &'static str) -> Option<PageMethod> {
    let [name, currencies, _source] = line.split(',').collect::<Vec<_>>().try_into().ok()?;
    let currencies: Vec<&str> = currencies.split(' ').collect();
    let known = currencies.iter().all(|code| code.parse::<Currency>().is_ok());
    known.then_some(PageMethod { name, currencies })
}

/// The methods that the merchant wants on the page besides the card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageMethods(BTreeMap<Currency, Vec<&'static str>>);

impl PageMethods {
    /// Those for a currency, in the order given; none where nothing was said.
    #[must_use]
    pub fn of(&self, currency: Currency) -> &[&'static str] {
        self.0.get(&currency).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds methods for a currency.
    ///
    /// # Errors
    /// A sentence for the operator: the method is not known, or does not pay in this currency.
    pub fn offer(&mut self, currency: Currency, names: &[String]) -> Result<(), String> {
        let known = PageMethod::all();
        for name in names {
            if name == "card" {
                return Err("cards are always offered; name the methods besides them".into());
            }
            let Some(method) = known.iter().find(|one| one.name == name) else {
                let names: Vec<&str> = known.iter().map(|one| one.name).collect();
                return Err(unknown(name, &names));
            };
            if !method.currencies.contains(&currency.code()) {
                let codes = method.currencies.join(", ");
                return Err(format!("{name} does not pay in {currency}, only in {}", codes.to_uppercase()));
            }
            let offered = self.0.entry(currency).or_default();
            if !offered.contains(&method.name) {
                offered.push(method.name);
            }
        }
        Ok(())
    }

    /// Each currency with what it is offered.
    pub fn iter(&self) -> impl Iterator<Item = (Currency, &[&'static str])> {
        self.0.iter().map(|(currency, names)| (*currency, names.as_slice()))
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known, 0.6) {
        Some(near) => format!("`{name}` is not a method for the payment page; did you mean `{near}`?"),
        None => format!("`{name}` is not a method for the payment page; known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_understood() {
        let all = PageMethod::all();
        assert!(all.is_sorted_by(|one, next| one.name < next.name), "{all:?}");
        let sepa = all.iter().find(|one| one.name == "sepa_debit").unwrap();
        assert_eq!(sepa.currencies, ["eur"]);
    }

    #[test]
    fn only_what_pays_in_a_currency_is_offered_in_it() {
        let mut offered = PageMethods::default();
        let [eur, usd] = ["eur", "USD"].map(|code| code.parse::<Currency>().unwrap());
        offered.offer(eur, &["sepa_debit".into(), "ideal".into(), "sepa_debit".into()]).unwrap();
        assert_eq!((offered.of(eur), offered.of(usd)), (&["sepa_debit", "ideal"][..], &[][..]));
        for (name, why) in [
            ("sepa_debit", "sepa_debit does not pay in USD, only in EUR"),
            ("us_bank", "`us_bank` is not a method for the payment page; did you mean `us_bank_account`?"),
            ("card", "cards are always offered; name the methods besides them"),
        ] {
            assert_eq!(offered.offer(usd, &[name.into()]), Err(why.to_owned()));
        }
        assert!(
            offered.offer(usd, &["zzz".into()]).unwrap_err().contains("known: au_becs_debit, bacs_debit")
        );
    }
}
