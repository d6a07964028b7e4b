-- The second wall between tenants, and the queue of writers. SQLite has neither: there one writer at a time is alone.

-- Nothing is ever written here: its lock is where serializable transactions that met each other queue.
CREATE TABLE write_queue (nothing BIGINT);

-- Row-level security. A transaction says whom it is for:
--   mezusphere.scope        'installation', 'organization' or 'project'; a session that says nothing sees nothing
--   mezusphere.organization its organization, unless it is for the installation
--   mezusphere.project      its project, if it is for one
-- FORCE, because the server's own role owns the tables. Superusers and roles with BYPASSRLS are not held by it.
DO $wall$
DECLARE
    whole   CONSTANT TEXT := $$current_setting('mezusphere.scope', true) = 'installation'$$;
    several CONSTANT TEXT := $$current_setting('mezusphere.scope', true) = 'organization'$$;
    org     CONSTANT TEXT := $$current_setting('mezusphere.organization', true)$$;
    prj     CONSTANT TEXT := $$current_setting('mezusphere.project', true)$$;
    -- The wall around `projects` and `directories` narrows these further.
    in_projects CONSTANT TEXT := format('(%s AND %%1$I IN (SELECT id FROM projects)) OR %%1$I = %s', several, prj);
    walls CONSTANT TEXT[][] := ARRAY[
        ['organizations', format('id = %s', org)],
        ['directories', format('organization = %s AND (%s OR project IS NULL OR project = %s)', org, several, prj)],
        ['projects', format('organization = %s AND (%s OR id = %s)', org, several, prj)],
        ['environments', format(in_projects, 'project')],
        ['hosts', format(in_projects, 'project')],
        ['routes', format(in_projects, 'project')],
        ['roles', format(in_projects, 'project')],
        ['role_permissions', format(in_projects, 'project')],
        ['user_roles', format(in_projects, 'project')],
        ['service_accounts', format(in_projects, 'project')],
        ['service_account_roles', format(in_projects, 'project')],
        ['api_keys', format(in_projects, 'project')],
        ['sessions', format(in_projects, 'project')],
        ['revocations', format(in_projects, 'project')],
        ['hand_offs', format(in_projects, 'project')],
        ['warpgates', format(in_projects, 'project')],
        ['tunnels', format(in_projects, 'project')],
        ['issued_certificates', format(in_projects, 'project')],
        ['users', 'directory IN (SELECT id FROM directories)'],
        ['passwords', 'user_id IN (SELECT id FROM users)'],
        ['sign_ins', 'directory IN (SELECT id FROM directories)'],
        ['one_time_links', 'directory IN (SELECT id FROM directories)'],
        ['operator_grants', format('(%s AND scope = %s) OR ', several, org) || format(in_projects, 'scope')],
        ['audit_heads', format('organization = %s', org)],
        ['audit_entries', format('organization = %s', org)],
        ['feed_heads', format('%1$s <> '''' AND (partition IN (''platform'', %1$s) OR ', org)
                       || format(in_projects, 'partition') || ')'],
        ['feed_entries', format('%1$s <> '''' AND (partition IN (''platform'', %1$s) OR ', org)
                         || format(in_projects, 'partition') || ')'],
        -- Keys of the installation: never for one tenant.
        ['secrets', 'false']
    ];
BEGIN
    FOR n IN 1 .. array_length(walls, 1) LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', walls[n][1]);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', walls[n][1]);
        EXECUTE format('CREATE POLICY wall ON %I USING (%s OR (%s))', walls[n][1], whole, walls[n][2]);
    END LOOP;
END
$wall$;
