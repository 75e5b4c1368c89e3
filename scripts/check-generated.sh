#!/usr/bin/env bash
# Fails if `go generate ./...` would change a file. It generates in a copy: the working tree stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! git grep --untracked -q '^//go:generate ' -- '*.go'; then
  exit 0
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ ! -e "$file" ] || cp --parents -p "$file" "$copy"
done
cp -R "$copy" "$copy.before"
trap 'rm -rf "$copy" "$copy.before"' EXIT
go -C "$copy" generate ./...
diff -r -u "$copy.before" "$copy" || {
  echo "check-generated: run go generate ./... and commit the result" >&2
  exit 1
}
