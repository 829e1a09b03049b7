use super::*;

const DAYS: i64 = 86_400;
/// 1 January 2026.
const FROM: i64 = 1_767_225_600;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}

#[test]
fn one_try_a_day() {
    let retry = earliest_retry(&Decline::default(), &[tried(at(1000))], at(2000)).unwrap();
    assert_eq!(retry, at(1000 + 86_400));
}

#[test]
fn mastercards_advice_is_a_floor() {
    let decline = Decline { network_advice_code: Some("30".into()), ..Decline::default() };
    assert_eq!(earliest_retry(&decline, &[Try::declined(&decline, at(0))], at(0)), Some(at(10 * 86_400)));
}

#[test]
fn advice_holds_for_its_amount_whatever_was_declined_since() {
    let advised = Decline { network_advice_code: Some("30".into()), ..Decline::default() };
    let (advised, newer) = (Try::declined(&advised, at(0)), tried(at(5)));
    let retry = |history: &[Try]| within_ceilings(history, at(2 * DAYS));
    assert_eq!(retry(&[advised.clone(), newer.clone()]), at(10 * DAYS));
    assert_eq!(retry(&[Try { same_amount: false, ..advised.clone() }, newer]), at(2 * DAYS));
    assert_eq!(
        within_ceilings_of_first(&[advised], at(7)),
        at(7),
        "advice is given to a charge's own retries"
    );
}

#[test]
fn each_advice_is_its_wait() {
    const HOURS: i64 = 3600;
    let waits =
        [("24", 1), ("25", 24), ("26", 48), ("02", 72), ("27", 96), ("28", 144), ("29", 192), ("30", 240)];
    for (code, hours) in waits {
        let decline = Decline { network_advice_code: Some(code.into()), ..Decline::default() };
        assert_eq!(decline.not_before(at(5)), Some(at(5 + hours * HOURS)), "{code}");
    }
    let unknown = Decline { network_advice_code: Some("99".into()), ..Decline::default() };
    assert_eq!(unknown.not_before(at(5)), None);
}

#[test]
fn the_ceilings_are_one_a_day_three_a_week_eight_a_month() {
    let tries = |count: i64| (0..count).map(|day| tried(at(FROM + day * DAYS))).collect::<Vec<_>>();
    assert_eq!(within_ceilings(&tries(1), at(FROM)), at(FROM + DAYS));
    assert_eq!(within_ceilings(&tries(3), at(FROM)), at(FROM + 7 * DAYS));
    assert_eq!(within_ceilings(&tries(8), at(FROM)), at(FROM + 30 * DAYS));
}

#[test]
fn a_first_try_waits_only_for_a_card_that_a_network_would_fine() {
    let tries = |count: i64, apart: i64, brand: Option<&str>| -> Vec<Try> {
        let one = |nth| Try { brand: brand.map(Into::into), ..tried(at(FROM + nth * apart)) };
        (0..count).map(one).collect()
    };
    let first = |history: &[Try], now| within_ceilings_of_first(history, at(now)).as_second();
    let (now, tenth) = (FROM + 20, FROM + 40 * DAYS);
    assert_eq!(first(&tries(9, 1, None), now), now, "each is another charge");
    assert_eq!(first(&tries(10, 1, None), now), FROM + DAYS);
    assert_eq!(first(&tries(14, 2 * DAYS, None), tenth), tenth);
    assert_eq!(first(&tries(15, 2 * DAYS, None), FROM + 29 * DAYS), FROM + 30 * DAYS);
    assert_eq!(first(&tries(4, 1, Some("amex")), now), now, "a number of ours is for retries");
    assert_eq!(binds_first_from(), 10);
}

#[test]
fn every_ceiling_can_be_read_and_none_looks_further_back_than_the_history() {
    assert_eq!(CEILINGS.len(), 14);
    assert_eq!(CEILINGS.iter().map(|one| one.window).max(), Some(HISTORY), "what is older is not loaded");
    assert!(CEILINGS.iter().all(|one| one.tries > 0 && one.from < one.until));
}

#[test]
fn a_network_counts_as_its_row_says() {
    let tries = |count: i64, brand: &str, same_amount, apart: i64| -> Vec<Try> {
        let one = |nth| Try { same_amount, brand: Some(brand.into()), ..tried(at(FROM + nth * apart)) };
        (0..count).map(one).collect()
    };
    // Ten declines of a Mastercard in a day, whatever the amounts.
    assert_eq!(within_ceilings(&tries(10, "mastercard", false, 1), at(FROM + 20)), at(FROM + DAYS));
    assert_eq!(within_ceilings(&tries(9, "mastercard", false, 1), at(FROM + 20)), at(FROM + 20));
    assert_eq!(within_ceilings(&tries(10, "visa", false, 1), at(FROM + 20)), at(FROM + 20));
    // Four of an American Express in thirty days.
    assert_eq!(within_ceilings(&tries(4, "amex", true, 5 * DAYS), at(FROM)), at(FROM + 30 * DAYS));
    assert_eq!(within_ceilings(&tries(4, "visa", true, 5 * DAYS), at(FROM)), at(FROM + 16 * DAYS));
}

#[test]
fn a_lost_card_is_never_tried_again() {
    let decline = Decline { decline_code: Some("lost_card".into()), ..Decline::default() };
    assert_eq!(earliest_retry(&decline, &[], at(0)), None);
}

mod oracle;
