//! Only Stripe's own deliveries are let in.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::stripe::webhook::{EventError, SignatureError, parse_event, sign, verify};

const TOLERANCE: Duration = Duration::from_secs(300);
const BODY: &[u8] = br#"{"id":"evt_1","object":"event","type":"charge.refunded","created":1767225600}"#;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn secret(text: &str) -> SecretString {
    SecretString::from(format!("whsec_{text}"))
}

fn check(raw: &[u8], header: &str, now: i64) -> Result<(), SignatureError> {
    verify(raw, header, &[secret("current")], at(now), TOLERANCE)
}

#[test]
fn the_signature_is_the_documented_one() {
    // Computed apart with openssl: printf '1767225600.{}' | openssl dgst -sha256 -hmac whsec_current
    let header = "t=1767225600,v1=575313fca2f5337616e1be9773e86d57a32f744e0ad634ac124014536e5f0e5c";
    assert_eq!(sign(b"{}", &secret("current"), at(1_767_225_600)), header);
    assert_eq!(check(b"{}", header, 1_767_225_600), Ok(()));
}

#[test]
fn ten_thousand_mutations_are_all_rejected() {
    let header = sign(BODY, &secret("current"), at(1_767_225_600));
    assert_eq!(check(BODY, &header, 1_767_225_600), Ok(()));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
    };
    for round in 0..10_000 {
        let mut raw = BODY.to_vec();
        let mut sent = header.clone().into_bytes();
        let target = if round % 2 == 0 { &mut raw } else { &mut sent };
        let place = next(target.len());
        let before = target.clone();
        match next(4) {
            0 => target[place] ^= 1 << next(7),
            1 => target.insert(place, b"0123456789abcdef,=tv1"[next(21)]),
            2 => drop(target.remove(place)),
            _ => target.swap(place, before.len() - 1 - place),
        }
        if *target == before {
            continue;
        }
        let Ok(sent) = String::from_utf8(sent) else { continue };
        assert!(check(&raw, &sent, 1_767_225_600).is_err(), "round {round}: {sent}");
    }
}

#[test]
fn while_a_secret_is_rolled_either_side_may_be_ahead() {
    let (old, new) = (secret("old"), secret("new"));
    let now = at(1_767_225_600);
    let by_old = sign(BODY, &old, now);
    let by_both = format!("{},v1={}", sign(BODY, &new, now), by_old.split_once("v1=").unwrap().1);
    for secrets in [vec![old.clone()], vec![new.clone()], vec![secret("other"), new.clone()]] {
        assert_eq!(verify(BODY, &by_both, &secrets, now, TOLERANCE), Ok(()));
    }
    assert_eq!(verify(BODY, &by_old, &[new.clone(), old], now, TOLERANCE), Ok(()));
    assert_eq!(verify(BODY, &by_old, &[new], now, TOLERANCE), Err(SignatureError::NoMatch));
    assert_eq!(verify(BODY, &by_old, &[], now, TOLERANCE), Err(SignatureError::NoMatch));
}

#[test]
fn other_schemes_are_ignored() {
    let header = sign(BODY, &secret("current"), at(1_767_225_600));
    assert_eq!(check(BODY, &format!("v0=nonsense,{header},v2=x"), 1_767_225_600), Ok(()));
    assert_eq!(check(BODY, &header.replace("v1=", "v0="), 1_767_225_600), Err(SignatureError::NoMatch));
}

#[test]
fn age_is_checked_both_ways_and_only_of_genuine_signatures() {
    let header = sign(BODY, &secret("current"), at(1_767_225_600));
    let outside = |skew_secs| Err(SignatureError::TimestampOutsideTolerance { skew_secs });
    for (skew, expected) in [(300, Ok(())), (301, outside(301)), (-300, Ok(())), (-301, outside(-301))] {
        assert_eq!(check(BODY, &header, 1_767_225_600 + skew), expected, "{skew}");
    }
    let forged = sign(BODY, &secret("forged"), at(0));
    assert_eq!(check(BODY, &forged, 1_767_225_600), Err(SignatureError::NoMatch));
}

#[test]
fn malformed_headers_are_named_so() {
    let good = sign(BODY, &secret("current"), at(1_767_225_600));
    let (timestamp, signature) = good.split_once(',').unwrap();
    let many = [signature; 9].join(",");
    for header in [
        "",
        "t",
        signature,
        "t=,v1=00",
        &format!("t=+1767225600,{signature}"),
        &format!("t=99999999999999999999,{signature}"),
        &format!("{timestamp},{timestamp},{signature}"),
        &format!("{timestamp}, {signature},"),
        &format!("{timestamp},{many}"),
        &good.to_uppercase(),
    ] {
        assert_eq!(check(BODY, header, 1_767_225_600), Err(SignatureError::Malformed), "{header}");
    }
}

#[test]
fn an_event_of_any_shape_gives_up_its_names() {
    let event = parse_event(
        br#"{"object":"event","id":"evt_1","type":"balance.available","created":1767225600,"livemode":true,
            "account":"acct_1","api_version":"2019-03-14","data":{"object":{"object":"balance","metadata":[1]}},
            "request":{"id":null,"idempotency_key":"key-1"}}"#,
    )
    .unwrap();
    assert_eq!(
        (event.id.as_str(), event.kind.as_str(), event.livemode),
        ("evt_1", "balance.available", true)
    );
    assert_eq!((event.object_id, event.object_type.as_deref()), (None, Some("balance")));
    assert_eq!(event.idempotency_key.as_deref(), Some("key-1"));
    assert_eq!(event.account.as_deref(), Some("acct_1"));
    assert!(event.metadata.is_empty());
}

#[test]
fn what_is_no_snapshot_event_is_refused() {
    assert_eq!(parse_event(br#"{"object":"v2.core.event","id":"evt_1"}"#), Err(EventError::Thin));
    for raw in [&b""[..], b"[]", b"{}", br#"{"object":"charge"}"#, br#"{"object":"event","id":"evt_1"}"#] {
        assert!(matches!(parse_event(raw), Err(EventError::Malformed(_))));
    }
}
