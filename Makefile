# Quorate's targets; `make` alone lists them.
#
# Everything that a target needs it builds or says how to install. Tools are
# pinned in tools/go.mod and built into bin/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
RUNS     ?= 10
MINUTES  ?= 10
CUTS     ?= 100
CASES    ?= 100
GOFLAGS_TEST ?=
# For the slowest package, with a margin for a busy machine.
TEST_TIMEOUT ?= 15m
# What waits more than it computes begins first, so that others run beside it: go test
# starts packages in the order in which they are named.
FIRST_PACKAGES ?= ./raftnode
# What make test runs under the race detector as well; make race does all.
RACE_PACKAGES ?= ./coordinator/... ./api/... ./participant/embedded
TOOLS_MOD := tools/go.mod

.PHONY: help build test race lint generate demo demo-databases cover bench bench-go mutants mutants-fsm mutants-random chaos chaos-disks

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

build: ## Build bin/quorate
	$(GO) build -trimpath -o bin/quorate ./cmd/quorate

test: ## All checks and tests: format, vet, generated code, unit and integration tests
	scripts/install-test-deps.sh
	scripts/check-format.sh
	scripts/check-generated.sh
	$(GO) vet ./...
	$(GO) test $(GOFLAGS_TEST) -timeout $(TEST_TIMEOUT) $(FIRST_PACKAGES) ./...
	$(GO) test $(GOFLAGS_TEST) -race -timeout $(TEST_TIMEOUT) $(RACE_PACKAGES)
	scripts/each-example.sh

race: ## The tests under the race detector, RUNS times (make race RUNS=3)
	scripts/install-test-deps.sh
	$(GO) test -race -count=$(if $(filter command line,$(origin RUNS)),$(RUNS),1) $(GOFLAGS_TEST) -timeout 40m ./...

lint: bin/golangci-lint bin/buf ## golangci-lint (staticcheck among others) and buf lint
	bin/golangci-lint run ./...
	bin/buf lint

generate: bin/buf bin/protoc-gen-go bin/protoc-gen-go-grpc bin/protoc-gen-grpc-gateway bin/protoc-gen-openapiv2 ## Generate code from the .proto files
	PATH="$(CURDIR)/bin:$$PATH" scripts/generate.sh

demo: build ## The main job: a leader killed at the decision, every decision kept
	bin/quorate demo

demo-databases: build ## The demo on private Postgres and MariaDB servers, RUNS times
	scripts/install-test-deps.sh
	scripts/demo-databases.sh $(RUNS)

chaos: build ## Break clusters for MINUTES minutes, and note it in docs/chaos-ledger.md
	scripts/chaos.sh $(MINUTES)

chaos-disks: ## Power losses (CUTS) and corruptions (CASES) of nodes, noted in docs/chaos-ledger.md; as root
	scripts/chaos-disks.sh $(CUTS) $(CASES)

cover: ## Coverage a package, without generated files
	scripts/install-test-deps.sh
	scripts/cover.sh

bench: build ## Measure everything beside its floor and etcd into docs/performance.md (ONLY=decide,saga/wal,go,profile,scale,failover for parts, DURATION=5s)
	scripts/install-test-deps.sh
	scripts/install-bench-deps.sh
	$(GO) run ./internal/tools/perfpage $(if $(ONLY),-only '$(ONLY)') $(if $(DURATION),-duration '$(DURATION)')

bench-go: ## Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

mutants: ## Plant known bugs, one at a time, and see which suites find them (MUTANT=name for one)
	$(GO) run ./internal/tools/mutants $(if $(MUTANT),-only '$(MUTANT)')

mutants-fsm: ## Break fsm in 50 ways and count how many its tests notice
	$(GO) run ./internal/tools/mutate -pkg ./fsm -n 50 -seed 1 -min 45 -testflags -rapid.nofailfile

mutants-random: ## Break PKG in N ways drawn by SEED (make mutants-random PKG=./coordinator N=20 SEED=3) and keep what its tests say
	$(GO) run ./internal/tools/mutate -pkg $(or $(PKG),./coordinator) -n $(or $(N),20) -seed $(or $(SEED),1) -skip Allocat -results internal/tools/mutate/results

# The tools, each built once for the versions in tools/go.mod.
bin/golangci-lint: $(TOOLS_MOD)
	$(GO) build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
bin/buf: $(TOOLS_MOD)
	$(GO) build -C tools -o ../$@ github.com/bufbuild/buf/cmd/buf
bin/protoc-gen-go: $(TOOLS_MOD)
	$(GO) build -C tools -o ../$@ google.golang.org/protobuf/cmd/protoc-gen-go
bin/protoc-gen-go-grpc: $(TOOLS_MOD)
	$(GO) build -C tools -o ../$@ google.golang.org/grpc/cmd/protoc-gen-go-grpc
bin/protoc-gen-grpc-gateway: $(TOOLS_MOD)
	$(GO) build -C tools -o ../$@ github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway
bin/protoc-gen-openapiv2: $(TOOLS_MOD)
	$(GO) build -C tools -o ../$@ github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2
