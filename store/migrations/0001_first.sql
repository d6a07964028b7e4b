-- The first schema. Times are microseconds since 1970 UTC; ids and names are text; hashes and sealed values are bytes.
-- Written in what SQLite and PostgreSQL have in common. Two things differ there: BLOB is BYTEA, and the reference from
-- directories to projects, which do not exist yet at that point, is added afterwards.
-- Where a row belongs to a tenant, its keys carry the tenant, so that a row cannot refer across tenants.

CREATE TABLE organizations (
    id         TEXT   NOT NULL PRIMARY KEY,
    slug       TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

-- A directory of one project is made before the project that names it: its reference is checked at commit.
CREATE TABLE directories (
    id           TEXT   NOT NULL PRIMARY KEY,
    organization TEXT   NOT NULL REFERENCES organizations (id),
    project      TEXT   REFERENCES projects (id) DEFERRABLE INITIALLY DEFERRED,
    name         TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    UNIQUE (organization, name),
    UNIQUE (organization, id)
);

CREATE TABLE projects (
    id           TEXT   NOT NULL PRIMARY KEY,
    organization TEXT   NOT NULL REFERENCES organizations (id),
    directory    TEXT   NOT NULL,
    slug         TEXT   NOT NULL UNIQUE,
    name         TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    FOREIGN KEY (organization, directory) REFERENCES directories (organization, id)
);
CREATE INDEX projects_of_organization ON projects (organization, slug);
CREATE INDEX projects_of_directory ON projects (directory);

CREATE TABLE environments (
    id            TEXT   NOT NULL PRIMARY KEY,
    project       TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    slug          TEXT   NOT NULL,
    site_revision BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (project, slug),
    UNIQUE (project, id)
);

CREATE TABLE hosts (
    host        TEXT   NOT NULL PRIMARY KEY,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    kind        TEXT   NOT NULL CHECK (kind IN ('endpoint', 'custom')),
    created_at  BIGINT NOT NULL,
    FOREIGN KEY (project, environment) REFERENCES environments (project, id) ON DELETE CASCADE
);
CREATE INDEX hosts_of_environment ON hosts (project, environment);

-- `document` is the route as published; path and methods are repeated so that they can be unique.
CREATE TABLE routes (
    id          TEXT   NOT NULL PRIMARY KEY,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    path        TEXT   NOT NULL,
    methods     TEXT   NOT NULL,
    document    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    UNIQUE (environment, path, methods),
    FOREIGN KEY (project, environment) REFERENCES environments (project, id) ON DELETE CASCADE
);
CREATE INDEX routes_of_environment ON routes (project, environment, position);

-- `email_key` is the address with case folded.
CREATE TABLE users (
    id                  TEXT   NOT NULL PRIMARY KEY,
    directory           TEXT   NOT NULL REFERENCES directories (id) ON DELETE CASCADE,
    email               TEXT   NOT NULL,
    email_key           TEXT   NOT NULL,
    email_verified_at   BIGINT,
    name                TEXT   NOT NULL,
    status              TEXT   NOT NULL CHECK (status IN ('active', 'suspended', 'deactivated')),
    claims              TEXT   NOT NULL,
    version             BIGINT NOT NULL,
    sessions_valid_from BIGINT NOT NULL,
    signed_in_at        BIGINT,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL,
    UNIQUE (directory, email_key),
    UNIQUE (directory, id)
);

CREATE TABLE passwords (
    user_id        TEXT   NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash           TEXT   NOT NULL,
    pepper_version BIGINT NOT NULL,
    changed_at     BIGINT NOT NULL
);

CREATE TABLE roles (
    project     TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name        TEXT   NOT NULL,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE role_permissions (
    project    TEXT NOT NULL,
    role       TEXT NOT NULL,
    permission TEXT NOT NULL,
    PRIMARY KEY (project, role, permission),
    FOREIGN KEY (project, role) REFERENCES roles (project, name) ON DELETE CASCADE
);

CREATE TABLE user_roles (
    project    TEXT   NOT NULL,
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role       TEXT   NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (project, user_id, role),
    FOREIGN KEY (project, role) REFERENCES roles (project, name) ON DELETE CASCADE
);
CREATE INDEX user_roles_of_role ON user_roles (project, role, user_id);
CREATE INDEX user_roles_of_user ON user_roles (user_id);

CREATE TABLE service_accounts (
    id          TEXT   NOT NULL PRIMARY KEY,
    project     TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name        TEXT   NOT NULL,
    description TEXT   NOT NULL,
    status      TEXT   NOT NULL CHECK (status IN ('active', 'suspended', 'deactivated')),
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (project, name),
    UNIQUE (project, id)
);

CREATE TABLE service_account_roles (
    project    TEXT   NOT NULL,
    account    TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (project, account, role),
    FOREIGN KEY (project, account) REFERENCES service_accounts (project, id) ON DELETE CASCADE,
    FOREIGN KEY (project, role) REFERENCES roles (project, name) ON DELETE CASCADE
);
CREATE INDEX service_account_roles_of_role ON service_account_roles (project, role, account);

CREATE TABLE api_keys (
    id           TEXT   NOT NULL PRIMARY KEY,
    secret_hash  BLOB   NOT NULL,
    project      TEXT   NOT NULL,
    account      TEXT   NOT NULL,
    environment  TEXT,
    scopes       TEXT   NOT NULL,
    hint         TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT,
    FOREIGN KEY (project, account) REFERENCES service_accounts (project, id) ON DELETE CASCADE,
    FOREIGN KEY (project, environment) REFERENCES environments (project, id) ON DELETE CASCADE
);
CREATE INDEX api_keys_of_account ON api_keys (project, account, created_at);
CREATE INDEX api_keys_of_environment ON api_keys (project, environment);

-- `scope` is 'installation' or the id of an organization or a project.
CREATE TABLE operator_grants (
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    scope      TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, scope, role)
);
CREATE INDEX operator_grants_of_scope ON operator_grants (scope, user_id);

CREATE TABLE sign_ins (
    id               TEXT   NOT NULL PRIMARY KEY,
    token_hash       BLOB   NOT NULL UNIQUE,
    directory        TEXT   NOT NULL,
    user_id          TEXT   NOT NULL,
    methods          TEXT   NOT NULL,
    assurance        TEXT   NOT NULL,
    authenticated_at BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    idle_s_max       BIGINT NOT NULL,
    seen_at          BIGINT NOT NULL,
    address          TEXT   NOT NULL,
    agent            TEXT   NOT NULL,
    ended_at         BIGINT,
    FOREIGN KEY (directory, user_id) REFERENCES users (directory, id) ON DELETE CASCADE
);
CREATE INDEX sign_ins_of_user ON sign_ins (directory, user_id, id);
CREATE INDEX sign_ins_by_end ON sign_ins (expires_at);

-- `published_seen_at` is the `seen_at` of the session's newest published document.
CREATE TABLE sessions (
    id                TEXT   NOT NULL PRIMARY KEY,
    token_hash        BLOB   NOT NULL UNIQUE,
    project           TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    sign_in           TEXT   NOT NULL REFERENCES sign_ins (id) ON DELETE CASCADE,
    user_id           TEXT   NOT NULL,
    host              TEXT   NOT NULL,
    methods           TEXT   NOT NULL,
    assurance         TEXT   NOT NULL,
    authenticated_at  BIGINT NOT NULL,
    issued_at         BIGINT NOT NULL,
    expires_at        BIGINT NOT NULL,
    idle_s_max        BIGINT NOT NULL,
    seen_at           BIGINT NOT NULL,
    published_seen_at BIGINT NOT NULL,
    ended_at          BIGINT
);
CREATE INDEX sessions_of_sign_in ON sessions (sign_in);
CREATE INDEX sessions_of_user ON sessions (project, user_id, id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Revocations that are on the feed, and until when they must be.
CREATE TABLE revocations (
    project   TEXT   NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    sign_in   TEXT   NOT NULL,
    forget_at BIGINT NOT NULL,
    PRIMARY KEY (project, sign_in)
);
CREATE INDEX revocations_by_end ON revocations (forget_at);

CREATE TABLE hand_offs (
    code_hash   BLOB   NOT NULL PRIMARY KEY,
    sign_in     TEXT   NOT NULL REFERENCES sign_ins (id) ON DELETE CASCADE,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    host        TEXT   NOT NULL,
    state_hash  TEXT   NOT NULL,
    return_to   TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    used_at     BIGINT,
    FOREIGN KEY (project, environment) REFERENCES environments (project, id) ON DELETE CASCADE
);
CREATE INDEX hand_offs_of_sign_in ON hand_offs (sign_in);
CREATE INDEX hand_offs_of_environment ON hand_offs (project, environment);
CREATE INDEX hand_offs_by_end ON hand_offs (expires_at);

CREATE TABLE one_time_links (
    token_hash BLOB   NOT NULL PRIMARY KEY,
    purpose    TEXT   NOT NULL,
    directory  TEXT   NOT NULL,
    user_id    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (directory, user_id) REFERENCES users (directory, id) ON DELETE CASCADE
);
CREATE INDEX one_time_links_of_user ON one_time_links (directory, user_id, purpose);
CREATE INDEX one_time_links_by_end ON one_time_links (expires_at);

CREATE TABLE secrets (
    name       TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    state      TEXT   NOT NULL CHECK (state IN ('next', 'current', 'retiring')),
    sealed     BLOB   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE TABLE nodes (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    region     TEXT   NOT NULL,
    host       TEXT   NOT NULL,
    port       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    denied_at  BIGINT
);

CREATE TABLE warpgates (
    id          TEXT   NOT NULL PRIMARY KEY,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    api_key     TEXT   NOT NULL,
    hostname    TEXT   NOT NULL,
    agent       TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    not_after   BIGINT NOT NULL,
    UNIQUE (project, environment, id),
    FOREIGN KEY (project, environment) REFERENCES environments (project, id) ON DELETE CASCADE
);
CREATE INDEX warpgates_by_end ON warpgates (not_after);

CREATE TABLE tunnels (
    warpgate    TEXT   NOT NULL,
    edge        TEXT   NOT NULL,
    project     TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    remote      TEXT   NOT NULL,
    agent       TEXT   NOT NULL,
    upstreams   TEXT   NOT NULL,
    connected   BIGINT NOT NULL,
    since       BIGINT NOT NULL,
    PRIMARY KEY (warpgate, edge),
    FOREIGN KEY (project, environment, warpgate) REFERENCES warpgates (project, environment, id) ON DELETE CASCADE
);
CREATE INDEX tunnels_of_environment ON tunnels (project, environment);
CREATE INDEX tunnels_of_edge ON tunnels (edge);

CREATE TABLE issued_certificates (
    fingerprint BLOB   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    project     TEXT,
    not_before  BIGINT NOT NULL,
    not_after   BIGINT NOT NULL,
    issued_at   BIGINT NOT NULL
);
CREATE INDEX issued_certificates_by_name ON issued_certificates (name, issued_at);
CREATE INDEX issued_certificates_by_time ON issued_certificates (issued_at, fingerprint);
CREATE INDEX issued_certificates_by_end ON issued_certificates (not_after);

CREATE TABLE audit_heads (
    organization TEXT   NOT NULL PRIMARY KEY REFERENCES organizations (id),
    sequence     BIGINT NOT NULL,
    hash         BLOB   NOT NULL
);

CREATE TABLE audit_entries (
    organization TEXT   NOT NULL REFERENCES organizations (id),
    sequence     BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    project      TEXT,
    actor        TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    target       TEXT   NOT NULL,
    address      TEXT,
    detail       TEXT   NOT NULL,
    hash         BLOB   NOT NULL,
    PRIMARY KEY (organization, sequence)
);

CREATE TABLE settings (
    name       TEXT   NOT NULL PRIMARY KEY,
    value      TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE leases (
    name       TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    token      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- `pruned_to`: every entry after this revision is still there.
CREATE TABLE feed_heads (
    partition TEXT   NOT NULL PRIMARY KEY,
    revision  BIGINT NOT NULL,
    digest    BLOB   NOT NULL,
    pruned_to BIGINT NOT NULL
);

-- `is_current`: the newest entry of its key. A tombstone has neither body nor sealed body.
CREATE TABLE feed_entries (
    partition  TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    key        TEXT   NOT NULL,
    body       TEXT,
    sealed     BLOB,
    digest     BLOB   NOT NULL,
    is_current BIGINT NOT NULL,
    PRIMARY KEY (partition, revision)
);
CREATE UNIQUE INDEX feed_entries_current ON feed_entries (partition, key) WHERE is_current = 1;
CREATE INDEX feed_entries_by_key ON feed_entries (key) WHERE is_current = 1;
