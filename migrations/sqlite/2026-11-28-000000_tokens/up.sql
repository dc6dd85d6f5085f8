CREATE TABLE tokens (
    name        TEXT   NOT NULL PRIMARY KEY,
    role        TEXT   NOT NULL,
    consumer_id TEXT,
    hash        BLOB   NOT NULL UNIQUE,
    created_at  BIGINT NOT NULL,
    created_by  TEXT   NOT NULL,
    expires_at  BIGINT,
    revoked_at  BIGINT,
    revoked_by  TEXT
);
