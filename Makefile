# Leveret's everyday commands. Each works on a fresh Debian machine as root or with sudo: what is
# missing is installed, or the exact command is printed.
#
#   make build     the broker, in target/release/leveret
#   make run       builds and starts it (ARGS="--set heartbeat=30" passes arguments on)
#   make test      unit, conformance, crash and interop tests, and the examples: what CI runs
#   make guard     instructions per message against a baseline; 5 % more fail
#   make lint      formatting, clippy, licences and advisories
#   make bench     side by side with Debian's rabbitmq-server
#   make examples  whole small systems around the broker, each with a page of what came of it
#   make interop   every client, suite, tutorial and application against the broker
#   make oracle    interop and the tests' transcripts against Debian's rabbitmq-server
#   make crash     kills, power losses, failing and full disks under load, checked (CYCLES=60)
#   make crash-full  the same, a thousand times: hours
#   make fuzz      every fuzz target for a minute (SECONDS=60); tests/fuzz/run says more
#   make simulate  broker and store simulated, seed by seed, with faults (SEEDS=1000, FIRST=1)
#   make miri      the codec and what keeps track of messages, interpreted (a nightly toolchain)

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build run test unit guard lint bench interop oracle crash crash-full load smoke \
  examples fuzz simulate miri

CYCLES ?= 60
TARGET := $(or $(CARGO_TARGET_DIR),target)
export LEVERET_BIN ?= $(abspath $(TARGET)/release/leveret)
SUITES = amqp091-go amqplib py-amqp
TRACKERS = protocol:: session:: store::cursor broker::queue:: broker::message broker::paging \
  broker::exchange::topic
INTEROP = interop/run $(SUITES:%=interop/suites/%) interop/tutorials/run interop/apps/run

# Runs every command given, even when one fails, and fails if any did.
define all_of
	@failed=0; for command in $(1); do $$command $(2) || failed=1; done; exit $$failed
endef

build:
	@scripts/setup
	scripts/cargo build --release --locked

run: build
	$(LEVERET_BIN) server $(ARGS)

# One profile for everything, so that nothing is compiled twice.
unit: build
	scripts/cargo test --release --locked --workspace

test: unit guard
	$(MAKE) crash CYCLES=20
	$(MAKE) smoke
	$(MAKE) examples

guard:
	@scripts/setup
	benches/instructions --check

smoke: build
	interop/run pika go java

lint:
	@scripts/setup
	scripts/cargo fmt --all --check
	scripts/cargo clippy --release --locked --workspace --all-targets -- -D warnings
	scripts/deny

examples: build
	$(call all_of,$(wildcard examples/*/run),--short)

bench: build
	benches/compare

interop: build
	$(call all_of,$(INTEROP))

oracle:
	$(call all_of,interop/oracle/run $(INTEROP),--broker rabbitmq)

crash: load
	tests/crash/run $(CYCLES) $(ROWS)

crash-full: load
	tests/crash/run --full

load: build
	scripts/cargo build --release --locked -p leveret-load

fuzz:
	tests/fuzz/run all $(or $(SECONDS),60)

# Other seeds every time, unless FIRST says which; one that fails is named and repeats itself.
simulate:
	@scripts/setup
	SIMULATION_FIRST=$(or $(FIRST),$$(date +%s)000) SIMULATION_SEEDS=$(or $(SEEDS),1000) \
	  scripts/cargo test --release --locked --test it -- --nocapture simulation::nothing

# Isolated, the interpreter would hide the environment, which says how many cases are tried.
miri:
	PROPTEST_CASES=$(or $(CASES),4) MIRIFLAGS=-Zmiri-disable-isolation \
	  cargo +nightly miri test --locked --lib --no-default-features -- $(TRACKERS)
