-- The wall between tenants, as around all that belongs to a directory (see the second migration).
DO $wall$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['directory_settings', 'directory_logos', 'user_words', 'login_events'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY wall ON %I USING (current_setting(''mezusphere.scope'', true) = ''installation''
                                             OR directory IN (SELECT id FROM directories))', name);
    END LOOP;
END
$wall$;
