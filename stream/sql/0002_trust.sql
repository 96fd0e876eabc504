-- How far a value is to be trusted: weight taken from loud authors, share scored under overload, confusions undone.
ALTER TABLE signals
    ADD COLUMN capped double precision NOT NULL DEFAULT 0,
    ADD COLUMN sampled double precision NOT NULL DEFAULT 1,
    ADD COLUMN corrected double precision,
    ADD COLUMN corrected_lo double precision,
    ADD COLUMN corrected_hi double precision;
ALTER TABLE signal_revisions
    ADD COLUMN capped double precision NOT NULL DEFAULT 0,
    ADD COLUMN sampled double precision NOT NULL DEFAULT 1,
    ADD COLUMN corrected double precision,
    ADD COLUMN corrected_lo double precision,
    ADD COLUMN corrected_hi double precision;

-- A view keeps the columns it was made with.
DROP VIEW signal_points;
CREATE VIEW signal_points AS
    SELECT to_timestamp(window_end / 1000.0) AS time, to_timestamp(window_start / 1000.0) AS since, *
    FROM signals;
COMMENT ON VIEW signal_points IS 'signals with times as timestamps, for dashboards.';
