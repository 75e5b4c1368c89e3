#!/usr/bin/env bash
# A PostgreSQL and a Redis of one's own for tests: on free loopback ports, in a temporary folder, gone afterwards.
#
#   scripts/services.sh run go test ./...     start both, run the command, stop both
#   eval "$(scripts/services.sh start)"       start both and set the variables in this shell
#   scripts/services.sh stop                  stop what start began, by $SHAREAI_TEST_SERVICES
#   scripts/services.sh halt redis            end one of the two servers, or postgres; its data stays, of Redis none
#   scripts/services.sh resume redis          start it again, where it was
#
# Both forms set SHAREAI_TEST_POSTGRES and SHAREAI_TEST_REDIS (URLs). Several can run side by side. The data is not
# synced to disk: it survives neither a crash nor stop.
set -euo pipefail

tmp=${TMPDIR:-/tmp}
host=127.0.0.1

fail() {
  echo "services: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# attempts N COMMAND: runs COMMAND until it succeeds, N times at most, 20 ms apart.
attempts() {
  local left=$1
  shift
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.02
  done
}

# Ports below the range that the system hands out to clients, so that no connection takes one before its server does.
random_port() { echo $((20000 + (RANDOM << 15 | RANDOM) % 12000)); }

# A process that ended counts as gone even where nothing reaps it, as in a container without an init.
is_gone() { ! kill -0 "$1" 2>/dev/null || grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"; }

# ---- PostgreSQL

# PostgreSQL refuses to run as root: root runs it as the account that its package created.
as_postgres() {
  if [ "$(id -u)" -eq 0 ]; then
    runuser -u postgres -- "$@"
  else
    "$@"
  fi
}

give_to_postgres() {
  [ "$(id -u)" -ne 0 ] || chown postgres "$1"
}

# The programs of the newest installed server. Debian keeps them out of PATH.
postgres_bin() {
  local newest
  newest=$(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V | tail -n 1)
  [ -n "$newest" ] || newest=$(command -v initdb) || fail "no PostgreSQL server: run scripts/install-test-deps.sh"
  dirname "$newest"
}

# initdb takes longer than everything else together, so its result is kept and copied.
postgres_template() {
  local bin=$1 fresh template
  template=$tmp/shareai-initdb-$("$bin/postgres" --version | tr -cd '0-9.')-$(id -u)
  if [ ! -f "$template/complete" ]; then
    fresh=$(mktemp -d "$tmp/shareai-initdb.XXXXXX")
    give_to_postgres "$fresh"
    as_postgres "$bin/initdb" --pgdata="$fresh/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C \
      --wal-segsize=1 --no-sync --no-instructions >"$fresh/log" 2>&1 || fail "initdb failed, see $fresh/log"
    : >"$fresh/complete"
    # A rename is whole or not at all. Where another start was faster, its template does as well.
    mv -T "$fresh" "$template" 2>/dev/null || rm -rf "$fresh"
  fi
  # The name can be guessed: trust no folder that another account put there.
  [ -O "$template/complete" ] || fail "$template belongs to somebody else: set TMPDIR"
  echo "$template/data"
}

run_postgres() { # run_postgres DIR OPTIONS
  as_postgres "$(postgres_bin)/pg_ctl" start --silent --wait --timeout=30 --pgdata="$1/postgres/data" \
    --log="$1/postgres/log" --options="$2" >/dev/null 2>&1 </dev/null
}

start_postgres() {
  local dir=$1 template port options
  template=$(postgres_template "$(postgres_bin)")
  mkdir "$dir/postgres"
  give_to_postgres "$dir/postgres"
  cp -a "$template" "$dir/postgres/data"
  for _ in 1 2 3 4 5; do
    port=$(random_port)
    options="-c listen_addresses=$host -p $port -k $dir/postgres -c max_connections=200 -c shared_buffers=64MB"
    options="$options -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    if run_postgres "$dir" "$options"; then
      echo "$options" >"$dir/postgres.options"
      echo "postgres://postgres@$host:$port/postgres?sslmode=disable" >"$dir/postgres.url"
      return
    fi
  done
  tail -n 5 "$dir/postgres/log" >&2
  fail "PostgreSQL does not start"
}

# ---- Redis, or Valkey where that is what the system has

redis_program() { # redis_program server|cli
  command -v "redis-$1" || command -v "valkey-$1" || fail "no Redis: run scripts/install-test-deps.sh"
}

redis_answers() { # redis_answers CLI PORT DIR; the pid file says that the answer is not from somebody else's server
  [ -s "$3/pid" ] && [ "$("$1" -h "$host" -p "$2" ping 2>/dev/null)" = PONG ]
}

run_redis() { # run_redis DIR PORT
  "$(redis_program server)" --bind "$host" --port "$2" --dir "$1" --save '' --appendonly no \
    --daemonize yes --pidfile "$1/pid" --logfile "$1/log" >/dev/null
  attempts 50 redis_answers "$(redis_program cli)" "$2" "$1"
}

start_redis() {
  local dir=$1/redis port
  mkdir "$dir"
  for _ in 1 2 3 4 5; do
    port=$(random_port)
    if run_redis "$dir" "$port"; then
      echo "redis://$host:$port/0" >"$1/redis.url"
      return
    fi
  done
  tail -n 5 "$dir/log" >&2
  fail "Redis does not start"
}

# ---- Commands

start() {
  local dir failed=
  dir=$(mktemp -d "$tmp/shareai-services.XXXXXX")
  chmod 755 "$dir" # the account of PostgreSQL has to get in
  start_postgres "$dir" >&2 &
  local postgres=$!
  start_redis "$dir" >&2 &
  wait $! || failed=yes
  wait "$postgres" || failed=yes
  if [ -n "$failed" ]; then
    stop "$dir"
    exit 1
  fi
  cat <<EOF
export SHAREAI_TEST_SERVICES='$dir'
export SHAREAI_TEST_POSTGRES='$(cat "$dir/postgres.url")'
export SHAREAI_TEST_REDIS='$(cat "$dir/redis.url")'
EOF
}

end_process() { # end_process PIDFILE SIGNAL
  local pid
  [ -s "$1" ] || return 0
  pid=$(head -n 1 "$1")
  kill "-$2" "$pid" 2>/dev/null || return 0
  attempts 250 is_gone "$pid" || kill -KILL "$pid"
}

own_dir() { # own_dir DIR
  case $1 in
  "$tmp"/shareai-services.*) ;;
  *) fail "not a folder that start made: '$1'" ;;
  esac
}

halt() { # halt SERVER DIR
  own_dir "$2"
  case $1 in
  postgres) end_process "$2/postgres/data/postmaster.pid" INT ;; # connections are cut, what was committed is written
  redis) end_process "$2/redis/pid" KILL ;;
  *) usage ;;
  esac
}

resume() { # resume SERVER DIR
  local url
  own_dir "$2"
  case $1 in
  postgres) run_postgres "$2" "$(cat "$2/postgres.options")" || fail "PostgreSQL does not start again, see $2/postgres/log" ;;
  redis)
    url=$(cat "$2/redis.url")
    url=${url##*:}
    rm -f "$2/redis/pid"
    run_redis "$2/redis" "${url%/*}" || fail "Redis does not start again, see $2/redis/log"
    ;;
  *) usage ;;
  esac
}

stop() {
  local dir=$1
  own_dir "$dir"
  end_process "$dir/postgres/data/postmaster.pid" QUIT # at once, without a checkpoint
  end_process "$dir/redis/pid" TERM
  rm -rf -- "$dir"
}

run() {
  local variables
  variables=$(start)
  eval "$variables"
  trap 'stop "$SHAREAI_TEST_SERVICES"' EXIT
  "$@"
}

case ${1:-} in
start) start ;;
stop) stop "${2:-${SHAREAI_TEST_SERVICES:-}}" ;;
halt | resume) "$1" "${2:-}" "${3:-${SHAREAI_TEST_SERVICES:-}}" ;;
run)
  shift
  [ $# -gt 0 ] || usage
  run "$@"
  ;;
*) usage ;;
esac
