-- The wall between tenants: a claim belongs to its project.
ALTER TABLE host_claims ENABLE ROW LEVEL SECURITY;
ALTER TABLE host_claims FORCE ROW LEVEL SECURITY;
CREATE POLICY wall ON host_claims USING (
    current_setting('mezusphere.scope', true) = 'installation'
    OR (current_setting('mezusphere.scope', true) = 'organization' AND project IN (SELECT id FROM projects))
    OR project = current_setting('mezusphere.project', true)
);
