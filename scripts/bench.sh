#!/bin/sh
# Builds the benchmark programs into a temporary folder and compares the gateways.
# Flags go to bench/cmd/compare: scripts/bench.sh -scenarios A,D -rounds 3
set -eu
cd "$(dirname "$0")/.."

if [ "$(uname -s)" != Linux ]; then
    echo "bench: the benchmarks read CPU time and memory from /proc and run on Linux only" >&2
    exit 1
fi

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$bin/" ./bench/cmd/...

# An interrupt is for compare, which stops what it started and then returns here.
trap : INT TERM
"$bin/compare" -bin "$bin" "$@"
