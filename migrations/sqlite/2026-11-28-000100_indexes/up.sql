-- A page of sessions is read along the index that its filter names, newest first, whatever the history holds.
DROP INDEX sessions_by_status;
CREATE INDEX sessions_by_status ON sessions (status, id);
CREATE INDEX sessions_by_consumer_status ON sessions (consumer_id, status, id);
CREATE INDEX sessions_by_provider ON sessions (provider, id);
CREATE INDEX sessions_by_stopped_at ON sessions (stopped_at);
-- When a stretch of metered time can't cost anything any more: what a report over a window is read along.
ALTER TABLE segments ADD COLUMN over_at BIGINT GENERATED ALWAYS AS (
    CASE WHEN to_high IS NULL THEN 9223372036854775807 WHEN to_high > to_at THEN to_high ELSE to_at END
) VIRTUAL;
CREATE INDEX segments_by_over_at ON segments (over_at);
