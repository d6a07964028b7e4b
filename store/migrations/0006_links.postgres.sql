-- The wall between tenants: a link belongs to its directory.
ALTER TABLE links ENABLE ROW LEVEL SECURITY;
ALTER TABLE links FORCE ROW LEVEL SECURITY;
CREATE POLICY wall ON links USING (
    current_setting('mezusphere.scope', true) = 'installation'
    OR directory IN (SELECT id FROM directories)
);
