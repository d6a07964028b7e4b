-- Custom domains that somebody has asked for and not yet proven to be theirs. A table beside `hosts`, not a state in it: nothing that
-- publishes reads it, so nothing that is unproven can be published, by nodes of the version before this one neither.
-- Several projects may claim one host; who proves it first gets the one row in `hosts`.
CREATE TABLE host_claims (
    host        TEXT   NOT NULL,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    -- What its DNS record must say. No secret: it is published there.
    token       TEXT   NOT NULL,
    attempts    BIGINT NOT NULL,
    -- What the last look found instead of the record.
    error       TEXT,
    checked_at  BIGINT,
    next_at     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (host, project),
    FOREIGN KEY (project, environment) REFERENCES environments (project, id) ON DELETE CASCADE
);
CREATE INDEX host_claims_of_environment ON host_claims (project, environment);
CREATE INDEX host_claims_by_time ON host_claims (next_at);
CREATE INDEX host_claims_by_end ON host_claims (expires_at);
