//! `[dunning]`: one ladder, and others by plan and by class of the first decline. Of each key the most particular place
//! that has it counts: the plan's class, the plan, the class, the whole.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ConfigError;
use super::raw::{RawConfig, RawDunning, RawStep};
use super::validate::{NOT_A_WINDOW, Place, weekday, window};
use crate::billing::decline::Class;
use crate::billing::ladder::{Ladder, LadderStep, Slot};
use crate::billing::retry::{self, RetryPolicy};

/// Limit: a ladder longer than this would outlive its own network windows.
const STEPS_MAX: usize = 20;

/// What happens after a decline.
#[derive(Clone, Debug, Serialize)]
pub struct Dunning {
    /// For charges of plans that have none of their own, and for one-off charges.
    pub all: Ladders,
    /// For the charges of a plan.
    pub plans: BTreeMap<String, Ladders>,
    /// Who chooses the instants of retries.
    #[serde(serialize_with = "name")]
    pub retry: &'static dyn RetryPolicy,
    /// Whose choices are only logged.
    #[serde(serialize_with = "name_if_any")]
    pub shadow: Option<&'static dyn RetryPolicy>,
    /// Whether another saved card is tried once when there is no retry left for the declined one.
    pub backup_card: bool,
}

/// The ladder, and those for other classes of the first decline.
#[derive(Clone, Debug, Serialize)]
pub struct Ladders {
    /// Where no class has its own.
    pub ladder: Ladder,
    /// By class.
    pub classes: BTreeMap<Class, Ladder>,
}

impl Ladders {
    /// The ladder for a class.
    #[must_use]
    pub fn of(&self, class: Class) -> &Ladder {
        self.classes.get(&class).unwrap_or(&self.ladder)
    }
}

impl Dunning {
    /// The ladder of a plan's charge whose first decline is of this class.
    #[must_use]
    pub fn of(&self, plan: &str, class: Class) -> &Ladder {
        self.plans.get(plan).unwrap_or(&self.all).of(class)
    }
}

fn name<S: serde::Serializer>(policy: &&'static dyn RetryPolicy, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(policy.name())
}

fn name_if_any<S: serde::Serializer>(
    policy: &Option<&'static dyn RetryPolicy>,
    to: S,
) -> Result<S::Ok, S::Error> {
    policy.map(RetryPolicy::name).serialize(to)
}

/// A place that may have some of a ladder's keys, and its name.
type Layer<'a> = (String, &'a RawDunning);

pub(super) fn dunning(raw: &RawConfig, place: &Place<'_>) -> Result<Dunning, ConfigError> {
    let whole = &raw.dunning;
    let all = ladders(&[("dunning".to_owned(), whole)], place)?;
    let mut plans = BTreeMap::new();
    for (name, plan) in &raw.plans {
        let own = (format!("plans.{name}.dunning"), &plan.dunning);
        not_here(&own, place, only_of_the_whole(&plan.dunning))?;
        plans.insert(name.clone(), ladders(&[own, ("dunning".to_owned(), whole)], place)?);
    }
    // Most plans have none of their own; the whole's ladders speak for them.
    plans.retain(|_, own: &mut Ladders| own.ladder != all.ladder || own.classes != all.classes);
    let named = |key: &str, text: &str| {
        retry::named(text).ok_or_else(|| place.wrong(key, "write \"ladder\" or \"stripe_advice\""))
    };
    Ok(Dunning {
        all,
        plans,
        retry: named("dunning.retry", whole.retry.as_deref().unwrap_or("ladder"))?,
        shadow: match whole.shadow.as_deref().unwrap_or_default() {
            "" => None,
            text => Some(named("dunning.shadow", text)?),
        },
        backup_card: whole.backup_card.unwrap_or(false),
    })
}

/// `layers`: the more particular first.
fn ladders(layers: &[Layer<'_>], place: &Place<'_>) -> Result<Ladders, ConfigError> {
    let ladder = ladder(layers, place)?;
    let mut classes = BTreeMap::new();
    for (key, layer) in layers {
        for (&class, raw) in &layer.classes {
            let own = format!("{key}.classes.{}", class.as_str());
            if class == Class::Configuration {
                return Err(place.wrong(&own, "such a refusal is ours to mend: no ladder begins"));
            }
            let stray = only_of_the_whole(raw) || !raw.classes.is_empty();
            not_here(&(own.clone(), raw), place, stray)?;
            // The whole's class is less particular than the plan itself.
            let mut order: Vec<Layer<'_>> = Vec::new();
            for (key, layer) in layers {
                order.extend(
                    layer.classes.get(&class).map(|raw| (format!("{key}.classes.{}", class.as_str()), raw)),
                );
                order.push((key.clone(), layer));
            }
            classes.insert(class, self::ladder(&order, place)?);
        }
    }
    Ok(Ladders { ladder, classes })
}

fn only_of_the_whole(raw: &RawDunning) -> bool {
    raw.retry.is_some() || raw.shadow.is_some() || raw.backup_card.is_some()
}

fn not_here(layer: &Layer<'_>, place: &Place<'_>, stray: bool) -> Result<(), ConfigError> {
    let message = "retry, shadow and backup_card stand in [dunning] only, classes there or in a plan's";
    if stray { Err(place.wrong(&layer.0, message)) } else { Ok(()) }
}

fn ladder(layers: &[Layer<'_>], place: &Place<'_>) -> Result<Ladder, ConfigError> {
    let default = Ladder::default();
    let steps = match first(layers, |raw| raw.steps.as_ref()) {
        None => default.steps,
        Some((key, steps)) => steps_of(steps, &format!("{key}.steps"), place)?,
    };
    let finally_after_secs = match first(layers, |raw| raw.finally_after.as_ref()) {
        None => default.finally_after_secs,
        Some((key, text)) => delay_of(text, &format!("{key}.finally_after"), place)?,
    };
    let grace_secs = match first(layers, |raw| raw.grace.as_ref()) {
        Some((key, text)) if !text.is_empty() => Some(delay_of(text, &format!("{key}.grace"), place)?),
        _ => None,
    };
    let window = match first(layers, |raw| raw.window.as_ref()) {
        Some((key, text)) if !text.is_empty() => {
            let found = window(text).ok_or_else(|| place.wrong(&format!("{key}.window"), NOT_A_WINDOW))?;
            Some(found)
        }
        _ => None,
    };
    let weekdays = match first(layers, |raw| raw.weekdays.as_ref()) {
        None => Vec::new(),
        Some((key, names)) => {
            let day = |name: &String| {
                let wrong = || {
                    place.wrong(
                        &format!("{key}.weekdays"),
                        format!("{name:?} is not a weekday; write \"monday\""),
                    )
                };
                weekday(name).map(u8::cast_signed).ok_or_else(wrong)
            };
            names.iter().map(day).collect::<Result<_, _>>()?
        }
    };
    let finally = first(layers, |raw| raw.finally.as_ref()).map_or(default.finally, |(_, finally)| *finally);
    Ok(Ladder { steps, finally_after_secs, finally, grace_secs, window, weekdays })
}

fn first<'a, T>(layers: &'a [Layer<'a>], key: impl Fn(&'a RawDunning) -> Option<T>) -> Option<(&'a str, T)> {
    layers.iter().find_map(|(name, layer)| Some((name.as_str(), key(layer)?)))
}

fn steps_of(steps: &[RawStep], key: &str, place: &Place<'_>) -> Result<Vec<LadderStep>, ConfigError> {
    if steps.len() > STEPS_MAX {
        return Err(place.wrong(key, format!("at most {STEPS_MAX} steps")));
    }
    let step = |step: &RawStep| {
        Ok(LadderStep {
            after_secs: delay_of(&step.after, key, place)?,
            retry: step.retry,
            mail: step.mail,
            on: step.on.iter().map(|day| slot(day, key, place)).collect::<Result<_, _>>()?,
        })
    };
    steps.iter().map(step).collect()
}

fn slot(text: &str, key: &str, place: &Place<'_>) -> Result<Slot, ConfigError> {
    if text.eq_ignore_ascii_case("last business day") {
        return Ok(Slot::LastBusinessDay);
    }
    if let Some(day) = weekday(text) {
        return Ok(Slot::Weekday(day.cast_signed()));
    }
    let day = text.parse().ok().filter(|day| (1..=31).contains(day)).map(Slot::DayOfMonth);
    let help = "a day of the month (\"15\"), a weekday (\"friday\") or \"last business day\"";
    day.ok_or_else(|| place.wrong(key, format!("{text:?} is no day to wait for; write {help}")))
}

fn delay_of(text: &str, key: &str, place: &Place<'_>) -> Result<u64, ConfigError> {
    delay(text).ok_or_else(|| place.wrong(key, not_a_delay(text)))
}

pub(super) fn not_a_delay(text: &str) -> String {
    let help = "write a count and a unit, such as \"12 hours\", \"3 days\" or \"1 week\"; at most 90 days";
    format!("{text:?} is not a delay; {help}")
}

/// Hours, days or weeks as seconds; at most 90 days.
pub(super) fn delay(text: &str) -> Option<u64> {
    let (count, unit) = text.trim().split_once(' ')?;
    let count: u64 = count.parse().ok()?;
    let secs = match unit.trim().trim_end_matches('s') {
        "hour" => 3600,
        "day" => 86_400,
        "week" => 7 * 86_400,
        _ => return None,
    };
    count.checked_mul(secs).filter(|secs| *secs <= 90 * 86_400)
}
