# Sourced by the other scripts, after install.sh: a PostgreSQL of the test run's own.

# need_postgres: installs the server where it is missing, starts a private cluster on a free port, and exports
# MEZU_TEST_POSTGRES, the URL of a role that may create databases and is no superuser. Does nothing if that is set.
# The cluster is thrown away when the script ends; an EXIT trap of the script's own must call stop_postgres.
need_postgres() {
    [ -z "${MEZU_TEST_POSTGRES-}" ] || return 0
    local bin port password
    bin=$(postgres_programs)
    if [ -z "$bin" ]; then
        # Debian starts a cluster of its own after installing, which nobody here needs.
        if [ ! -e /etc/postgresql-common/createcluster.conf ] && [ "$(id -u)" = 0 ]; then
            mkdir -p /etc/postgresql-common
            echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        fi
        need_debian pg_ctl postgresql || true
        bin=$(postgres_programs)
    fi
    if [ -z "$bin" ]; then
        echo "error: no PostgreSQL server was found" >&2
        echo "  next: install it (apt-get install postgresql), or set MEZU_TEST_POSTGRES to the URL of one" >&2
        exit 1
    fi

    MEZU_POSTGRES_DIR=$(mktemp -d "${TMPDIR:-/tmp}/mezu-postgres.XXXXXX")
    MEZU_POSTGRES_BIN=$bin
    # initdb refuses to run as root.
    MEZU_POSTGRES_AS=
    if [ "$(id -u)" = 0 ]; then
        MEZU_POSTGRES_AS=postgres
        getent passwd postgres >/dev/null || MEZU_POSTGRES_AS=nobody
        chown "$MEZU_POSTGRES_AS" "$MEZU_POSTGRES_DIR"
    fi
    trap stop_postgres EXIT

    # Nothing outlives the run, so nothing is written through: four times as fast.
    as_postgres "$bin/initdb" --pgdata="$MEZU_POSTGRES_DIR/data" --username=admin --auth=trust --encoding=UTF8 \
        --locale=C --no-sync >"$MEZU_POSTGRES_DIR/initdb.log"
    cat >>"$MEZU_POSTGRES_DIR/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$MEZU_POSTGRES_DIR'
max_connections = 200
fsync = off
synchronous_commit = off
full_page_writes = off
CONF
    # A port that is free now may be taken a moment later: then the next one is tried.
    for port in $(shuf -i 20000-32000 -n 20); do
        if as_postgres "$bin/pg_ctl" --pgdata="$MEZU_POSTGRES_DIR/data" --log="$MEZU_POSTGRES_DIR/server.log" \
            --options="-p $port" --wait --timeout=30 start >/dev/null 2>&1; then
            break
        fi
        port=
    done
    if [ -z "$port" ]; then
        echo "error: PostgreSQL did not start" >&2
        tail -n 20 "$MEZU_POSTGRES_DIR/server.log" >&2 || true
        exit 1
    fi
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    "$bin/psql" -X -q -h 127.0.0.1 -p "$port" -U admin -d postgres -c \
        "CREATE ROLE mezusphere LOGIN CREATEDB PASSWORD '$password'"
    export MEZU_TEST_POSTGRES="postgres://mezusphere:$password@127.0.0.1:$port/postgres"
}

# Stops and removes what need_postgres started.
stop_postgres() {
    [ -n "${MEZU_POSTGRES_DIR-}" ] || return 0
    as_postgres "$MEZU_POSTGRES_BIN/pg_ctl" --pgdata="$MEZU_POSTGRES_DIR/data" --mode=immediate --silent stop || true
    rm -rf "$MEZU_POSTGRES_DIR"
    MEZU_POSTGRES_DIR=
    unset MEZU_TEST_POSTGRES
}

# The folder of the newest server's programs; nothing if there is none.
postgres_programs() {
    local newest
    newest=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$newest" ] || newest=$(command -v initdb || true)
    [ -z "$newest" ] || dirname "$newest"
}

as_postgres() {
    if [ -n "$MEZU_POSTGRES_AS" ]; then
        (cd / && setpriv --reuid "$MEZU_POSTGRES_AS" --regid "$(id -g "$MEZU_POSTGRES_AS")" --clear-groups -- "$@")
    else
        "$@"
    fi
}
