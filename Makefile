# `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Tools are pinned in a module of their own; the first use compiles them.
tool := go tool -modfile=tools/go.mod
version ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
# The version comes from the line above, and a checkout that belongs to somebody else is no reason to fail.
export GOFLAGS := $(GOFLAGS) -buildvcs=false
shell_scripts := .ci/run $(wildcard scripts/*.sh test/*/*.sh)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## start the demo: the gateway with simulated providers, and a cURL line to try it
	@exec bin/shareai demo

.PHONY: build
build: ## bin/shareai: static, nothing else needed
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(version)' -o bin/shareai ./cmd/shareai

.PHONY: check
check: ## the fast part: format, linters, vet, layout and unit tests, generated files
	@scripts/install-test-deps.sh check
	go mod verify
	go mod tidy -diff
	$(tool) golangci-lint fmt --diff
	go vet ./...
	$(tool) golangci-lint run ./...
	$(tool) deadcode -test ./...
	shellcheck $(shell_scripts)
	scripts/check-generated.sh
	$(tool) gotestsum --format pkgname --hide-summary skipped -- -short ./...

.PHONY: test
test: build ## everything: all Go tests with the race detector on real PostgreSQL, Redis and llama.cpp; client SDKs
	@scripts/install-test-deps.sh
	scripts/services.sh run $(tool) gotestsum --format pkgname -- -race ./...
	test/sdk/run.sh

.PHONY: bench
bench: ## overhead side by side: direct, a plain Go proxy, nginx, ShareAI
	@scripts/install-test-deps.sh bench
	scripts/bench.sh

.PHONY: dist
dist: ## what is released, for all platforms: dist/ with .deb, MSI, archives, checksums
	@scripts/install-test-deps.sh dist
	scripts/dist.sh $(version)

.PHONY: packaging
packaging: dist ## install and remove what make dist built: .deb, MSI under Wine, install.sh, image; takes minutes, needs root
	@scripts/install-test-deps.sh packaging
	test/packaging/run.sh

.PHONY: wall
wall: ## failover against a provider that fails in every way, with outages at full length; then what a failover costs
	SHAREAI_WALL=long $(tool) gotestsum --format testname -- -race -count=1 -timeout 30m ./test/faultwall ./test/failover
	go test ./test/failover -run '^$$' -bench Failover -benchtime 1x

.PHONY: load
load: ## limits and budgets under load, for longer than `make test`: kills, two replicas, Redis and PostgreSQL ending
	SHAREAI_LOAD=long $(tool) gotestsum --format testname -- -race -count=1 -timeout 60m -run 'Budget|HoldTheLimits|EndsUnderLoad' ./test/e2e

.PHONY: fuzz
fuzz: ## every fuzz test for 30 s (FUZZTIME=5m make fuzz)
	scripts/fuzz.sh

.PHONY: catalogue
catalogue: ## internal/families/catalogue.json anew, from the packages pinned in scripts/catalogue/sources.json
	node scripts/update-catalogue.mjs

.PHONY: format
format: ## write Go files the way `make check` wants them
	$(tool) golangci-lint fmt

.PHONY: clean
clean: ## remove what was built; installed test packages too
	rm -rf bin dist test/engine/node_modules test/sdk/node/node_modules
