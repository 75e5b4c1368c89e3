#!/usr/bin/env bash
# Runs the official Node.js and Go clients against ShareAI.
#
#   test/sdk/run.sh                                         against a demo of its own, from bin/shareai
#   SHAREAI_URL=http://… SHAREAI_KEY=sk-… test/sdk/run.sh   against one that runs already; SHAREAI_CHAT_MODEL and
#                                                           SHAREAI_EMBED_MODEL where its models have other names
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
  echo "test/sdk: $*" >&2
  exit 1
}

# start_demo sets SHAREAI_URL and SHAREAI_KEY and leaves the demo running until this script ends.
start_demo() {
  [ -x bin/shareai ] || fail "bin/shareai is missing: run make build"
  local dir
  dir=$(mktemp -d)
  SHAREAI_KEY=sk-test-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  bin/shareai demo --listen 127.0.0.1:0 --data-dir "$dir" --demo-key "$SHAREAI_KEY" >"$dir/log" 2>&1 &
  local demo=$!
  # shellcheck disable=SC2064 # the values of now are meant
  trap "kill $demo 2>/dev/null || true; wait $demo 2>/dev/null || true; rm -rf '$dir'" EXIT
  for _ in $(seq 300); do
    if [ -s "$dir/gateway.url" ]; then # written once it listens
      SHAREAI_URL=$(cat "$dir/gateway.url")
      SHAREAI_BIN=$PWD/bin/shareai SHAREAI_DEMO_DIR=$dir
      export SHAREAI_URL SHAREAI_KEY SHAREAI_BIN SHAREAI_DEMO_DIR
      return
    fi
    if ! kill -0 $demo 2>/dev/null; then
      break
    fi
    sleep 0.1
  done
  tail -n 20 "$dir/log" >&2
  fail "the demo is not ready"
}

[ -d test/sdk/node/node_modules ] || fail "the Node.js client is not installed: run scripts/install-test-deps.sh"
if [ -z "${SHAREAI_URL:-}" ]; then
  start_demo
fi
(cd test/sdk/node && node --test --test-reporter=spec)
go -C test/sdk/go test -count=1 ./...
