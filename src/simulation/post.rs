//! What travels: Stripe's events to the daemon, and the daemon's mails to people.

use super::faults::Kind;
use super::sim::{Action, End, Sim};
use super::stage;
use super::truth::Letter;
use super::world::WEBHOOK_SECRET;
use crate::flows::receive;
use crate::sandbox::signature;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Stripe tries an event again for three days.
const TRIES_MAX: u32 = 12;

/// An event on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// `evt_...`
    pub id: String,
    /// The body that is signed when it leaves.
    pub body: Vec<u8>,
    /// Who signs it, if it is not Stripe.
    pub forger: Option<&'static str>,
    /// How often it was sent before.
    pub tries: u32,
}

impl Sim {
    /// Takes what Stripe wants to tell, and sends it on its way: soon, late, twice, or never.
    pub(super) fn collect_events(&mut self) {
        let deliveries = stage::with(|stage| {
            let deliveries = stage.sandbox.take_deliveries();
            for one in &deliveries {
                stage.sandbox.delivery_succeeded(one);
                stage.truth.signed.insert(one.event_id.clone());
            }
            deliveries
        });
        for one in deliveries {
            let mut parcel = Parcel { id: one.event_id, body: one.body, forger: None, tries: 0 };
            let (dropped, twice, late_ms) = stage::with(|stage| {
                let dropped = stage.faults.strike(Kind::EventDropped).is_some();
                let twice = stage.faults.strike(Kind::EventTwice).is_some();
                let late = stage.faults.strike(Kind::EventLate).map(|rng| rng.between(0, 72 * HOUR_MS));
                (dropped, twice, late)
            });
            if self.forges(&parcel) {
                let at = stage::now_ms() + self.rng.between(0, HOUR_MS);
                let forged = Parcel {
                    id: format!("evt_forged_{}", self.rng.number()),
                    forger: Some("whsec_x"),
                    ..parcel.clone()
                };
                self.at(at, Action::Deliver(Box::new(forged)));
            }
            if dropped {
                continue;
            }
            let wait = late_ms.unwrap_or_else(|| self.rng.between(0, 3000));
            let now_ms = stage::now_ms();
            if twice {
                let again = wait + self.rng.between(0, 2 * MINUTE_MS);
                self.at(now_ms + again, Action::Deliver(Box::new(parcel.clone())));
            }
            parcel.tries = 0;
            self.at(now_ms + wait, Action::Deliver(Box::new(parcel)));
        }
    }

    fn forges(&self, parcel: &Parcel) -> bool {
        parcel.forger.is_none() && stage::with(|stage| stage.faults.strike(Kind::EventForged).is_some())
    }

    /// Brings an event to a process.
    pub(super) async fn deliver(&mut self, parcel: Parcel) {
        let Some(at) = self.any_replica() else { return self.delivered(parcel, false) };
        let now = stage::now_ms() / 1000;
        let body = match parcel.forger {
            Some(_) => String::from_utf8_lossy(&parcel.body).replacen("evt_", "evt_forged", 1).into_bytes(),
            None => parcel.body.clone(),
        };
        let signature = signature(parcel.forger.unwrap_or(WEBHOOK_SECRET), now, &body);
        stage::note(|| format!("event {} comes to replica {at}", parcel.id));
        self.spawn(at, None, |ctx| {
            Box::pin(async move {
                let taken = receive::accept(&ctx, &body, &signature).await;
                if let Err(error) = &taken {
                    stage::note(|| format!("  event refused: {error}"));
                }
                End::Accepted(Box::new(parcel), taken.is_ok())
            })
        })
        .await;
    }

    /// The answer to an event: what was not taken comes again.
    pub(super) fn delivered(&mut self, parcel: Parcel, taken: bool) {
        if taken {
            stage::with(|stage| stage.touched.acknowledged.push(parcel.id));
            return;
        }
        let tries = parcel.tries + 1;
        if tries < TRIES_MAX && parcel.forger.is_none() {
            let pause = (30_000_i64 << tries.min(10)).min(12 * HOUR_MS);
            self.at(stage::now_ms() + pause, Action::Deliver(Box::new(Parcel { tries, ..parcel })));
        }
    }

    /// Takes the mails that the mail server accepted, and brings them to people.
    pub(super) fn collect_mails(&mut self) {
        let now_ms = stage::now_ms();
        let mut arrived = Vec::new();
        for replica in &self.replicas {
            arrived.extend(replica.mails.drain().into_iter().map(|mail| (mail, replica.is_copy)));
        }
        for (mail, of_copy) in arrived {
            let id = mail.message_id.as_str().to_owned();
            let promise = id.trim_start_matches('<').split('@').next().unwrap_or_default().to_owned();
            let letter = Letter {
                at_ms: now_ms,
                written_ms: mail.date.as_millisecond(),
                id,
                to: mail.to.email().to_owned(),
                promise,
                of_copy,
                text: mail.text,
            };
            let acts = self.people.read(&letter);
            stage::with(|stage| {
                stage.note(|| format!("  mail {} to {}: {}", letter.id, letter.to, mail.subject.as_str()));
                stage.truth.arrivals.entry(letter.id.clone()).or_insert((now_ms, 0)).1 += 1;
                stage.touched.letters.push(stage.truth.letters.len());
                stage.truth.letters.push(letter);
            });
            for (wait_ms, act) in acts {
                self.act_in(wait_ms, act);
            }
        }
    }
}
