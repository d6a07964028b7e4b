-- What one edge gives to all requests of a project together, as JSON; a project without a row has no limit.
-- A table of its own and no column: nodes of the version before this one go on meanwhile, and PostgreSQL refuses a statement they
-- have prepared (`SELECT *`) once its table has another column.
CREATE TABLE project_quotas (
    project    TEXT   NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    document   TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);
