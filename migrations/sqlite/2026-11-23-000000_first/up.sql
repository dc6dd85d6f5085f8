CREATE TABLE sessions (
    id             TEXT    NOT NULL PRIMARY KEY,
    consumer_id    TEXT    NOT NULL,
    provider       TEXT,
    offer_id       TEXT,
    gpu_type       TEXT,
    gpu_count      BIGINT,
    status         TEXT    NOT NULL,
    stage          TEXT    NOT NULL,
    end_reason     TEXT,
    error          TEXT,
    status_message TEXT    NOT NULL,
    workload_type  TEXT    NOT NULL,
    price_nanos    BIGINT  NOT NULL,
    cost_nanos     BIGINT  NOT NULL,
    cost_final     BOOLEAN NOT NULL,
    ssh_host       TEXT,
    ssh_port       BIGINT,
    ssh_user       TEXT,
    created_at     TEXT    NOT NULL,
    updated_at     TEXT    NOT NULL,
    expires_at     TEXT    NOT NULL,
    hard_max_at    TEXT    NOT NULL,
    running_at     TEXT,
    stopped_at     TEXT,
    attempt        BIGINT  NOT NULL,
    version        BIGINT  NOT NULL,
    revision       BIGINT  NOT NULL,
    sequence       BIGINT  NOT NULL,
    labels         TEXT    NOT NULL,
    request        TEXT    NOT NULL,
    detail         TEXT    NOT NULL
);
CREATE INDEX sessions_by_status ON sessions (status, provider);
CREATE INDEX sessions_by_created_at ON sessions (created_at);
CREATE INDEX sessions_by_consumer ON sessions (consumer_id, id);

CREATE TABLE session_labels (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (session_id, key)
);
CREATE INDEX session_labels_by_value ON session_labels (key, value, session_id);

CREATE TABLE instances (
    label           TEXT   NOT NULL PRIMARY KEY,
    session_id      TEXT   NOT NULL REFERENCES sessions (id),
    attempt         BIGINT NOT NULL,
    provider        TEXT   NOT NULL,
    account         TEXT   NOT NULL,
    native_id       TEXT,
    offer_id        TEXT   NOT NULL,
    machine_id      TEXT   NOT NULL,
    gpu_type        TEXT,
    desired         TEXT   NOT NULL,
    launch          TEXT   NOT NULL,
    settled_at      BIGINT,
    evidence        TEXT,
    created_at      BIGINT NOT NULL,
    destroy_tries   BIGINT NOT NULL,
    next_destroy_at BIGINT,
    rate_picos      BIGINT NOT NULL,
    last_error      TEXT,
    detail          TEXT   NOT NULL,
    UNIQUE (session_id, attempt)
);
CREATE INDEX instances_unsettled ON instances (session_id) WHERE settled_at IS NULL;

CREATE TABLE segments (
    session_id TEXT   NOT NULL,
    attempt    BIGINT NOT NULL,
    ordinal    BIGINT NOT NULL,
    component  TEXT   NOT NULL,
    rate_picos BIGINT NOT NULL,
    from_low   BIGINT NOT NULL,
    from_at    BIGINT NOT NULL,
    to_at      BIGINT NOT NULL,
    to_high    BIGINT,
    PRIMARY KEY (session_id, attempt, ordinal),
    FOREIGN KEY (session_id, attempt) REFERENCES instances (session_id, attempt)
);
CREATE INDEX segments_by_time ON segments (from_low);

CREATE TABLE events (
    revision   INTEGER NOT NULL PRIMARY KEY,
    session_id TEXT    NOT NULL REFERENCES sessions (id),
    sequence   BIGINT  NOT NULL,
    kind       TEXT    NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    stage      TEXT    NOT NULL,
    end_reason TEXT,
    actor      TEXT    NOT NULL,
    at         BIGINT  NOT NULL,
    message    TEXT    NOT NULL,
    cost_nanos BIGINT  NOT NULL,
    detail     TEXT    NOT NULL
);
CREATE INDEX events_by_session ON events (session_id, revision);

CREATE TABLE requests (
    principal      TEXT   NOT NULL,
    method         TEXT   NOT NULL,
    request_id     TEXT   NOT NULL,
    hash           TEXT   NOT NULL,
    session_id     TEXT   NOT NULL REFERENCES sessions (id),
    created_at     BIGINT NOT NULL,
    watch_revision BIGINT NOT NULL,
    sealed         BLOB,
    PRIMARY KEY (principal, method, request_id)
);
CREATE INDEX requests_by_session ON requests (session_id);
CREATE INDEX requests_by_created_at ON requests (created_at);

CREATE TABLE timelines (
    id             BIGINT NOT NULL PRIMARY KEY,
    first_revision BIGINT NOT NULL,
    opened_at      BIGINT NOT NULL
);

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE VIEW sessions_usd AS
SELECT id, consumer_id, provider, offer_id, gpu_type, gpu_count, status, stage, end_reason, error, status_message, workload_type,
       price_nanos / 1000000000.0 AS price_per_hour, cost_nanos / 1000000000.0 AS cost, cost_final,
       ssh_host, ssh_port, ssh_user, created_at, updated_at, expires_at, hard_max_at, running_at, stopped_at, attempt, labels
FROM sessions;
