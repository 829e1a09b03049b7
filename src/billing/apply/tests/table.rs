//! Each event in each state: the state it leads to, or a dot where it is refused.

use super::*;

/// One charge in each state, made the way charges get there.
fn every_state() -> Vec<(&'static str, Scene)> {
    let lost = || scene().sent().then(answer(1, Outcome::Unknown { poisoned: false }));
    let declined = || scene().sent().then(answer(1, Outcome::Declined(decline("insufficient_funds"))));
    let asked = || scene().sent().then(answer(1, Outcome::Declined(decline("authentication_required"))));
    let link = || scene().then(Event::OpenLink { until: at(HOUR) });
    let missed = Scene { charge: Charge { state: State::Missed, ..due() }, ..scene() };
    vec![
        ("due", scene()),
        ("prepared", scene().then(Event::Begin)),
        ("sending", scene().sent()),
        ("unknown", lost()),
        ("past_due collect", declined()),
        ("past_due remind", asked()),
        ("past_due give_up", asked().after(DAY).then(Event::StepDue)),
        ("link_open", link()),
        ("processing", scene().sent().then(Event::Pending)),
        (
            "page waits",
            declined()
                .then(Event::CollectorDead)
                .then(Event::OpenLink { until: at(HOUR) })
                .then(Event::Pending),
        ),
        ("closing unknown", lost().then(Event::Stop(End::Canceled))),
        ("closing", link().then(Event::Stop(End::Canceled))),
        ("review unknown", lost().then(Event::Review("why".into()))),
        ("review to cancel", lost().then(Event::Stop(End::Canceled)).then(Event::Review("why".into()))),
        ("review", scene().then(Event::Review("why".into()))),
        ("unreached", scene().then(Event::Unreached("why".into()))),
        ("unreached late", declined().then(Event::Unreached("why".into()))),
        ("missed", missed),
        ("paid", scene().then(Event::Paid(receipt(at(0))))),
        ("canceled", scene().then(Event::Stop(End::Canceled))),
    ]
}

fn every_event() -> Vec<(&'static str, Event)> {
    vec![
        ("begin", Event::Begin),
        ("sending", Event::Sending),
        ("not run", answer(1, Outcome::NotRun { not_before: at(MINUTE) })),
        ("unknown", answer(1, Outcome::Unknown { poisoned: false })),
        ("missing", answer(1, Outcome::Missing)),
        ("declined", answer(1, Outcome::Declined(decline("insufficient_funds")))),
        ("rejected", answer(1, Outcome::Rejected("why".into()))),
        ("processing", answer(1, Outcome::Processing { payment_intent: "pi_1".into() })),
        ("adopt", adopted(CollectorKind::PaymentIntent, 1, 1, false)),
        ("adopt pending", adopted(CollectorKind::PaymentIntent, 1, 1, true)),
        ("adopt page", adopted(CollectorKind::CheckoutSession, 1, 0, true)),
        ("paid", Event::Paid(receipt(at(0)))),
        ("late decline", Event::Declined(decline("insufficient_funds"))),
        ("pending", Event::Pending),
        ("open link", Event::OpenLink { until: at(HOUR) }),
        ("link opened", Event::LinkOpened { session: "cs_1".into() }),
        ("dead", Event::CollectorDead),
        ("page refused", Event::PageRefused),
        ("step due", Event::StepDue),
        ("stop", Event::Stop(End::Canceled)),
        ("collect now", Event::CollectNow),
        ("take ladder", Event::TakeLadder),
        ("not yet", Event::NotYet { allowed: Some(at(DAY)) }),
        ("never again", Event::NotYet { allowed: None }),
        ("review", Event::Review("why".into())),
        ("unreached", Event::Unreached("why".into())),
        ("reached", Event::Reached),
    ]
}

#[test]
fn every_event_in_every_state() {
    let states = every_state();
    let mut table = String::new();
    for (event_name, event) in every_event() {
        table.push_str(&format!("{event_name}\n"));
        for (name, scene) in &states {
            if let Ok(step) = scene.apply(&event) {
                let promises = if step.effects.is_empty() { "" } else { " !" };
                table.push_str(&format!("    {name:<16} -> {}{promises}\n", step.charge.state.as_str()));
            }
        }
    }
    insta::assert_snapshot!(table);
}
