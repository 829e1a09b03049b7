//! Deliberate mistakes, one at a time: what the invariants are good for shows in how soon they find each.

use std::cell::Cell;

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $name:ident = $word:literal;)*) => {
        /// A mistake that somebody could make, mostly one that somebody made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it is, and where it happened.
            #[must_use]
            pub fn story(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
}

bugs! {
    /// A timeout is taken for a decline (I-11, I-12, I-19).
    TimeoutIsDecline = "timeout-is-decline";
    /// 429 is taken for a decline (B09).
    RateLimitIsDecline = "rate-limit-is-decline";
    /// Stripe cannot be reached, and the customer is blamed (B10, I11).
    OutageIsDecline = "outage-is-decline";
    /// An answer that was lost counts as proof that nothing ran (I-29).
    UnknownIsNotRun = "unknown-is-not-run";
    /// A 5xx is not remembered, so its key is sent again (B04).
    ServerErrorForgotten = "server-error-forgotten";
    /// A payment that is still processing counts as declined (B14).
    ProcessingIsDecline = "processing-is-decline";
    /// A decline read again is a new decline (B20, I-16).
    DeclineCountsTwice = "decline-counts-twice";
    /// A page that was paid is taken for dead (D02, I-17).
    PaidPageIsDead = "paid-page-is-dead";
    /// Whatever canceling answers, the PaymentIntent counts as dead (I-17).
    CancelIsTrusted = "cancel-is-trusted";
    /// Whatever expiring answers, the page counts as dead (D03, I-17).
    ExpiryIsTrusted = "expiry-is-trusted";
    /// The charge is sent before its record is written (I-22).
    SendBeforeRecord = "send-before-record";
    /// A period costs what the plan costs today, not what was sold.
    TodaysPrice = "todays-price";
    /// The amount on the wire is not the one that is owed (G02).
    AmountTwice = "amount-twice";
    /// A worker does not look whether the subscription was canceled (I14).
    CancelIgnored = "cancel-ignored";
    /// A disputed customer is charged all the same (I16).
    HoldIgnored = "hold-ignored";
    /// A process that slept for days sends what it had in its hand (C05).
    ZombieSends = "zombie-sends";
    /// Each sending has a key of its own (I-18, I-20).
    KeyHoldsTheTime = "key-holds-the-time";
    /// A resend writes the body anew, with today's card (B08).
    BodyWrittenAnew = "body-written-anew";
    /// Events are believed whoever signed them (E01).
    SignatureIgnored = "signature-ignored";
    /// An event that could not be stored is acknowledged (I-23).
    AcknowledgedUnstored = "acknowledged-unstored";
    /// Nobody asks Stripe, events are trusted to come (I-34, E06).
    EventsOnly = "events-only";
    /// A mail is not looked at again before it leaves (I07, I-30).
    MailAfterPayment = "mail-after-payment";
    /// A mail that left is not marked (A12).
    MailNotMarked = "mail-not-marked";
    /// Each click opens a page of its own (I-17, D05).
    PageForEachClick = "page-for-each-click";
    /// Missed periods leave no trace (I-28, I-33).
    MissedPeriodsDropped = "missed-periods-dropped";
    /// A lease outlives its owner (A03).
    LeaseForEver = "lease-for-ever";
    /// A key is sent whatever its age (I-22).
    OldKeySent = "old-key-sent";
    /// A key is sent again after a 5xx (B04).
    PoisonedKeySent = "poisoned-key-sent";
    /// A key is sent again without end (B04).
    EndlessReplays = "endless-replays";
    /// After a 5xx two empty readings count as proof (B05).
    NoQuarantine = "no-quarantine";
    /// One empty reading counts as proof (B23).
    OneMissIsProof = "one-miss-is-proof";
    /// A lost card is tried again (H04).
    NeverIgnored = "never-ignored";
    /// A card that a bank refused for ever is tried for the next charge (H04, I04). Was in the product.
    RefusedElsewhere = "refused-elsewhere";
    /// The network's advice when to try again is ignored (I03).
    AdviceIgnored = "advice-ignored";
    /// Nobody counts the tries on a card (I01).
    CeilingsIgnored = "ceilings-ignored";
    /// After an outage all missed periods are collected at once (I-30, F14).
    MonthsAtOnce = "months-at-once";
    /// Whoever writes last wins (C22, I-16).
    NoVersionGuard = "no-version-guard";
    /// What a change promised is not stored with it (A10).
    PromisesForgotten = "promises-forgotten";
    /// Only what fell due within the last day is seen (I-27).
    NarrowWindow = "narrow-window";
    /// Months are added to the last due date (I-25).
    AnchorDrifts = "anchor-drifts";
    /// A lease that a dead worker left wakes a charge before its time. Was in the product.
    LeaseWakes = "lease-wakes";
    /// The networks' rules are asked when a retry is planned, not when it is made, nor by operators. Was in the product.
    RulesLookedAtOnce = "rules-looked-at-once";
    /// A page whose payment failed in the end is waited for. Was in the product.
    FailedPageWaits = "failed-page-waits";
    /// A canceled PaymentIntent of an earlier generation answers for the attempt under way. Was in the product.
    OldCollectorSpeaks = "old-collector-speaks";
    /// A period that waits for a decision is not told to anybody. Was in the product.
    AskedInSilence = "asked-in-silence";
    /// A cancel or hold between claim and attempt is not seen. Was in the product.
    CancelRaces = "cancel-races";
    /// A restored database, or a copy, goes on as if nothing had happened (I-04, C15, K07).
    WitnessIgnored = "witness-ignored";
    /// What the witness showed before others left their marks is taken for proof of a stranger. Was in the product.
    StrangerAtOnce = "stranger-at-once";
    /// A charge is tried whether or not its customer was told of it first.
    NoticeIgnored = "notice-ignored";
    /// Each charge of a customer mails for itself, two replicas at the same moment too (I18). Was in the product.
    MailsUncounted = "mails-uncounted";
    /// A mail leaves after the lease on it was over. Was in the product.
    MailAfterLease = "mail-after-lease";
}

thread_local! {
    static ON: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Makes this mistake on this thread from now on.
pub fn switch_on(bug: Option<Bug>) {
    ON.set(bug);
}

/// Whether this mistake is made.
#[must_use]
pub fn is_on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

impl Bug {
    /// Reads its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.as_str() == name)
    }
}
