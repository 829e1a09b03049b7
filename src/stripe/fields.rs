//! What Stripe's fields have in common: open enums, references that may be expanded, text that stays private.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// Metadata of an object: our own ids, sorted by key.
pub type Metadata = BTreeMap<String, String>;

/// Declares an enum of Stripe's that stays open: a value of a later API version parses as `Unknown`.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A value this version does not know: nothing may be concluded from it.
            Unknown(String),
        }

        impl $name {
            /// The value as Stripe writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::stripe::fields::FromText::<Self>::default())
            }
        }
    };
}
pub(super) use open_enum;

/// Reads a JSON string into anything that is made from one.
pub(super) struct FromText<T>(PhantomData<T>);

impl<T> Default for FromText<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: for<'a> From<&'a str>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok(T::from(text))
    }
}

/// An object with an id.
pub trait Identified {
    /// The id, such as `pi_...`.
    fn id(&self) -> &str;
}

/// A reference to another object: its id, or the whole object where it was expanded.
///
/// <https://docs.stripe.com/expand>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expandable<T> {
    /// Not expanded.
    Id(String),
    /// Expanded.
    Object(Box<T>),
}

impl<T: Identified> Expandable<T> {
    /// The id, expanded or not.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Id(id) => id,
            Self::Object(object) => object.id(),
        }
    }
}

impl<T> Expandable<T> {
    /// The object, where it was expanded.
    #[must_use]
    pub fn object(&self) -> Option<&T> {
        match self {
            Self::Id(_) => None,
            Self::Object(object) => Some(object),
        }
    }
}

struct ExpandableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ExpandableVisitor<T> {
    type Value = Expandable<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id or an object")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Self::Value, E> {
        Ok(Expandable::Id(id.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Box::new).map(Expandable::Object)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Expandable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExpandableVisitor(PhantomData))
    }
}

#[derive(serde::Deserialize)]
struct AnyObject {
    id: String,
}

impl Identified for AnyObject {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The id of a reference whose object is of no interest here.
pub(super) fn only_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let reference = Option::<Expandable<AnyObject>>::deserialize(deserializer)?;
    Ok(reference.map(|reference| reference.id().to_owned()))
}

/// `null` stands for the default, as in `"metadata": null`.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Text that no log may show: a mail address, a name, a link that lets its holder pay.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Private(String);

impl From<String> for Private {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Deref for Private {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A message of Stripe's, without anything in it that looks like a key or a card number.
///
/// A 401 quotes part of the key it refused.
pub(super) fn scrubbed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|text| scrub(&text)))
}

pub(super) fn scrub(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            clean.push(' ');
        }
        clean.push_str(if looks_secret(word) { "***" } else { word });
    }
    scrub_long_numbers(&clean)
}

fn looks_secret(word: &str) -> bool {
    ["sk_", "rk_", "pk_", "whsec_", "_secret_"].iter().any(|mark| word.contains(mark))
}

/// Card numbers have 12 to 19 digits, often with blanks or dashes between them.
fn scrub_long_numbers(text: &str) -> String {
    const DIGITS_MIN: usize = 12;
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let tail = &rest[start..];
        let length = tail.find(|c: char| !c.is_ascii_digit() && c != ' ' && c != '-').unwrap_or(tail.len());
        let number = &tail[..length];
        clean.push_str(&rest[..start]);
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        clean.push_str(if digits >= DIGITS_MIN { "***" } else { number });
        rest = &tail[length..];
    }
    clean.push_str(rest);
    clean
}
