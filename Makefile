# make help lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TEST_ENV := scripts/test-env.sh --
HAVE_NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
OFFICIAL := scripts/test-official.sh

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: test
test: lint simulation ## everything: formatting, clippy, the simulator, set-up, all tests on both databases
	@$(TEST_ENV) $(MAKE) --no-print-directory unit

.PHONY: lint
lint: ## formatting and clippy, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features simulation -- -D warnings

# Doc tests first: nextest does not run them, and the last lines should be the summary of the rest.
.PHONY: unit
unit: ## all tests against the neighbours in RECURD_TEST_*; those without a neighbour say so and skip
	$(CARGO) test --locked --doc
ifeq ($(HAVE_NEXTEST),yes)
	$(CARGO) nextest run --locked
else
	$(CARGO) test --locked --lib --bins --tests
endif

# Failpoints exist with this feature only, so what ships is built without it, and this beside it.
SIMULATE := --locked --profile simulation --features simulation
# A seed's two threads hand each statement to each other: whoever is woken need not push aside who woke it.
BATCH := $(shell chrt --batch 0 true 2>/dev/null && echo chrt --batch 0)

.PHONY: simulation
simulation: ## the simulator over 500 seeds (RECURD_SIMULATION_SEEDS, RECURD_SIMULATION_FROM, RECURD_SIMULATION_SECS)
	$(BATCH) $(CARGO) test $(SIMULATE) --test simulation --test races -- --nocapture --test-threads 1

SEEDS ?= 100000
.PHONY: soak
soak: ## the simulator over many seeds: make soak SEEDS=100000 ARGS="--from 501"
	$(BATCH) $(CARGO) run $(SIMULATE) --bin simulate -- --seeds $(SEEDS) $(ARGS)

.PHONY: chaos
chaos: ## replicas, PostgreSQL and connections torn down at full size; make test has it smaller
ifeq ($(HAVE_NEXTEST),yes)
	RECURD_CHAOS=full $(TEST_ENV) $(CARGO) nextest run --locked --test chaos --success-output final
else
	RECURD_CHAOS=full $(TEST_ENV) $(CARGO) test --locked --test chaos -- --nocapture
endif

.PHONY: mutants
mutants: ## every mutant of src/billing against billing's own tests (ARGS="--shard 0/4" for a part)
	scripts/mutants.sh $(ARGS)

.PHONY: pictures
pictures: ## the pictures of docs/pictures.md, with a headless Chromium
	$(TEST_ENV) $(CARGO) nextest run --locked --test cli --run-ignored only -E 'test(pictures)'

.PHONY: official
official: ## the official Stripe client libraries (Python, Node) against the sandbox
	$(CARGO) build --locked --bin recurd
	$(OFFICIAL) $${CARGO_TARGET_DIR:-target}/debug/recurd sandbox --listen

.PHONY: deploy-check
deploy-check: ## systemd units, Kubernetes manifests, alerts, dashboard, scripts
	scripts/deploy-check.sh

.PHONY: bench
bench: ## what collecting costs, on both databases with durable commits (BENCH="throughput --repeat 1" for a part)
	scripts/test-env.sh --durable -- $(CARGO) bench --locked --bench collect -- $(BENCH)

.PHONY: demo
demo: ## the whole story against the sandbox, 90 days in seconds
	$(CARGO) run --locked --release -- demo

.PHONY: clean-test
clean-test: ## forget what the tests installed below target/
	rm -rf "$${CARGO_TARGET_DIR:-target}/test-env"
