//! The card networks' ceilings hold for whatever leaves: the first try of another charge, and what was written down before.

use recurd::billing::money::Money;
use recurd::flows::manage;
use recurd::sandbox::{Effect, Rule};
use recurd::store::{Card, ChargeFilter, NetworkTry};

use crate::Scene;

fn sent(scene: &Scene) -> usize {
    let log = scene.world.sandbox.books().requests;
    log.iter().filter(|one| one.method == "POST" && one.path.starts_with("/v1/payment_intents")).count()
}

/// Ticks for some hours, and tells how many requests that may take money left meanwhile.
async fn leave_within(scene: &Scene, hours: u32) -> usize {
    let before = sent(scene);
    scene.hours(hours).await;
    sent(scene) - before
}

#[tokio::test]
async fn first_tries_of_many_charges_on_one_card_stop_where_a_network_would_fine_them() {
    let scene = Scene::with(&["pm_card_visa"], |config| config.guard.charges_per_customer = None).await;
    let ctx = &scene.world.ctx;
    scene.tick().await;
    scene.world.sandbox.script_card("pm_card_visa_0", "insufficient_funds").unwrap();
    let (customer, amount) =
        (ctx.instance.customer("cus_0"), Money::from_minor(500, "eur".parse().unwrap()).unwrap());
    for number in 0..12 {
        let reference = format!("R-{number}");
        manage::add_one_off(ctx, customer, amount, ctx.now(), "Repair", &reference).await.unwrap();
    }
    assert_eq!(leave_within(&scene, 23).await, 10, "ten declines of one card and amount in a day");
    assert_eq!(leave_within(&scene, 2).await, 2, "the others a day later");
}

#[tokio::test]
async fn a_try_that_was_written_down_is_bound_by_the_history_of_the_card_that_it_names() {
    let scene = Scene::new(&["pm_card_sandbox_fundsThenGood"]).await;
    let ctx = &scene.world.ctx;
    scene.tick().await;
    let rule = Rule::once("POST", "/v1/payment_intents", Effect::parse("not-sent").unwrap());
    scene.world.sandbox.add_fault(Rule { times: None, ..rule });
    let id = ctx.instance.customer("cus_0");
    let fingerprint = async || ctx.store.find_customer(id).await.unwrap().unwrap().card_fingerprint.unwrap();
    let old = fingerprint().await;
    let state =
        async || ctx.store.list_charges(&ChargeFilter { limit: 9, ..ChargeFilter::default() }).await.unwrap();
    for _ in 0..24 * 9 {
        scene.hours(1).await;
        if state().await[0].charge.state.as_str() == "collecting" {
            break;
        }
    }
    assert_eq!(
        state().await[0].charge.state.as_str(),
        "collecting",
        "a retry was written down, and did not arrive"
    );
    scene.world.sandbox.clear_faults();
    // Meanwhile the old card is declined elsewhere, and a new one is saved.
    let tried = NetworkTry {
        id: "ch_elsewhere".into(),
        card_fingerprint: old.clone(),
        amount_minor: 900,
        currency: "eur",
        tried_at: ctx.now().as_second(),
        brand: Some("visa".into()),
        refused_at: None,
        not_before: None,
    };
    ctx.store.count_tries(&[tried]).await.unwrap();
    let new = Card {
        payment_method: "pm_new".into(),
        brand: "visa".into(),
        last4: "4242".into(),
        exp_month: 1,
        exp_year: 2030,
        fingerprint: Some("another".into()),
        entered_at: 0,
    };
    ctx.store.set_default_card(id, &new, None).await.unwrap();
    assert_ne!(fingerprint().await, old);
    assert_eq!(leave_within(&scene, 22).await, 0, "one try of one card a day");
    assert_eq!(leave_within(&scene, 3).await, 1);
}
