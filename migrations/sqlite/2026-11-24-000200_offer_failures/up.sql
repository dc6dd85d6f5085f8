CREATE TABLE offer_failures (
    session_id TEXT    NOT NULL REFERENCES sessions (id),
    attempt    BIGINT  NOT NULL,
    outcome    TEXT    NOT NULL,
    provider   TEXT    NOT NULL,
    offer_id   TEXT    NOT NULL,
    machine_id TEXT    NOT NULL,
    host_id    TEXT,
    own_image  BOOLEAN NOT NULL,
    at         BIGINT  NOT NULL,
    message    TEXT    NOT NULL,
    PRIMARY KEY (session_id, attempt, outcome)
);
CREATE INDEX offer_failures_by_at ON offer_failures (at);
CREATE INDEX offer_failures_by_machine ON offer_failures (machine_id, at);
