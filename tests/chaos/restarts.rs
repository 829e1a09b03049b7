//! PostgreSQL goes away and comes back while replicas collect.

use crate::audit::assert_books_agree;
use crate::cluster::{Cluster, Shutdown};
use crate::real::database::Database;
use crate::real::http;
use crate::real::scene::{Sandbox, Shop, customers, fresh_dir};
use crate::town::{Dice, hasty, replicas, say, sized, stop, wait};

const REPLICAS: usize = 3;
/// Each replica's, so that the restarts meet it at work.
const PAYMENTS_PER_SEC: &str = "40";

#[test]
fn replicas_outlive_restarts_of_postgres_and_collect_each_charge_once() {
    let Some(mut cluster) = Cluster::start() else { return };
    let sandbox = Sandbox::start();
    let database = Database::postgres_at(&cluster.server_url());
    let shop = hasty(Shop::with_database(&sandbox, fresh_dir(), database));
    let (charges, restarts) = (sized(1500, 5000), sized(6, 20));
    let mut dice = Dice::new("restarts of PostgreSQL");
    shop.import(&sandbox, &customers(charges, "pm_card_visa"));
    let shop = shop.set("STRIPE__ENDPOINT_PER_SEC", PAYMENTS_PER_SEC).set("LIMITS__BATCH", "50");
    let mut all = replicas(&shop, REPLICAS);
    wait("the replicas are at work", || !sandbox.paid().is_empty());
    let mut in_flight = 0;
    for round in 0..restarts {
        dice.moment(2000);
        assert!(shop.open() > 0, "everything was collected before restart {round}");
        let how = if round % 2 == 0 { Shutdown::Immediate } else { Shutdown::Fast };
        cluster.restart(how);
        in_flight += shop.unanswered();
    }
    assert!(in_flight > 0, "no restart met an attempt on its way");
    for one in &mut all {
        assert!(one.process.is_running(), "a replica did not outlive the restarts");
        wait("it is ready again", || http::get(&format!("{}/readyz", one.url)).status == 200);
    }
    let unanswered = "charge WHERE state = 'collecting'";
    wait("only what was on its way is left", || shop.open() == shop.database.count(unanswered));
    shop.let_pass(400);
    shop.wait_until_collected();
    stop(all);
    assert_books_agree(&sandbox, &shop, charges, 0);
    say(&format!(
        "{restarts} restarts of PostgreSQL under {REPLICAS} replicas: {charges} charges, {in_flight} attempts were on their way"
    ));
}
