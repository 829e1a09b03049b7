//! The schema and the instance: made once, and strict about what a row may say.

use futures::future::join_all;
use recurd::store::{Store, StoreError};

use crate::*;

on_both! {
    async fn migrating_again_changes_nothing(db: Db) {
        db.store.migrate().await.unwrap();
        assert_eq!(db.store.schema_version().await.unwrap(), Some(Store::known_schema_version()));
        assert_eq!(db.number("SELECT COUNT(*) FROM _sqlx_migrations").await, Store::known_schema_version());
    }

    async fn a_newer_schema_is_refused_and_left_alone(db: Db) {
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            SELECT 999, 'from the future', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
        db.execute(newer).await.unwrap();
        let refused = db.store.migrate().await;
        assert!(matches!(refused, Err(StoreError::NewerSchema { found: 999, known: 1 })), "{refused:?}");
    }

    async fn parallel_first_callers_agree_on_one_instance(db: Db) {
        let replica = db.replica().await;
        let calls = (0..16).map(|n| if n % 2 == 0 { db.store.instance(at(n)) } else { replica.instance(at(n)) });
        let ids: Vec<_> = join_all(calls.collect::<Vec<_>>()).await.into_iter().map(|one| one.unwrap().id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(db.number("SELECT COUNT(*) FROM instance").await, 1);
        replica.close().await;
    }

    async fn an_instance_is_bound_once_and_its_heart_beats_forwards(db: Db) {
        db.store.instance(at(0)).await.unwrap();
        db.store.bind_instance("acct_1", "test").await.unwrap();
        db.store.bind_instance("acct_2", "live").await.unwrap();
        db.store.heartbeat(at(50)).await.unwrap();
        db.store.heartbeat(at(40)).await.unwrap();
        let instance = db.store.instance(at(60)).await.unwrap();
        assert_eq!((instance.stripe_account.as_deref(), instance.mode.as_deref()), (Some("acct_1"), Some("test")));
        assert_eq!(instance.heartbeat_at, at(50));
    }

    async fn the_schema_refuses_a_finished_charge_that_does_not_say_when(db: Db) {
        one_due_charge(&db).await;
        for wrong in [
            "UPDATE charge SET state = 'paid', wake_at = NULL, wake_for = NULL",
            "UPDATE charge SET settled_at = 5",
            "UPDATE charge SET state = 'paid', settled_at = 5, payment_intent = 'pi_1'",
            "UPDATE charge SET state = 'paid', settled_at = 5, wake_at = NULL, wake_for = NULL",
            "UPDATE charge SET payment_intent = 'pi_1'",
            "UPDATE charge SET state = 'stolen'",
            "UPDATE charge SET period_index = 3",
            "UPDATE charge SET amount_minor = -1",
            "UPDATE charge SET wake_for = 'fun'",
            "UPDATE charge SET end_as = 'canceled'",
            "UPDATE charge SET state = 'closing', until_at = 5",
        ] {
            assert!(db.execute(wrong).await.is_err(), "taken: {wrong}");
        }
        let right = "UPDATE charge SET state = 'paid', settled_at = 5, payment_intent = 'pi_1', wake_at = NULL, wake_for = NULL";
        assert_eq!(db.execute(right).await.unwrap(), 1);
    }

    async fn the_schema_refuses_a_second_open_attempt_and_a_second_living_collector(db: Db) {
        let claimed = one_due_charge(&db).await;
        settle(&db.store, &[begin(&claimed, 0)], 0).await;
        let id = claimed.charge.id;
        let attempt = |number: u32, key: &str, state: &str, finished: &str| format!(
            "INSERT INTO attempt (charge_id, number, generation, operation, idempotency_key, path, body, payment_method, state, \
             created_at, finished_at) VALUES ('{id}', {number}, 1, 'create', '{key}', '/', '', 'pm_1', '{state}', 0, {finished})"
        );
        assert!(db.execute(&attempt(2, "other", "prepared", "NULL")).await.is_err(), "a second open attempt");
        let known = format!("key:{id}:1");
        assert!(db.execute(&attempt(2, &known, "void", "5")).await.is_err(), "the same key twice");
        assert!(db.execute(&attempt(2, "other", "void", "NULL")).await.is_err(), "over without a time");
        assert!(db.execute(&attempt(2, "other", "declined", "5")).await.is_err(), "an answer without a sending");
        assert_eq!(db.execute(&attempt(2, "other", "void", "5")).await.unwrap(), 1);
        let collector = |generation: u32, state: &str| format!(
            "INSERT INTO collector (charge_id, generation, kind, state, opened_at) \
             VALUES ('{id}', {generation}, 'payment_intent', '{state}', 0)"
        );
        assert!(db.execute(&collector(2, "live")).await.is_err(), "a second living collector");
        assert_eq!(db.execute(&collector(2, "dead")).await.unwrap(), 1);
    }

    async fn the_schema_refuses_a_second_lease_of_one_customer(db: Db) {
        add_customers(&db.store, 0..1).await;
        add_charges(&db.store, [due_charge(0, 0, 0), due_charge(1, 0, 0)]).await;
        assert!(db.execute("UPDATE charge SET lease_owner = 'me'").await.is_err());
        let one = format!("UPDATE charge SET lease_owner = 'me' WHERE id = '{}'", charge_id(0));
        assert_eq!(db.execute(&one).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_new_sqlite_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = std::env::temp_dir().join(format!("recurd-test-mode-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("recurd.db");
    let store = Store::open(&format!("sqlite://{}", file.display())).await.unwrap();
    store.migrate().await.unwrap();
    for name in ["recurd.db", "recurd.db-wal", "recurd.db-shm"] {
        let mode = std::fs::metadata(dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
    std::fs::remove_dir_all(&dir).unwrap();
}
