-- One-time links of every flow: for users, and for addresses that belong to nobody yet.
-- A table beside `one_time_links` and not a change of it: nodes of the version before this one go on meanwhile, and their links
-- live half an hour.
CREATE TABLE links (
    token_hash BLOB   NOT NULL PRIMARY KEY,
    id         TEXT   NOT NULL UNIQUE,
    purpose    TEXT   NOT NULL,
    directory  TEXT   NOT NULL REFERENCES directories (id) ON DELETE CASCADE,
    user_id    TEXT,
    -- To which address it was mailed; an empty text: it was handed over.
    email      TEXT   NOT NULL,
    -- For whom, as links of one purpose are counted: a user's id, or an address, folded.
    subject    TEXT   NOT NULL,
    -- What it does beside, as JSON.
    detail     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (directory, user_id) REFERENCES users (directory, id) ON DELETE CASCADE
);
CREATE INDEX links_of_subject ON links (directory, purpose, subject, created_at);
CREATE INDEX links_of_user ON links (directory, user_id);
CREATE INDEX links_by_end ON links (expires_at);
