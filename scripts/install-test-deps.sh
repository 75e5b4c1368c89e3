#!/usr/bin/env bash
# Installs what `make check` and `make test` need besides Go, Node.js and npm. Where all is there it only looks.
#
#   scripts/install-test-deps.sh            for the tests: compiler, PostgreSQL, Redis, curl, npm packages
#   scripts/install-test-deps.sh check      for make check: shellcheck
#   scripts/install-test-deps.sh bench      for make bench: nginx
#   scripts/install-test-deps.sh dist       for make dist: wixl, msitools
#   scripts/install-test-deps.sh packaging  for make packaging: Wine and what else looks into packages
#
# Packages come from apt, as root or with a sudo that asks for no password. Anywhere else it names what is missing and
# stops.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "install-test-deps: $*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null; }
have_postgres() { have initdb || [ -n "$(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null)" ]; }
have_redis() { have redis-server || have valkey-server; }

missing=()
need() { missing+=("$@"); }

apt_install() {
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    root=(sudo -n)
  fi
  if ! have apt-get || ! "${root[@]+"${root[@]}"}" true 2>/dev/null; then
    fail "please install: $* (Debian: sudo apt-get install -y --no-install-recommends $*)"
  fi
  echo "install-test-deps: apt-get install $*"
  local options=(-y -qq --no-install-recommends -o Dpkg::Use-Pty=0)
  "${root[@]+"${root[@]}"}" apt-get update -qq
  "${root[@]+"${root[@]}"}" env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" >/dev/null
}

install_missing() {
  if [ ${#missing[@]} -gt 0 ]; then
    apt_install "${missing[@]}"
  fi
}

# npm_ci DIR installs the packages of DIR's lockfile unless exactly those are there.
npm_ci() {
  local stamp=$1/node_modules/.installed
  if ! cmp -s "$1/package-lock.json" "$stamp"; then
    echo "install-test-deps: npm ci in $1"
    (cd "$1" && npm ci --no-progress --loglevel=error)
    cp "$1/package-lock.json" "$stamp"
  fi
}

require_languages() {
  have go || fail "please install Go 1.26 or newer"
  have npm || fail "please install Node.js 20 or newer with npm"
  [ "$(node --print 'process.versions.node.split(".")[0] >= 20')" = true ] || fail "please install Node.js 20 or newer, this is $(node --version)"
}

case ${1:-test} in
test)
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "the test engine (llama.cpp) is prebuilt for Linux on x86-64; elsewhere use make check"
  require_languages
  have "$(go env CC)" || need gcc libc6-dev # for the race detector
  have_postgres || need postgresql
  have_redis || need redis-server
  have curl || need curl ca-certificates
  have systemd-analyze || need systemd # reads the unit of the agent
  install_missing
  npm_ci test/engine
  npm_ci test/sdk/node
  ;;
check)
  have shellcheck || need shellcheck
  install_missing
  ;;
bench)
  have nginx || need nginx-light
  install_missing
  ;;
dist)
  have wixl || need wixl
  have msibuild || need msitools
  have python3 || need python3-minimal
  install_missing
  ;;
packaging)
  have msiinfo || need msitools
  have systemd-analyze || need systemd
  have ss || need iproute2
  have wine || need wine wine64
  have x86_64-w64-mingw32-gcc || need gcc-mingw-w64-x86-64-win32
  have curl || need curl ca-certificates
  install_missing
  ;;
*) fail "unknown set '$1': test, check, bench, dist or packaging" ;;
esac
