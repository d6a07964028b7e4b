-- The wall between tenants: a certificate belongs to its project, its time-line to it; the installation's own to no tenant.
ALTER TABLE acme_certificates ENABLE ROW LEVEL SECURITY;
ALTER TABLE acme_certificates FORCE ROW LEVEL SECURITY;
CREATE POLICY wall ON acme_certificates USING (
    current_setting('mezusphere.scope', true) = 'installation'
    OR (current_setting('mezusphere.scope', true) = 'organization' AND project IN (SELECT id FROM projects))
    OR project = current_setting('mezusphere.project', true)
);
ALTER TABLE acme_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE acme_events FORCE ROW LEVEL SECURITY;
CREATE POLICY wall ON acme_events USING (
    current_setting('mezusphere.scope', true) = 'installation'
    OR name IN (SELECT name FROM acme_certificates)
);
