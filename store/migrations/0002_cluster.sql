-- What a cluster needs: several control nodes beside each other, edges that were invited, and how far each has come.

-- What a node says of itself. `node_host` and `node_port`: where nodes reach a control node; `connected_to`: the control
-- node an edge's link is on now. An empty text and 0: nothing known.
ALTER TABLE nodes ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN node_host TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN node_port BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN draining_at BIGINT;
ALTER TABLE nodes ADD COLUMN connected_to TEXT;

-- Invitations of edges. The secret of a join token is never kept, only its hash.
CREATE TABLE invitations (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    secret_hash BLOB   NOT NULL,
    created_by  TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT,
    used_by     TEXT,
    revoked_at  BIGINT
);
CREATE INDEX invitations_by_end ON invitations (expires_at);

-- How far each follower of the feed is, as it last said, so that every control node knows.
CREATE TABLE applied (
    follower  TEXT   NOT NULL,
    partition TEXT   NOT NULL,
    epoch     TEXT   NOT NULL,
    revision  BIGINT NOT NULL,
    digest    BLOB   NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (follower, partition)
);
CREATE INDEX applied_by_partition ON applied (partition, follower);
CREATE INDEX applied_by_time ON applied (at);
