-- Public certificates from a certificate authority: one row for each set of names, born with the first route of a host
-- (or with the installation, for its own hosts), gone with the host.
CREATE TABLE acme_certificates (
    -- The first of its names, under which the certificate is filed on the feed.
    name               TEXT   NOT NULL PRIMARY KEY,
    names              TEXT   NOT NULL,
    -- The host whose certificate this is; none: the installation's own.
    host               TEXT   REFERENCES hosts (host) ON DELETE CASCADE,
    project            TEXT,
    state              TEXT   NOT NULL CHECK (state IN ('waiting', 'ordering', 'valid', 'failed')),
    -- The directory of the authority that is asked.
    directory          TEXT   NOT NULL,
    order_url          TEXT,
    -- Private key of the order under way, sealed.
    sealed_order_key   BLOB,
    -- Failures in a row.
    attempts           BIGINT NOT NULL,
    -- When something is done about it next: a try, another look at the renewal window, a renewal.
    next_at            BIGINT NOT NULL,
    -- Why the last try failed, as JSON.
    error              TEXT,
    -- Chain and private key in use, sealed.
    sealed_certificate BLOB,
    -- What is known of the certificate in use, as JSON: its times, its fingerprint, when it is renewed.
    certificate        TEXT,
    created_at         BIGINT NOT NULL
);
CREATE INDEX acme_certificates_due ON acme_certificates (next_at, name);
CREATE INDEX acme_certificates_of_project ON acme_certificates (project, name);
CREATE INDEX acme_certificates_of_host ON acme_certificates (host);

-- What happened, for people: the newest of each certificate.
CREATE TABLE acme_events (
    name     TEXT   NOT NULL REFERENCES acme_certificates (name) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    text     TEXT   NOT NULL,
    PRIMARY KEY (name, sequence)
);
