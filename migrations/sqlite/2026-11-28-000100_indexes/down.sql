DROP INDEX segments_by_over_at;
ALTER TABLE segments DROP COLUMN over_at;
DROP INDEX sessions_by_stopped_at;
DROP INDEX sessions_by_provider;
DROP INDEX sessions_by_consumer_status;
DROP INDEX sessions_by_status;
CREATE INDEX sessions_by_status ON sessions (status, provider);
