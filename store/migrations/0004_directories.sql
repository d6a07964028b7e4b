-- Directories with settings, users that can be searched, and who signed in when.
-- Tables of their own and no columns: nodes of the version before this one go on meanwhile (see the migration before).

-- What a directory allows and looks like, as JSON; a directory without a row is closed and plain.
CREATE TABLE directory_settings (
    directory  TEXT   NOT NULL PRIMARY KEY REFERENCES directories (id) ON DELETE CASCADE,
    document   TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Apart from the settings, which are read with every page.
CREATE TABLE directory_logos (
    directory  TEXT   NOT NULL PRIMARY KEY REFERENCES directories (id) ON DELETE CASCADE,
    media_type TEXT   NOT NULL,
    bytes      BLOB   NOT NULL
);

-- What a user is found by: the folded address and the folded words of the name. Users a node of the version before this
-- one adds are filled in later.
CREATE TABLE user_words (
    directory TEXT NOT NULL,
    word      TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    PRIMARY KEY (directory, word, user_id),
    FOREIGN KEY (directory, user_id) REFERENCES users (directory, id) ON DELETE CASCADE
);
CREATE INDEX user_words_of_user ON user_words (user_id, word);
CREATE INDEX users_by_status ON users (directory, status, email_key);

-- The last tries to sign in, and what else concerns a user's credentials: for the user and the operator, not for audit.
CREATE TABLE login_events (
    user_id   TEXT   NOT NULL,
    at        BIGINT NOT NULL,
    id        TEXT   NOT NULL,
    directory TEXT   NOT NULL,
    outcome   TEXT   NOT NULL,
    method    TEXT   NOT NULL,
    address   TEXT   NOT NULL,
    agent     TEXT   NOT NULL,
    PRIMARY KEY (user_id, at, id),
    FOREIGN KEY (directory, user_id) REFERENCES users (directory, id) ON DELETE CASCADE
);
