//! The sandbox's books against ours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::real::scene::{Sandbox, Shop, rows};

/// What one charge's attempt did to the card: our charge, Stripe's PaymentIntent, and whether it was paid.
type Tries = BTreeSet<(String, String, bool)>;

/// Asserts that so many charges were paid, each once, and so many declined, each once; that the sums agree; that every
/// try that reached a card is one attempt of ours with the same end; and that nobody needs to look.
pub(crate) fn assert_books_agree(sandbox: &Sandbox, shop: &Shop, paid: usize, declined: usize) {
    let books = sandbox.books();
    let taken = once_each(&books, "succeeded");
    let refused = once_each(&books, "failed");
    assert_eq!((taken.len(), refused.len()), (paid, declined), "charges paid and declined at Stripe");
    let ours = |state: &str| -> BTreeMap<String, i64> {
        let list = format!(
            "SELECT id || ' ' || CAST(amount_minor AS TEXT) FROM charge WHERE state = '{state}' ORDER BY id"
        );
        let pair = |row: String| {
            let (id, amount) = row.split_once(' ').unwrap();
            (id.to_owned(), amount.parse().unwrap())
        };
        shop.database.texts(&list).into_iter().map(pair).collect()
    };
    assert!(ours("paid") == taken, "the charges or amounts we call paid are not those that Stripe took");
    assert_eq!(ours("past_due").len(), declined, "charges we call past due");
    assert_eq!(shop.database.count("charge"), paid + declined, "charges");
    assert_attempts_agree(&books, shop);
    assert_keys_agree(&books, shop);
    shop.done(&["status"]);
    shop.done(&["doctor"]);
}

/// Amounts by our id. Nobody's card was reached twice.
fn once_each(books: &Value, status: &str) -> BTreeMap<String, i64> {
    let mut by_id = BTreeMap::new();
    for row in rows(books, "charges").iter().filter(|row| row["status"] == status) {
        let before = by_id.insert(ours(row), row["amount"].as_i64().unwrap());
        assert_eq!(before, None, "twice: {row}");
    }
    by_id
}

fn ours(row: &Value) -> String {
    row["metadata"]["recurd_charge"].as_str().expect("each payment carries our id").to_owned()
}

/// No attempt is lost, none is made up, and none is left open.
fn assert_attempts_agree(books: &Value, shop: &Shop) {
    assert_eq!(shop.unanswered(), 0, "attempts that nobody finished");
    let theirs: Tries = rows(books, "charges")
        .iter()
        .map(|row| {
            (ours(row), row["payment_intent"].as_str().unwrap().to_owned(), row["status"] == "succeeded")
        })
        .collect();
    let text = "SELECT charge_id || ' ' || payment_intent || ' ' || state FROM attempt \
        WHERE state IN ('paid', 'declined')";
    let known: Tries = shop
        .database
        .texts(text)
        .iter()
        .map(|row| {
            let words: Vec<&str> = row.split(' ').collect();
            (words[0].to_owned(), words[1].to_owned(), words[2] == "paid")
        })
        .collect();
    let strange: Vec<_> = theirs.symmetric_difference(&known).take(5).collect();
    assert!(strange.is_empty(), "known on one side only: {strange:?}");
}

/// No key was ever used for other bytes, and each one that could take money is on record.
fn assert_keys_agree(books: &Value, shop: &Shop) {
    let keys = shop.database.texts("SELECT idempotency_key FROM attempt");
    let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let mut bodies = BTreeMap::new();
    for row in rows(books, "requests").iter().filter(|row| row["method"] == "POST") {
        let key = row["idempotency_key"].as_str().expect("each POST carries a key");
        let takes_money =
            row["path"].as_str().expect("each request has a path").starts_with("/v1/payment_intents");
        assert!(!takes_money || keys.contains(key), "sent, but not on record: {key}");
        let body = row["body_hash"].as_u64().unwrap();
        assert_eq!(*bodies.entry(key).or_insert(body), body, "other bytes under the same key: {key}");
    }
}
