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

# In a container the server's process ids begin anew, so a lock file left by a crash or a restore means nothing. Here
# ids are shared with the whole machine: the file counts only when its process really serves this folder.
lock="$PGDATA/postmaster.pid"
if [ -s "$lock" ]; then
    owner=$(head -n 1 "$lock")
    [ "$(readlink "/proc/$owner/cwd" || true)" = "$(readlink -f "$PGDATA")" ] || rm -f "$lock"
fi

exec postgres -D "$PGDATA" -c shared_buffers=16MB -c dynamic_shared_memory_type=mmap "$@" \
    -c listen_addresses= -c unix_socket_directories="$PGHOST"
