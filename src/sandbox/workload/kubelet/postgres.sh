# Does what the official image's entrypoint does, as far as the sandbox needs it: makes a cluster in an empty $PGDATA from
# the POSTGRES_ variables, then becomes the server. It listens on a socket in the pod's own folder only.
set -eu
case "${1:-}" in
'' | -*) set -- postgres "$@" ;;
esac
[ "$1" = postgres ] || exec "$@"
shift

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo 'Error: Database is uninitialized and superuser password is not specified.' >&2
        echo '       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser.' >&2
        exit 1
    fi
    umask 077
    mkdir -p "$PGDATA"
    password="$PGHOST/password"
    printf '%s\n' "${POSTGRES_PASSWORD:-unused}" >"$password"
    # Local connections are trusted, as in the image. No sync: until the first commit there is nothing to lose.
    # shellcheck disable=SC2086 # several arguments in one variable
    initdb -D "$PGDATA" -U "$PGUSER" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C --wal-segsize=1 --no-sync --no-instructions ${POSTGRES_INITDB_ARGS:-} || {
        code=$?
        rm -f "$password"
        exit "$code"
    }
    rm -f "$password"
    if [ "$PGDATABASE" != postgres ]; then
        printf 'CREATE DATABASE "%s"\n' "$(printf %s "$PGDATABASE" | sed 's/"/""/g')" |
            postgres --single -D "$PGDATA" postgres >/dev/null
    fi
fi

# In a container the server's process ids begin anew; here they are shared with the whole machine, so a lock file that came
# with a restore may name a process that has nothing to do with it. A lock of this very folder is left to the server, which
# knows whether anything still uses its memory.
lock="$PGDATA/postmaster.pid"
if [ -s "$lock" ]; then
    here=$(readlink -f "$PGDATA")
    owner=$(sed -n 1p "$lock")
    if [ "$(sed -n 2p "$lock")" != "$here" ] ||
        { [ -e "/proc/$owner" ] && [ "$(readlink "/proc/$owner/cwd" || true)" != "$here" ]; }; then
        rm -f "$lock"
    fi
fi

# The volume ends with the cluster, and a crash of the whole machine with it: nothing is gained by waiting for its disk.
exec postgres -D "$PGDATA" -c shared_buffers=16MB -c dynamic_shared_memory_type=mmap -c fsync=off "$@" \
    -c listen_addresses= -c unix_socket_directories="$PGHOST"
