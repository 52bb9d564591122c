-- States of checks, alerts and their deliveries; what monitors agree on.

-- What a check last answered, and what is remembered of it between surveys.
CREATE TABLE check_states (
    check_name text        NOT NULL PRIMARY KEY,
    verdict    text        NOT NULL CHECK (verdict IN ('ok', 'warning', 'critical', 'not_allowed', 'not_enough_data')),
    message    text        NOT NULL,
    value      jsonb,
    unit       text,
    threshold  jsonb,
    since      timestamptz NOT NULL,
    checked_at timestamptz NOT NULL,
    details    jsonb       NOT NULL DEFAULT '{}',
    bad_since  timestamptz,
    bad_times  integer     NOT NULL DEFAULT 0,
    good_since timestamptz,
    changes    timestamptz[] NOT NULL DEFAULT '{}'
);
COMMENT ON COLUMN check_states.since IS 'When the verdict began that holds now.';
COMMENT ON COLUMN check_states.details IS 'The whole answer: source, what it does not prove, the next procedure with its parameters.';
COMMENT ON COLUMN check_states.changes IS 'When it turned from good to bad or back, of late: a check that turns often flaps.';

-- The figures of the last days, for the chart of an alert.
CREATE TABLE check_values (
    check_name text             NOT NULL,
    checked_at timestamptz      NOT NULL,
    value      double precision NOT NULL,
    verdict    text             NOT NULL,
    PRIMARY KEY (check_name, checked_at)
);
CREATE INDEX check_values_checked_at ON check_values USING brin (checked_at);

CREATE TABLE alerts (
    alert_id           uuid        NOT NULL PRIMARY KEY,
    cause              text        NOT NULL,
    status             text        NOT NULL CHECK (status IN ('open', 'repeated', 'acknowledged', 'resolved')),
    severity           text        NOT NULL CHECK (severity IN ('warning', 'critical')),
    level              integer     NOT NULL CHECK (level BETWEEN 1 AND 3),
    also_told          integer[]   NOT NULL DEFAULT '{}',
    owner              text,
    since              timestamptz NOT NULL,
    opened_at          timestamptz NOT NULL,
    last_seen_at       timestamptz NOT NULL,
    seen_times         integer     NOT NULL DEFAULT 1,
    evidence           jsonb       NOT NULL DEFAULT '{}',
    flapping           boolean     NOT NULL DEFAULT false,
    flapping_told      boolean     NOT NULL DEFAULT false,
    announced_at       timestamptz,
    announced_severity text,
    told_at            timestamptz,
    level_since        timestamptz,
    acknowledged_at    timestamptz,
    acknowledged_by    text,
    acknowledged_note  text,
    resolved_at        timestamptz,
    resolution         text,
    recovery_told_at   timestamptz,
    filed_late         boolean     NOT NULL DEFAULT false,
    CHECK ((status = 'resolved') = (resolved_at IS NOT NULL)),
    CHECK ((status = 'acknowledged') <= (acknowledged_at IS NOT NULL))
);
COMMENT ON COLUMN alerts.announced_at IS 'When it was first told; NULL while quiet hours or a maintenance window hold it back.';
COMMENT ON COLUMN alerts.filed_late IS 'It arose while this database could not be written, and was filed afterwards.';
-- However many monitors run: one open alert for a cause.
CREATE UNIQUE INDEX alerts_open_cause ON alerts (cause) WHERE resolved_at IS NULL;
CREATE INDEX alerts_opened_at ON alerts (opened_at);
CREATE INDEX alerts_unsettled ON alerts (alert_id)
    WHERE resolved_at IS NULL OR (announced_at IS NOT NULL AND recovery_told_at IS NULL);

-- What is to be sent, to which address: written in the transaction that decides it, so that a monitor
-- that dies in the middle loses nothing. `target` names the address without its secrets.
CREATE TABLE alert_deliveries (
    delivery_id     uuid        NOT NULL PRIMARY KEY,
    alert_id        uuid        REFERENCES alerts ON DELETE CASCADE,
    kind            text        NOT NULL,
    severity        text        NOT NULL CHECK (severity IN ('info', 'success', 'warning', 'critical')),
    target_key      text        NOT NULL,
    target          text        NOT NULL,
    title           text        NOT NULL,
    body            text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    status          text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed', 'superseded')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    lease_until     timestamptz,
    claimed_by      text,
    sent_at         timestamptz,
    seconds         double precision,
    last_error      text,
    filed_late      boolean     NOT NULL DEFAULT false
);
COMMENT ON COLUMN alert_deliveries.kind IS 'opened, worsened, flapping, raised, reminder, resolved; hourly_health, daily_failure_rate; test.';
COMMENT ON COLUMN alert_deliveries.target_key IS 'A digest of the address: monitors send only what they know the address of.';
CREATE INDEX alert_deliveries_pending ON alert_deliveries (next_attempt_at) WHERE status = 'pending';
CREATE INDEX alert_deliveries_alert_id ON alert_deliveries (alert_id);
CREATE INDEX alert_deliveries_created_at ON alert_deliveries (created_at);

-- Turns that one monitor at a time takes, by the clock of this database.
CREATE TABLE monitor_turns (
    turn        text        NOT NULL PRIMARY KEY,
    due_at      timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    claimed_by  text
);
INSERT INTO monitor_turns (turn) VALUES ('survey'), ('observe');

CREATE TABLE monitor_beats (
    monitor          text             NOT NULL PRIMARY KEY,
    host             text             NOT NULL,
    pid              integer          NOT NULL,
    boot_id          text,
    version          text             NOT NULL,
    interval_seconds double precision NOT NULL,
    started_at       timestamptz      NOT NULL DEFAULT now(),
    beat_at          timestamptz      NOT NULL DEFAULT now(),
    turns            bigint           NOT NULL DEFAULT 0,
    problem          text,
    stopped_at       timestamptz
);
COMMENT ON TABLE monitor_beats IS 'Signs of life: a monitor that is silent for three of its intervals is missed by the others.';

-- The reports at fixed times; whoever inserts the time makes the report.
CREATE TABLE monitor_reports (
    kind    text        NOT NULL,
    due_at  timestamptz NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    made_by text        NOT NULL,
    verdict text,
    message text,
    sent    boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (kind, due_at)
);

SELECT hide_from_data_api('check_states'::regclass);
SELECT hide_from_data_api('check_values'::regclass);
SELECT hide_from_data_api('alerts'::regclass);
SELECT hide_from_data_api('alert_deliveries'::regclass);
SELECT hide_from_data_api('monitor_turns'::regclass);
SELECT hide_from_data_api('monitor_beats'::regclass);
SELECT hide_from_data_api('monitor_reports'::regclass);
