//! What can go wrong, how likely each kind is in this seed, and how often each was reached.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::Rng;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal, $most:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// How likely it is at most where it can happen, of 10,000.
            fn most(self) -> u32 {
                match self { $(Self::$name => $most,)* }
            }
        }
    };
}

kinds! {
    /// No byte of a request leaves.
    NotSent = "not-sent", 200;
    /// A request is lost on its way.
    RequestLost = "request-lost", 300;
    /// A request was carried out, its answer is lost.
    AnswerLost = "answer-lost", 400;
    /// A request was carried out, its answer is cut off.
    AnswerCut = "answer-cut", 200;
    /// The answer comes after many seconds.
    AnswerLate = "answer-late", 200;
    /// The connection dies, the request arrives and runs within two hours.
    ArrivesLate = "arrives-late", 200;
    /// 5xx, carried out or not, with every `Stripe-Should-Retry`.
    ServerError = "server-error", 300;
    /// 500, carried out up to 48 hours later.
    Forward = "rolled-forward", 100;
    /// 409: the key is in use.
    Conflict = "conflict", 200;
    /// 429, once or for minutes.
    RateLimit = "rate-limit", 300;
    /// Stripe cannot be reached for hours.
    Outage = "outage", 6;
    /// Stripe carries out no payments for hours, just when one is sent; the rest of it works.
    Payments = "payments-stuck", 150;
    /// No process runs for days or weeks.
    Dark = "nothing-runs", 200;
    /// 429: somebody else holds the object.
    LockTimeout = "lock-timeout", 100;
    /// A step takes seconds, or more than a minute.
    Slow = "slow", 100;
    /// A process dies at a failpoint or inside a call.
    Crash = "crash", 200;
    /// A process stands still for longer than a lease.
    Pause = "pause", 60;
    /// A process stands still for longer than a day.
    LongPause = "long-pause", 12;
    /// A process's clock jumps.
    ClockJump = "clock-jump", 30;
    /// An event is never delivered.
    EventDropped = "event-dropped", 3000;
    /// An event is delivered twice or more.
    EventTwice = "event-twice", 2000;
    /// An event is delivered up to 72 hours late, and so out of order.
    EventLate = "event-late", 3000;
    /// Somebody sends events that Stripe did not sign.
    EventForged = "event-forged", 300;
    /// The mail server is down.
    MailDown = "mail-down", 500;
    /// The mail server wants to be asked later.
    MailGrey = "mail-greylisted", 1000;
    /// The mail server took a mail and its answer is lost.
    MailLost = "mail-answer-lost", 1000;
    /// The address does not exist any more.
    MailDead = "mail-address-dead", 100;
    /// The database is busy.
    DatabaseBusy = "database-busy", 60;
    /// A commit went through, its answer is lost.
    CommitLost = "commit-answer-lost", 60;
    /// The database is replaced by an old copy of itself.
    Restore = "restore", 100;
    /// A copy of the database runs beside it.
    Fork = "fork", 100;
    /// The configuration changes while something is under way.
    ConfigChange = "config-change", 3000;
}

impl Kind {
    /// Reads its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// The faults of one run.
#[derive(Debug)]
pub struct Faults {
    streams: BTreeMap<Kind, (Rng, u32)>,
    disabled: BTreeSet<Kind>,
    suppressed: BTreeSet<u32>,
    /// How often each kind struck.
    pub reached: BTreeMap<Kind, u64>,
    /// The strikes so far, also those that were suppressed.
    pub struck: u32,
    /// Nothing goes wrong any more.
    pub is_quiet: bool,
}

impl Faults {
    /// Each kind gets its own stream and, per seed, its own likelihood: off, rare, common.
    #[must_use]
    pub fn new(seed: u64, disabled: BTreeSet<Kind>, suppressed: BTreeSet<u32>) -> Self {
        let mut temper = Rng::new(seed, "temper");
        let mut stream = |kind: Kind| {
            let rate = kind.most() * [0, 1, 1, 3, 10][temper.below(5)] / 10;
            (kind, (Rng::new(seed, kind.as_str()), rate))
        };
        let streams = Kind::ALL.iter().map(|kind| stream(*kind)).collect();
        Self { streams, disabled, suppressed, reached: BTreeMap::new(), struck: 0, is_quiet: true }
    }

    /// Whether a fault of this kind strikes here. Its parameters are drawn from the stream that is returned.
    pub fn strike(&mut self, kind: Kind) -> Option<&mut Rng> {
        let (_, rate) = self.streams.get(&kind)?;
        self.strike_at(kind, *rate)
    }

    /// As [`Faults::strike`] with a likelihood of the caller's own.
    pub fn strike_at(&mut self, kind: Kind, per_10_000: u32) -> Option<&mut Rng> {
        let (rng, _) = self.streams.get_mut(&kind)?;
        if !rng.chance(per_10_000) || self.is_quiet {
            return None;
        }
        self.struck += 1;
        if self.disabled.contains(&kind) || self.suppressed.contains(&self.struck) {
            return None;
        }
        *self.reached.entry(kind).or_default() += 1;
        Some(rng)
    }
}
