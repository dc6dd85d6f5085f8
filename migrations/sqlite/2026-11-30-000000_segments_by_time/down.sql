CREATE INDEX segments_by_time ON segments (from_low);
