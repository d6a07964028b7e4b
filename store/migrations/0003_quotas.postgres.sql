-- The wall between tenants, as around all that belongs to a project (see the migration before this one).
ALTER TABLE project_quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE project_quotas FORCE ROW LEVEL SECURITY;
CREATE POLICY wall ON project_quotas USING (
    current_setting('mezusphere.scope', true) = 'installation'
    OR (current_setting('mezusphere.scope', true) = 'organization' AND project IN (SELECT id FROM projects))
    OR project = current_setting('mezusphere.project', true)
);
