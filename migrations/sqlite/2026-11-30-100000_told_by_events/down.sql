-- Request and labels are the last members of a session's JSON, which is the last member of its event's.
UPDATE sessions SET detail = (
    SELECT json_remove(json_extract(events.detail, '$.session'), '$.request', '$.labels') FROM events WHERE events.revision = sessions.revision
) WHERE detail = '';
