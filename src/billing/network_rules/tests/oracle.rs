//! Random histories of declines through the real ladder, judged by an oracle that shares no line with it: its own
//! numbers, its own counting.

use std::collections::BTreeMap;

use super::*;
use crate::billing::dunning::{Action, Rules, on_decline, on_remind};
use crate::billing::ladder::{Ladder, LadderStep, Slot};
use crate::billing::plan::Window;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let sides = u64::try_from(all.len()).unwrap();
        &all[usize::try_from(self.roll(sides)).unwrap()]
    }
}

const ZONES: [&str; 3] = ["UTC", "Asia/Tokyo", "America/New_York"];
const BRANDS: [&str; 5] = ["visa", "mastercard", "amex", "discover", "cartes_bancaires"];
/// Codes after which a machine may try again, and what the networks publish about the rest.
const SOFT: [&str; 6] = [
    "insufficient_funds",
    "do_not_honor",
    "generic_decline",
    "issuer_not_available",
    "processing_error",
    "code_of_tomorrow",
];
const HARD: [&str; 6] = [
    "lost_card",
    "stolen_card",
    "expired_card",
    "authentication_required",
    "revocation_of_authorization",
    "merchant_blacklist",
];
const VISA_NEVER: [&str; 12] = ["04", "07", "12", "14", "15", "41", "43", "46", "57", "R0", "R1", "R3"];
const MASTERCARD_NEVER: [&str; 2] = ["03", "21"];
const MASTERCARD_WAITS: [(&str, i64); 7] =
    [("24", 1), ("25", 24), ("26", 48), ("27", 96), ("28", 144), ("29", 192), ("30", 240)];

/// The tries of one card, newest last: when, and for which amount.
type Tries = Vec<(i64, u8)>;
/// What the charge is for.
const AMOUNT: u8 = 0;

/// What the networks and our own rules would say of a machine's try for `amount` at `now`.
fn objection(tries: &Tries, brand: &str, amount: u8, now: i64) -> Option<String> {
    let count = |days: i64, any: bool| {
        let since = now - days * DAYS;
        1 + tries.iter().filter(|(at, one)| *at > since && (any || *one == amount)).count()
    };
    let monthly = match brand {
        "visa" => 15,
        "mastercard" => 35,
        "amex" | "discover" => 4,
        _ => 8,
    };
    let limits = [(1, 1, false), (7, 3, false), (30, 8, false), (30, monthly, false)];
    let per_card = (brand == "mastercard").then_some((1, 10, true));
    limits.into_iter().chain(per_card).find_map(|(days, most, any)| {
        let found = count(days, any);
        (found > most).then(|| format!("{found} tries in {days} days, at most {most}"))
    })
}

fn ladder(dice: &mut Dice) -> Ladder {
    const DAYS: [Slot; 5] = [
        Slot::DayOfMonth(1),
        Slot::DayOfMonth(15),
        Slot::DayOfMonth(31),
        Slot::LastBusinessDay,
        Slot::Weekday(5),
    ];
    let step = |dice: &mut Dice| LadderStep {
        after_secs: *dice.pick(&[0, 600, 3600, 40_000, 86_400, 100_000, 259_200, 864_000]),
        retry: dice.roll(4) > 0,
        on: if dice.roll(4) == 0 {
            (0..dice.roll(3)).map(|_| *dice.pick(&DAYS)).collect()
        } else {
            Vec::new()
        },
        ..LadderStep::default()
    };
    let steps = (0..dice.roll(14)).map(|_| step(dice)).collect();
    let window = Window { from_hour: u8::try_from(dice.roll(23)).unwrap(), to_hour: 24 };
    Ladder {
        steps,
        finally_after_secs: 0,
        window: (dice.roll(3) == 0).then_some(window),
        weekdays: if dice.roll(3) == 0 { vec![1, 2, 3, 4] } else { Vec::new() },
        ..Ladder::default()
    }
}

/// A decline, whether the card may be tried again at all, and from when on.
fn decline(dice: &mut Dice, brand: &str, now: i64) -> (Decline, bool, i64) {
    let mut decline = Decline { brand: Some(brand.to_owned()), ..Decline::default() };
    let (mut ever, mut from) = (true, now);
    let hard = dice.roll(12) == 0;
    decline.decline_code = Some((*dice.pick(if hard { &HARD } else { &SOFT })).to_owned());
    ever &= !hard;
    match brand {
        "mastercard" if dice.roll(3) == 0 => {
            let (code, hours) = *dice.pick(&MASTERCARD_WAITS);
            decline.network_advice_code = Some(code.to_owned());
            from = now + hours * 3600;
        }
        "mastercard" if dice.roll(10) == 0 => {
            decline.network_advice_code = Some((*dice.pick(&MASTERCARD_NEVER)).to_owned());
            ever = false;
        }
        "visa" if dice.roll(10) == 0 => {
            decline.network_decline_code = Some((*dice.pick(&VISA_NEVER)).to_owned());
            ever = false;
        }
        _ => {}
    }
    if dice.roll(15) == 0 {
        decline.advice_code = Some("do_not_try_again".to_owned());
        ever = false;
    }
    (decline, ever, from)
}

/// What the rules are shown of it. The newest of the charge's own is in it with what its bank said.
fn history(tries: &Tries, brand: &str, (declined_at, last): (i64, &Decline), now: i64) -> Vec<Try> {
    let young = tries.iter().filter(|(when, _)| *when > now - 30 * DAYS);
    young
        .map(|&(when, amount)| match (when, amount) {
            own if own == (declined_at, AMOUNT) => Try::declined(last, at(when)),
            _ => Try { same_amount: amount == AMOUNT, brand: Some(brand.into()), ..tried(at(when)) },
        })
        .collect()
}

/// One charge from its first decline to the end of its ladder, every retry declined.
fn one_history(seed: u64, seen: &mut BTreeMap<&'static str, u64>) {
    let mut dice = Dice(seed);
    let brand = *dice.pick(&BRANDS);
    let ladder = ladder(&mut dice);
    let name = *dice.pick(&ZONES);
    let zone = TimeZone::get(name).unwrap();
    let rules = Rules { zone: &zone, ..Rules::of(&ladder) };
    let mut now = FROM + i64::try_from(dice.roll(300)).unwrap() * DAYS;
    // What other charges and the customer on a page have tried before.
    let mut tries = Tries::new();
    for _ in 0..dice.roll(12) {
        tries.push((
            now - i64::try_from(dice.roll(40 * 86_400)).unwrap(),
            u8::try_from(dice.roll(3)).unwrap(),
        ));
    }
    let (mut last, mut ever, mut from) = decline(&mut dice, brand, now);
    let mut declined_at = now;
    tries.push((now, AMOUNT));
    let mut rung =
        on_decline(None, &last, &rules, &history(&tries, brand, (declined_at, &last), now), at(now));
    for _ in 0..40 {
        let next = rung.next.at.as_second();
        assert!(next >= now, "seed {seed}: back in time");
        now = next;
        match rung.next.action {
            Action::GiveUp => return,
            Action::Remind => {
                *seen.entry("reminders").or_default() += 1;
                let past = history(&tries, brand, (declined_at, &last), now);
                rung = on_remind(rung.dunning, Some((&last, &past)), &rules, at(now));
            }
            Action::Collect => {
                // Other charges and the customer were busy meanwhile, so the rules are asked again.
                if dice.roll(4) == 0 {
                    for _ in 0..dice.roll(14) {
                        let when = now - i64::try_from(dice.roll(86_400)).unwrap();
                        tries.push((when, u8::try_from(dice.roll(3)).unwrap()));
                    }
                    let past = history(&tries, brand, (declined_at, &last), now);
                    let allowed = earliest_retry(&last, &past, at(now));
                    let Some(allowed) = allowed else { panic!("seed {seed}: {last:?} was planned") };
                    *seen.entry("put off").or_default() += u64::from(allowed > at(now));
                    now = allowed.as_second();
                }
                *seen.entry("retries").or_default() += 1;
                assert!(ever, "seed {seed}: tried again after {last:?}");
                assert!(now >= from, "seed {seed}: {} s before the wait of {last:?} is over", from - now);
                let objection = objection(&tries, brand, AMOUNT, now);
                assert!(objection.is_none(), "seed {seed}, {brand}: {}", objection.unwrap_or_default());
                (last, ever, from) = decline(&mut dice, brand, now);
                declined_at = now;
                tries.push((now, AMOUNT));
                let past = history(&tries, brand, (declined_at, &last), now);
                rung = on_decline(Some(rung.dunning), &last, &rules, &past, at(now));
            }
        }
    }
    panic!("seed {seed}: this ladder does not end");
}

/// `RECURD_HISTORIES=1000000 cargo test --release --lib oracle -- --nocapture` runs a million.
#[test]
fn no_random_history_breaks_a_ceiling() {
    let count = std::env::var("RECURD_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let mut seen = BTreeMap::new();
    for seed in 0..count {
        one_history(seed, &mut seen);
    }
    println!("{count} histories: {seen:?}");
    assert!(seen["retries"] > count, "the histories hardly try: {seen:?}");
}
