-- Mails that wait to be sent, and those that could not be. What they say is sealed: it holds links that sign people in.
CREATE TABLE mails (
    id         TEXT   NOT NULL PRIMARY KEY,
    directory  TEXT   NOT NULL REFERENCES directories (id) ON DELETE CASCADE,
    recipient  TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    state      TEXT   NOT NULL CHECK (state IN ('queued', 'sending', 'failed')),
    -- Fencing token of the lease under which it is being sent: a holder that slept past its end cannot touch it.
    claim      BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    give_up_at BIGINT NOT NULL,
    error      TEXT,
    sealed     BLOB   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX mails_due ON mails (state, next_at);
CREATE INDEX mails_of_directory ON mails (directory, state);
CREATE INDEX mails_in_order ON mails (created_at, id);
