-- The newest row of every window, and every row it replaced.
CREATE TABLE signals (
    signal text NOT NULL,
    entity text NOT NULL,
    window_start bigint NOT NULL,
    window_end bigint NOT NULL,
    domain text NOT NULL,
    value double precision,
    lo double precision,
    hi double precision,
    n bigint NOT NULL,
    n_eff double precision NOT NULL,
    authors bigint NOT NULL,
    buzz double precision NOT NULL,
    status text NOT NULL CHECK (status IN ('provisional', 'final', 'revised')),
    revision bigint NOT NULL,
    watermark bigint NOT NULL,
    model text NOT NULL,
    ontology text NOT NULL,
    reasons text[] NOT NULL,
    recorded_ms bigint NOT NULL,
    PRIMARY KEY (signal, entity, window_start, window_end)
);
CREATE INDEX signals_by_time ON signals (signal, window_end);
COMMENT ON TABLE signals IS 'One row per (signal, entity, window): of all revisions the newest, by (revision, n). Times in epoch milliseconds UTC, windows half-open, unknown is null.';
COMMENT ON COLUMN signals.recorded_ms IS 'When the row was appended to the signal topic, epoch milliseconds.';

CREATE TABLE signal_revisions (
    LIKE signals INCLUDING CONSTRAINTS,
    PRIMARY KEY (signal, entity, window_start, window_end, revision, n, status, watermark)
);
CREATE INDEX signal_revisions_by_record ON signal_revisions (recorded_ms);
COMMENT ON TABLE signal_revisions IS 'Rows as they were published; nothing here is ever changed.';

CREATE FUNCTION signals_as_of(at_ms bigint) RETURNS SETOF signal_revisions LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (signal, entity, window_start, window_end) *
    FROM signal_revisions
    WHERE recorded_ms <= at_ms
    ORDER BY signal, entity, window_start, window_end,
             revision DESC, n DESC, (status <> 'provisional') DESC, watermark DESC
$$;
COMMENT ON FUNCTION signals_as_of IS 'The table as it stood at a moment (epoch milliseconds): what was known then, no look-ahead.';

CREATE VIEW signal_points AS
    SELECT to_timestamp(window_end / 1000.0) AS time, to_timestamp(window_start / 1000.0) AS since, *
    FROM signals;
COMMENT ON VIEW signal_points IS 'signals with times as timestamps, for dashboards.';
