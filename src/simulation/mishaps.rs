//! What happens to processes, their clocks, their database and their mail server.

use super::faults::Kind;
use super::rng::Rng;
use super::sim::{Action, Sim};
use super::stage;
use crate::mail::Fault;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Whether the database fails at this moment of a transaction.
pub(super) fn database_fails(moment: &'static str) -> bool {
    let kind = if moment == "begin" { Kind::DatabaseBusy } else { Kind::CommitLost };
    stage::with(|stage| {
        let fails = stage.faults.strike(kind).is_some();
        if fails {
            stage.note(|| format!("  fault: {}", kind.as_str()));
        }
        fails
    })
}

impl Sim {
    /// Whether a process dies or falls asleep where it waits now.
    pub(super) async fn process_fails(&mut self, replica: usize, place: &'static str) -> bool {
        let now_ms = stage::now_ms();
        let strike = |kind, low: i64, high: i64| {
            stage::with(|stage| stage.faults.strike(kind).map(|rng| rng.between(low, high)))
        };
        if let Some(down) = strike(Kind::Crash, 1, 100) {
            self.places.entry(place).or_default().1 += 1;
            // Mostly it is back in a minute; sometimes all are gone, and nobody looks for a day.
            let down_ms = if down > 95 { down * HOUR_MS / 4 } else { down * MINUTE_MS / 10 };
            stage::note(|| {
                format!("  fault: replica {replica} dies at {place:?}, back in {} s", down_ms / 1000)
            });
            if down > 95 {
                self.all_down(now_ms + down_ms).await;
            } else {
                self.kill(replica);
                self.restart(replica, now_ms + down_ms).await;
            }
            let hanging = self.main.mirror.charges.values().filter(|one| one.state == "collecting");
            let hanging: Vec<String> = hanging.map(|one| one.id.clone()).collect();
            hanging.into_iter().for_each(|charge| self.worry(charge));
            return true;
        }
        let pause = strike(Kind::Pause, 6 * MINUTE_MS, 90 * MINUTE_MS);
        if let Some(pause_ms) = pause.or_else(|| strike(Kind::LongPause, 20 * HOUR_MS, 75 * HOUR_MS)) {
            stage::note(|| {
                format!("  fault: replica {replica} stands still at {place:?} for {} s", pause_ms / 1000)
            });
            self.replicas[replica].paused_until_ms = now_ms + pause_ms;
            return true;
        }
        if let Some(skew_ms) = strike(Kind::ClockJump, -55_000, 55_000) {
            stage::note(|| {
                format!("  fault: the clock of replica {replica} is {skew_ms} ms ahead from now on")
            });
            self.replicas[replica].skew_ms = skew_ms;
            self.replicas[replica].set_clock(now_ms);
        }
        false
    }

    /// A bad day: nothing runs for longer than some periods last.
    pub(super) async fn go_dark(&mut self) {
        let days = stage::with(|stage| stage.faults.strike(Kind::Dark).map(|rng| rng.between(1, 35)));
        let Some(days) = days else { return };
        stage::note(|| format!("  fault: nothing runs for {days} days"));
        self.all_down(stage::now_ms() + days * 24 * HOUR_MS).await;
    }

    async fn all_down(&mut self, until_ms: i64) {
        for replica in 0..self.replicas.len() {
            self.kill(replica);
            self.restart(replica, until_ms).await;
        }
    }

    /// A new process in the place of one that died. What it believes is what the database says.
    pub(super) async fn restart(&mut self, replica: usize, at_ms: i64) {
        let change = stage::with(|stage| stage.faults.strike(Kind::ConfigChange).map(Rng::number));
        if let Some(number) = change {
            stage::note(|| "  fault: the configuration is changed".to_owned());
            self.config.consent_text = format!("I allow it, text {}", number % 1000);
            for (name, terms) in &mut self.config.plans {
                // Sold terms are frozen; nobody who has a subscription may notice.
                terms.price_minor += 1000;
                terms.name = format!("New {name}");
            }
        }
        let (skew_ms, is_copy) = (self.replicas[replica].skew_ms, self.replicas[replica].is_copy);
        if let Ok(booted) = self.start_replica(skew_ms, is_copy).await {
            self.replicas[replica] = booted;
        }
        self.replicas[replica].paused_until_ms = 0;
        self.replicas[replica].down_until_ms = at_ms;
    }

    /// The mail server's answer to a mail that leaves now.
    pub(super) fn prepare_mail_server(&self, replica: usize, place: &'static str) {
        if place != "P10..P11" {
            return;
        }
        let fault = stage::with(|stage| {
            let now_ms = stage.now_ms();
            let hours = |rng: &mut Rng| if rng.chance(3000) { 120 } else { 30 };
            let down = |rng: &mut Rng| {
                let most = hours(rng);
                rng.between(0, most * HOUR_MS)
            };
            if let Some(down_ms) = stage.faults.strike(Kind::MailDown).map(down) {
                stage.mail_down_until_ms = now_ms + down_ms;
            }
            let is_down = now_ms < stage.mail_down_until_ms && !stage.faults.is_quiet;
            let mut strike = |kind| stage.faults.strike(kind).map(|rng| rng.chance(5000));
            let fault = is_down
                .then_some(true)
                .or_else(|| strike(Kind::MailGrey))
                .map(|_| Fault::Temporary)
                .or_else(|| strike(Kind::MailLost).map(|arrived| Fault::Unknown { arrived }))
                .or_else(|| strike(Kind::MailDead).map(|_| Fault::Permanent));
            if let Some(fault) = fault {
                stage.note(|| format!("  fault: mail server: {fault:?}"));
            }
            fault
        });
        if let Some(fault) = fault {
            self.replicas[replica].mails.fail_next(fault);
        }
    }

    /// Lets a person or an operator act in a while.
    pub(super) fn act_in(&mut self, wait_ms: i64, act: super::people::Act) {
        let at = stage::now_ms() + wait_ms;
        self.at(at, Action::Act(act));
    }
}
