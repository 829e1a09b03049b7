//! Many replicas on one PostgreSQL.

use std::time::Instant;

use crate::audit::assert_books_agree;
use crate::real::scene::{Sandbox, customers};
use crate::town::{on_postgres, replicas, say, sized, some_without_funds, stop, wait};

const REPLICAS: usize = 8;
/// One in so many has no funds.
const DECLINE_EVERY: usize = 20;
/// Small enough that each replica gets its share.
const BATCH: &str = "100";

#[test]
fn eight_replicas_collect_each_charge_once_and_write_each_mail_once() {
    let sandbox = Sandbox::start();
    let Some(shop) = on_postgres(&sandbox) else { return };
    // With a page of our own a declined charge stays past due until its customer comes.
    let shop = shop.set("HTTP__PUBLIC_URL", "http://127.0.0.1:8080").set("LIMITS__BATCH", BATCH);
    let charges = sized(4000, 20_000);
    let declined = charges / DECLINE_EVERY;
    shop.import(&sandbox, &some_without_funds(&customers(charges, "pm_card_visa"), DECLINE_EVERY));
    let all = replicas(&shop, REPLICAS);
    let start = Instant::now();
    shop.wait_until_collected();
    let secs = start.elapsed().as_secs_f64();
    wait("every mail is written", || shop.database.count("outbox WHERE wake_at IS NOT NULL") == 0);
    stop(all);
    assert_books_agree(&sandbox, &shop, charges - declined, declined);
    let mails = std::fs::read_dir(shop.dir.join("mail")).unwrap().flatten();
    let mails = mails.filter(|entry| entry.path().extension().is_some_and(|end| end == "eml")).count();
    assert_eq!(mails, declined, "each declined customer hears of it once");
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = charges as f64 / secs;
    say(&format!(
        "{REPLICAS} replicas on PostgreSQL: {charges} charges, {declined} of them declined, in {secs:.1} s: {rate:.0} a second"
    ));
}
