//! The bodies and queries Stripe takes: `application/x-www-form-urlencoded` with brackets for nesting.
//!
//! Parameters keep the order in which they are added, so the same input gives the same bytes: an idempotency
//! key may only ever be sent with one body. <https://docs.stripe.com/api/idempotent_requests>

use form_urlencoded::byte_serialize;
use jiff::Timestamp;

use super::error::{Error, Rejection};

/// A form under construction.
#[derive(Default)]
pub(super) struct Form(String);

impl Form {
    pub(super) fn new() -> Self {
        Self(String::with_capacity(1024))
    }

    /// Adds `name=value`. The name is a literal of this crate and holds its brackets as they are.
    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.begin(name);
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
        self
    }

    pub(super) fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds `name=value` for every value.
    pub(super) fn texts(self, name: &str, values: &[&str]) -> Self {
        values.iter().fold(self, |form, value| form.text(name, value))
    }

    pub(super) fn number(mut self, name: &str, value: i64) -> Self {
        self.begin(name);
        self.0.push('=');
        self.0.push_str(&value.to_string());
        self
    }

    /// Unix seconds.
    pub(super) fn instant(self, name: &str, value: Option<Timestamp>) -> Self {
        match value {
            Some(value) => self.number(name, value.as_second()),
            None => self,
        }
    }

    /// Adds `name[key]=value` for every pair, in the order given.
    pub(super) fn metadata(mut self, name: &str, pairs: &[(&str, &str)]) -> Self {
        for (key, value) in pairs {
            self.begin(name);
            self.0.push('[');
            self.0.extend(byte_serialize(key.as_bytes()));
            self.0.push_str("]=");
            self.0.extend(byte_serialize(value.as_bytes()));
        }
        self
    }

    fn begin(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
    }

    pub(super) fn encode(self) -> String {
        self.0
    }
}

/// The id of an object as part of a path.
///
/// Ids also come from outside (a browser returns with a session id in its URL), and an empty one would turn
/// "read one" into "list all": only what looks like an id is let through.
pub(super) fn checked_id(id: &str) -> Result<&str, Error> {
    const LENGTH_MAX: usize = 255;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !id.is_empty() && id.len() <= LENGTH_MAX && id.bytes().all(plain) {
        return Ok(id);
    }
    Err(Rejection::of_ours("invalid_id", "an id is made of letters, digits and underscores").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_once_and_keep_their_order() {
        let form = Form::new()
            .text("success_url", "https://m.example/done?session={CHECKOUT_SESSION_ID}&x=1")
            .number("amount", 1099)
            .metadata("metadata", &[("recurd_charge", "ü & [1]"), ("a", "")])
            .maybe("description", None)
            .text("expand[]", "latest_charge");
        assert_eq!(
            form.encode(),
            "success_url=https%3A%2F%2Fm.example%2Fdone%3Fsession%3D%7BCHECKOUT_SESSION_ID%7D%26x%3D1\
             &amount=1099&metadata[recurd_charge]=%C3%BC+%26+%5B1%5D&metadata[a]=&expand[]=latest_charge"
        );
    }

    #[test]
    fn nothing_but_an_id_gets_into_a_path() {
        assert_eq!(checked_id("pi_3Fixture-1").unwrap(), "pi_3Fixture-1");
        for bad in ["", "pi_1/../customers", "pi_1?expand[]=x", "pi 1", "ü", &"x".repeat(256)] {
            assert!(checked_id(bad).is_err(), "{bad:?}");
        }
    }
}
