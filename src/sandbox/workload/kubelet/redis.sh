# Does what the official image's entrypoint does, as far as the sandbox needs it: becomes the server, with its files in the
# data folder. It listens on a socket in the pod's own folder only, and a redis-cli beside it knows that socket.
set -eu
case "${1:-}" in
'' | -*) set -- redis-server "$@" ;;
esac
[ "$1" = redis-server ] || exec "$@"
shift
program=$(command -v redis-server) || {
    echo 'Error: this machine has no redis-server. On Debian or Ubuntu: apt-get install redis-server' >&2
    exit 127
}

mkdir -p "$REDIS_DATA"
client=$(PATH=${PATH#"$REDIS_RUN":} command -v redis-cli)
printf '#!/bin/sh\nexec "%s" -s "%s/redis.sock" "$@"\n' "$client" "$REDIS_RUN" >"$REDIS_RUN/redis-cli"
chmod 755 "$REDIS_RUN/redis-cli"
cd "$REDIS_DATA"
exec "$program" "$@" --port 0 --unixsocket "$REDIS_RUN/redis.sock" --dir "$REDIS_DATA"
