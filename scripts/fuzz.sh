#!/usr/bin/env bash
# Runs every fuzz test of the module for FUZZTIME (30s), one after the other. A failing input is kept in the package's
# testdata/fuzz and fails `go test` until it is mended: commit it with the repair.
#
#   scripts/fuzz.sh [NAME]    only the tests whose name contains NAME
set -euo pipefail
cd "$(dirname "$0")/.."

found=
while IFS=: read -r file target; do
  package=./$(dirname "$file")
  target=${target#func }
  echo "fuzz: $package $target"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" "$package"
  found=yes
done < <(git grep --untracked -o -E "^func Fuzz[A-Za-z0-9_]*${1:-}[A-Za-z0-9_]*" -- '*_test.go')
[ -n "$found" ] || {
  echo "fuzz: no fuzz test matches '${1:-}'" >&2
  exit 1
}
