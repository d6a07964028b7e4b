-- The wall between tenants: a mail belongs to its directory.
ALTER TABLE mails ENABLE ROW LEVEL SECURITY;
ALTER TABLE mails FORCE ROW LEVEL SECURITY;
CREATE POLICY wall ON mails USING (
    current_setting('mezusphere.scope', true) = 'installation'
    OR directory IN (SELECT id FROM directories)
);
