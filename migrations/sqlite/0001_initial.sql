-- Ids and states are TEXT, money is BIGINT minor units, instants are BIGINT Unix seconds.
-- The same tables, columns and constraints exist in the other folder; only storage options differ.

CREATE TABLE instance (
    singleton       BIGINT NOT NULL PRIMARY KEY CHECK (singleton = 1),
    id              TEXT NOT NULL,
    stripe_account  TEXT,
    mode            TEXT CHECK (mode IN ('test', 'live')),
    created_at      BIGINT NOT NULL,
    heartbeat_at    BIGINT NOT NULL,
    halted_at       BIGINT,
    halted_why      TEXT,
    cleared_at      BIGINT,
    -- The witness: a customer in Stripe whose metadata hold the newest nonce. A database that does not know what the ...
    witness         TEXT,
    nonce           TEXT,
    -- ... witness shows is older than Stripe, or one of two copies. These came before, the newest first.
    nonces_before   TEXT NOT NULL DEFAULT '',
    nonce_at        BIGINT,
    -- Since when Stripe may know more than this database; empty: it does not.
    behind_since    BIGINT,
    recoveries      BIGINT NOT NULL DEFAULT 0,
    recovered_at    BIGINT
);

-- What each UTC day has seen; the currency '' counts the attempts in all.
CREATE TABLE spending (
    day         BIGINT NOT NULL,
    currency    TEXT NOT NULL,
    attempts    BIGINT NOT NULL,
    sum_minor   BIGINT NOT NULL,
    PRIMARY KEY (day, currency)
);

CREATE TABLE plan_revision (
    plan        TEXT NOT NULL,
    revision    BIGINT NOT NULL CHECK (revision >= 1),
    terms       TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (plan, revision)
);

-- The dunning ladders that cases began on, as they were then.
CREATE TABLE ladder (
    id          BIGINT NOT NULL PRIMARY KEY,
    ladder      TEXT NOT NULL UNIQUE,
    created_at  BIGINT NOT NULL
);

CREATE TABLE customer (
    id                TEXT NOT NULL PRIMARY KEY,
    stripe_customer   TEXT NOT NULL UNIQUE,
    email             TEXT NOT NULL,
    name              TEXT NOT NULL,
    locale            TEXT NOT NULL,
    time_zone         TEXT NOT NULL,
    payment_method    TEXT,
    card_brand        TEXT,
    card_last4        TEXT,
    card_exp_month    BIGINT,
    card_exp_year     BIGINT,
    card_fingerprint  TEXT,
    -- When the customer entered it, by Stripe.
    card_entered_at   BIGINT,
    mail_state        TEXT NOT NULL DEFAULT 'ok' CHECK (mail_state IN ('ok', 'dead')),
    hold_why          TEXT,
    created_at        BIGINT NOT NULL
)
-- Differs: one descent finds a customer by id, not two.
WITHOUT ROWID;

CREATE INDEX customer_by_expiry ON customer (card_exp_year, card_exp_month) WHERE payment_method IS NOT NULL;

CREATE TABLE consent (
    id              TEXT NOT NULL PRIMARY KEY,
    customer_id     TEXT NOT NULL REFERENCES customer (id),
    subscription_id TEXT,
    given_at        BIGINT NOT NULL,
    how             TEXT NOT NULL,
    text            TEXT NOT NULL,
    text_sha256     TEXT NOT NULL,
    session_id      TEXT,
    setup_intent    TEXT,
    payment_method  TEXT,
    mandate         TEXT,
    created_at      BIGINT NOT NULL
);
CREATE INDEX consent_by_customer ON consent (customer_id);

CREATE TABLE subscription (
    id                TEXT NOT NULL PRIMARY KEY,
    customer_id       TEXT NOT NULL REFERENCES customer (id),
    plan              TEXT NOT NULL,
    revision          BIGINT NOT NULL,
    quantity          BIGINT NOT NULL CHECK (quantity >= 1),
    state             TEXT NOT NULL CHECK (state IN ('pending', 'active', 'paused', 'canceled', 'completed')),
    anchor_date       TEXT NOT NULL,
    time_of_day_secs  BIGINT NOT NULL,
    time_zone         TEXT NOT NULL,
    next_index        BIGINT NOT NULL DEFAULT 0,
    next_due_at       BIGINT,
    -- How long before it falls due a period becomes a charge: as long as the notice of it takes.
    ahead_secs        BIGINT NOT NULL DEFAULT 0 CHECK (ahead_secs >= 0),
    ended_at          BIGINT,
    end_reason        TEXT,
    -- When Stripe was told that it was canceled, for a restored backup to find.
    told_at           BIGINT,
    created_at        BIGINT NOT NULL,
    FOREIGN KEY (plan, revision) REFERENCES plan_revision (plan, revision)
);
CREATE INDEX subscription_due ON subscription ((next_due_at - ahead_secs)) WHERE state = 'active' AND next_due_at IS NOT NULL;
-- Nothing more falls due for these: they are complete once their charges are settled.
CREATE INDEX subscription_last ON subscription (id) WHERE state = 'active' AND next_due_at IS NULL;
CREATE INDEX subscription_untold ON subscription (id) WHERE state = 'canceled' AND told_at IS NULL;
CREATE INDEX subscription_by_customer ON subscription (customer_id);

CREATE TABLE charge (
    id                TEXT NOT NULL PRIMARY KEY,
    customer_id       TEXT NOT NULL REFERENCES customer (id),
    subscription_id   TEXT REFERENCES subscription (id),
    period_index      BIGINT,
    plan              TEXT NOT NULL,
    revision          BIGINT NOT NULL,
    amount_minor      BIGINT NOT NULL CHECK (amount_minor >= 0),
    currency          TEXT NOT NULL,
    due_at            BIGINT NOT NULL,
    description       TEXT NOT NULL,
    statement_suffix  TEXT,
    state             TEXT NOT NULL CHECK (state IN ('due', 'collecting', 'past_due', 'link_open', 'processing', 'closing',
                          'needs_review', 'missed', 'paid', 'uncollectible', 'canceled', 'settled')),
    generation        BIGINT NOT NULL DEFAULT 0,
    attempts          BIGINT NOT NULL DEFAULT 0,
    next_at           BIGINT,
    next_action       TEXT CHECK (next_action IN ('collect', 'remind', 'give_up')),
    until_at          BIGINT,
    end_as            TEXT CHECK (end_as IN ('canceled', 'uncollectible', 'paid_outside')),
    -- What a charge waits for that waits for a person. With a corrected address it goes on by itself.
    needs             TEXT CHECK (needs IN ('decision', 'address')),
    reason            TEXT,
    settled_at        BIGINT,
    -- The one that paid. Another one that succeeds has taken the money again.
    payment_intent    TEXT,
    -- What was given back since, as Stripe says.
    refunded_minor    BIGINT NOT NULL DEFAULT 0,
    dunning_since     BIGINT,
    dunning_step      BIGINT,
    dunning_declines  BIGINT,
    -- Payments on its page that the bank refused days later: after some the page takes cards only.
    dunning_late_refusals BIGINT,
    dunning_class     TEXT,
    -- The ladder it goes. Without a foreign key: a case outlives a lost row, and takes the present ladder.
    dunning_ladder    BIGINT,
    -- What the ladder had planned when a try outside of it was put before that.
    aside_at          BIGINT,
    aside_action      TEXT CHECK (aside_action IN ('collect', 'remind', 'give_up')),
    wake_at           BIGINT,
    wake_for          TEXT CHECK (wake_for IN ('collect', 'dun', 'reconcile')),
    lease_owner       TEXT,
    version           BIGINT NOT NULL DEFAULT 0,
    created_at        BIGINT NOT NULL,
    -- A finished charge says when, and nobody wakes for it; an open one does not pretend to be finished.
    CHECK ((state IN ('paid', 'uncollectible', 'canceled', 'settled')) = (settled_at IS NOT NULL)),
    CHECK (settled_at IS NULL OR wake_at IS NULL),
    CHECK ((state = 'paid') = (payment_intent IS NOT NULL)),
    -- A closing charge says how it ends. One that waits for a person remembers it, if an end had been decided.
    CHECK (CASE WHEN end_as IS NULL THEN state <> 'closing' ELSE state IN ('closing', 'needs_review') END),
    CHECK ((state = 'needs_review') = (needs IS NOT NULL)),
    CHECK ((subscription_id IS NULL) = (period_index IS NULL)),
    UNIQUE (subscription_id, period_index)
);
-- Sleeping and finished charges are not in these indexes, so a tick costs what is due and not what exists.
CREATE INDEX charge_wake ON charge (wake_for, wake_at) WHERE wake_at IS NOT NULL;
-- A lease does not change this one, so a claim writes no page for each customer.
CREATE INDEX charge_open_by_customer ON charge (customer_id, due_at, id) WHERE settled_at IS NULL;
-- One charge of a customer at a time.
CREATE UNIQUE INDEX charge_lease ON charge (customer_id) WHERE lease_owner IS NOT NULL;
CREATE INDEX charge_by_customer ON charge (customer_id, due_at);
CREATE INDEX charge_needs_review ON charge (until_at) WHERE state = 'needs_review';

CREATE TABLE attempt (
    charge_id        TEXT NOT NULL REFERENCES charge (id),
    number           BIGINT NOT NULL,
    generation       BIGINT NOT NULL,
    operation        TEXT NOT NULL CHECK (operation IN ('create', 'confirm')),
    idempotency_key  TEXT NOT NULL UNIQUE,
    path             TEXT NOT NULL,
    body             TEXT NOT NULL,
    payment_method   TEXT NOT NULL,
    card_fingerprint TEXT,
    state            TEXT NOT NULL CHECK (state IN ('prepared', 'sending', 'unknown', 'paid', 'declined', 'processing',
                         'rejected', 'void')),
    not_before       BIGINT,
    first_sent_at    BIGINT,
    last_sent_at     BIGINT,
    sends            BIGINT NOT NULL DEFAULT 0,
    misses           BIGINT NOT NULL DEFAULT 0,
    poisoned_at      BIGINT,
    class            TEXT,
    decline          TEXT,
    payment_intent   TEXT,
    stripe_charge    TEXT,
    request_id       TEXT,
    error            TEXT,
    created_at       BIGINT NOT NULL,
    finished_at      BIGINT,
    PRIMARY KEY (charge_id, number),
    CHECK ((state IN ('prepared', 'sending', 'unknown')) = (finished_at IS NULL)),
    CHECK (state IN ('prepared', 'void', 'rejected') OR first_sent_at IS NOT NULL)
);
CREATE UNIQUE INDEX attempt_open ON attempt (charge_id) WHERE finished_at IS NULL;

CREATE TABLE collector (
    charge_id        TEXT NOT NULL REFERENCES charge (id),
    generation       BIGINT NOT NULL,
    kind             TEXT NOT NULL CHECK (kind IN ('payment_intent', 'checkout_session')),
    stripe_id        TEXT UNIQUE,
    state            TEXT NOT NULL CHECK (state IN ('live', 'dead', 'paid')),
    idempotency_key  TEXT UNIQUE,
    body             TEXT,
    first_sent_at    BIGINT,
    closes           BIGINT NOT NULL DEFAULT 0,
    url              TEXT,
    expires_at       BIGINT,
    opened_at        BIGINT NOT NULL,
    closed_at        BIGINT,
    PRIMARY KEY (charge_id, generation)
);
CREATE UNIQUE INDEX collector_live ON collector (charge_id) WHERE state = 'live';

CREATE TABLE network_budget (
    id                TEXT NOT NULL PRIMARY KEY,
    card_fingerprint  TEXT NOT NULL,
    amount_minor      BIGINT NOT NULL,
    currency          TEXT NOT NULL,
    tried_at          BIGINT NOT NULL,
    brand             TEXT,
    refused_at        BIGINT,
    not_before        BIGINT
);
CREATE INDEX network_budget_by_card ON network_budget (card_fingerprint, tried_at);
-- Cards that are not to be tried again until they are entered anew.
CREATE INDEX network_budget_refused ON network_budget (card_fingerprint, refused_at) WHERE refused_at IS NOT NULL;

CREATE TABLE outbox (
    id           TEXT NOT NULL PRIMARY KEY,
    subject      TEXT NOT NULL,
    step         TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('mail', 'alarm', 'adopt_card', 'try_card')),
    charge_id    TEXT REFERENCES charge (id),
    customer_id  TEXT REFERENCES customer (id),
    template     TEXT,
    payload      TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'done', 'dropped', 'failed')),
    tries        BIGINT NOT NULL DEFAULT 0,
    unknowns     BIGINT NOT NULL DEFAULT 0,
    wake_at      BIGINT,
    lease_owner  TEXT,
    error        TEXT,
    created_at   BIGINT NOT NULL,
    done_at      BIGINT,
    CHECK ((state = 'pending') = (done_at IS NULL)),
    UNIQUE (subject, step)
);
CREATE INDEX outbox_wake ON outbox (wake_at) WHERE state = 'pending';
CREATE INDEX outbox_by_customer ON outbox (customer_id, done_at) WHERE kind = 'mail';

CREATE TABLE webhook_event (
    id           TEXT NOT NULL PRIMARY KEY,
    type         TEXT NOT NULL,
    object_id    TEXT,
    object_type  TEXT,
    charge_id    TEXT,
    created      BIGINT NOT NULL,
    received_at  BIGINT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'applied', 'ignored', 'failed')),
    tries        BIGINT NOT NULL DEFAULT 0,
    wake_at      BIGINT,
    error        TEXT
);
CREATE INDEX webhook_event_wake ON webhook_event (wake_at) WHERE state = 'pending';

CREATE TABLE enrolment (
    id               TEXT NOT NULL PRIMARY KEY,
    customer_id      TEXT NOT NULL REFERENCES customer (id),
    subscription_id  TEXT REFERENCES subscription (id),
    charge_id        TEXT REFERENCES charge (id),
    state            TEXT NOT NULL CHECK (state IN ('opening', 'open', 'complete', 'expired')),
    idempotency_key  TEXT NOT NULL UNIQUE,
    body             TEXT NOT NULL,
    consent_text     TEXT NOT NULL,
    session_id       TEXT UNIQUE,
    url              TEXT,
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT,
    completed_at     BIGINT
);
CREATE INDEX enrolment_open ON enrolment (created_at) WHERE state IN ('opening', 'open');
CREATE INDEX enrolment_by_customer ON enrolment (customer_id);

CREATE TABLE pay_link (
    token_hash  TEXT NOT NULL PRIMARY KEY,
    charge_id   TEXT NOT NULL REFERENCES charge (id),
    created_at  BIGINT NOT NULL
);

CREATE TABLE card_link (
    token_hash   TEXT NOT NULL PRIMARY KEY,
    customer_id  TEXT NOT NULL REFERENCES customer (id),
    created_at   BIGINT NOT NULL
);

CREATE TABLE run (
    id           TEXT NOT NULL PRIMARY KEY,
    job          TEXT NOT NULL,
    started_at   BIGINT NOT NULL,
    finished_at  BIGINT,
    report       TEXT,
    error        TEXT
);
CREATE INDEX run_by_job ON run (job, started_at);

CREATE TABLE audit (
    id       TEXT NOT NULL PRIMARY KEY,
    at       BIGINT NOT NULL,
    who      TEXT NOT NULL,
    what     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject, at);
