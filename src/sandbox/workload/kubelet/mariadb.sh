# Does what the official image's entrypoint does, as far as the sandbox needs it: makes the system tables in an empty data
# folder, sets root's password and a first database from the MARIADB_ variables, then becomes the server. It listens on a
# socket in the pod's own folder only.
set -eu
case "${1:-}" in
'' | -*) set -- mariadbd "$@" ;;
esac
[ "$1" = mariadbd ] || [ "$1" = mysqld ] || exec "$@"
shift
command -v mariadbd >/dev/null || {
    echo 'Error: this machine has no mariadbd. On Debian or Ubuntu: apt-get install mariadb-server-core mariadb-client-core' >&2
    exit 127
}

mkdir -p "$MARIADB_DATA"
# A start that was cut short leaves a folder that no later one could use.
unfinished=$MARIADB_DATA/.lhrun-unfinished
[ ! -e "$unfinished" ] || find "$MARIADB_DATA" -mindepth 1 -delete
if [ ! -d "$MARIADB_DATA/mysql" ]; then
    if [ -z "${MARIADB_ROOT_PASSWORD:-}" ] && [ -z "${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-}" ]; then
        echo 'Error: Database is uninitialized and password option is not specified.' >&2
        echo '       You need to specify MARIADB_ROOT_PASSWORD or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD.' >&2
        exit 1
    fi
    : >"$unfinished"
    # Small logs: a volume of the sandbox holds a handful of rows, and each backup packs all of it.
    mariadb-install-db --no-defaults --datadir="$MARIADB_DATA" --auth-root-authentication-method=normal \
        --skip-test-db --skip-name-resolve --innodb-log-file-size=4M --innodb-flush-log-at-trx-commit=0 >&2
    # The shell's own echo reads backslashes.
    say() { printf '%s\n' "$1"; }
    quoted() { printf %s "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g"; }
    {
        # Its own machine's name has an account without a password, too.
        say "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
        say "FLUSH PRIVILEGES;"
        say "ALTER USER 'root'@'localhost' IDENTIFIED BY '$(quoted "${MARIADB_ROOT_PASSWORD:-}")';"
        [ -z "${MARIADB_DATABASE:-}" ] || say "CREATE DATABASE IF NOT EXISTS \`$(printf %s "$MARIADB_DATABASE" | sed 's/`/``/g')\`;"
    } | mariadbd --no-defaults --datadir="$MARIADB_DATA" --bootstrap --innodb-buffer-pool-size=8M --innodb-log-file-size=4M >&2
    rm "$unfinished"
fi

# Clients must not look for the socket the machine's own configuration names.
printf '[client]\nsocket = %s\n' "$MYSQL_UNIX_PORT" >"$HOME/.my.cnf"

# Nothing is gained by waiting for the disk: the volume ends with the cluster, and a crash of the whole machine with it.
exec mariadbd --no-defaults --datadir="$MARIADB_DATA" --socket="$MYSQL_UNIX_PORT" --pid-file="${MYSQL_UNIX_PORT%.sock}.pid" \
    --skip-networking --skip-name-resolve --innodb-buffer-pool-size=8M --innodb-log-file-size=4M \
    --innodb-flush-log-at-trx-commit=2 "$@"
