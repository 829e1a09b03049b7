//! What happens to a charge, told as stories, as a table, and as every story there is in a small world.

mod stories;
mod table;
mod words;
mod workers;
mod world;

use super::*;
use crate::billing::charge::{Attempt, Collector, CollectorKind, Operation, Phase, Sent};
use crate::billing::decline::Class;
use crate::billing::dunning::{Dunning, Rules};
use crate::billing::ids::{ChargeId, CustomerId};
use crate::billing::ladder::{Ladder, LadderId, LadderStep};
use crate::billing::network_rules::tried;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}

fn owed() -> Money {
    "29.00 USD".parse().unwrap()
}

fn customer() -> CustomerId {
    CustomerId(uuid::Uuid::from_u128(1))
}

/// Stripe has a collector that the database did not know.
fn adopted(kind: CollectorKind, generation: u32, attempt: u32, is_pending: bool) -> Event {
    let name = match kind {
        CollectorKind::PaymentIntent => "pi",
        CollectorKind::CheckoutSession => "cs",
    };
    let stripe_id = Some(format!("{name}_{generation}"));
    Event::Adopt { collector: Collector { generation, kind, stripe_id }, attempt, is_pending }
}

/// A charge that is due since the beginning of time.
fn due() -> Charge {
    Charge {
        id: ChargeId(uuid::Uuid::from_u128(7)),
        customer: customer(),
        period: None,
        amount: owed(),
        due_at: at(0),
        description: "Pro".into(),
        generation: 0,
        attempts: 0,
        collector: None,
        dunning: None,
        state: State::Due { at: at(0) },
        version: 0,
    }
}

/// Two rungs: a mail at once, a retry with a last notice a day later, the end a day after that.
fn ladder() -> Ladder {
    let day = DAY.unsigned_abs();
    Ladder {
        steps: vec![
            LadderStep { after_secs: 0, retry: false, mail: Some(MailKind::PaymentFailed), on: Vec::new() },
            LadderStep { after_secs: day, retry: true, mail: Some(MailKind::LastNotice), on: Vec::new() },
        ],
        finally_after_secs: day,
        ..Ladder::default()
    }
}

fn decline(code: &str) -> Decline {
    Decline {
        code: Some("card_declined".into()),
        decline_code: Some(code.into()),
        payment_intent: Some("pi_1".into()),
        ..Decline::default()
    }
}

fn receipt(now: Timestamp) -> Receipt {
    Receipt {
        payment_intent: "pi_1".into(),
        session: None,
        amount: owed(),
        customer: customer(),
        new_card: None,
        at: now,
    }
}

fn answer(attempt: u32, outcome: Outcome) -> Event {
    Event::Answered { attempt, outcome }
}

/// A charge, what it promised so far, and the clock.
#[derive(Clone, Debug)]
struct Scene {
    charge: Charge,
    effects: Vec<Effect>,
    last_decline: Option<Decline>,
    now: i64,
}

fn scene() -> Scene {
    Scene { charge: due(), effects: Vec::new(), last_decline: None, now: 0 }
}

impl Scene {
    fn apply(&self, event: &Event) -> Result<Step, Refused> {
        let (dunning, history) = (ladder(), [tried(at(self.now))]);
        let last_decline = self.last_decline.as_ref();
        let rules = Rules { id: LadderId(u32::from(*event == Event::TakeLadder)), ..Rules::of(&dunning) };
        let policy = Policy { rules, history: &history, last_decline };
        apply(&self.charge, event, &policy, at(self.now))
    }

    /// The event happens.
    fn then(mut self, event: Event) -> Self {
        let step =
            self.apply(&event).unwrap_or_else(|refused| panic!("{event:?} in {:?}: {refused}", self.charge));
        if let Event::Answered { outcome: Outcome::Declined(decline), .. } | Event::Declined(decline) = event
        {
            self.last_decline = Some(decline);
        }
        self.charge = step.charge;
        self.effects.extend(step.effects);
        self
    }

    fn after(mut self, secs: i64) -> Self {
        self.now += secs;
        self
    }

    /// The first attempt is on its way.
    fn sent(self) -> Self {
        self.then(Event::Begin).then(Event::Sending)
    }

    /// The next attempt is on its way.
    fn sent_again(self) -> Self {
        self.sent()
    }

    fn mails(&self) -> Vec<&str> {
        let mail = |effect| if let &Effect::Mail { kind, .. } = effect { Some(kind.as_str()) } else { None };
        self.effects.iter().filter_map(mail).collect()
    }

    fn alarms(&self) -> Vec<(&str, &str)> {
        let alarms = self.effects.iter().filter_map(|effect| {
            if let Effect::Alarm { step, text } = effect {
                Some((step.as_str(), text.as_str()))
            } else {
                None
            }
        });
        alarms.collect()
    }

    fn state(&self) -> &str {
        self.charge.state.as_str()
    }

    fn sent_facts(&self) -> Sent {
        match self.charge.open_attempt().expect("an attempt is open").phase {
            Phase::Sending(sent) | Phase::Unknown(sent) => sent,
            Phase::Prepared { .. } => panic!("nothing was sent: {:?}", self.charge),
        }
    }
}
