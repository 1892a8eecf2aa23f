# Leveret's everyday commands. Each works on a fresh Debian machine as root or with sudo: what is
# missing is installed, or the exact command is printed.
#
#   make build     the broker, in target/release/leveret
#   make run       builds and starts it (ARGS="--set heartbeat=30" passes arguments on)
#   make test      unit, conformance, crash and interop tests: what CI runs
#   make lint      formatting, clippy, licences and advisories
#   make bench     side by side with Debian's rabbitmq-server
#   make interop   every client, suite and tutorial against the broker
#   make oracle    the interop scenarios against Debian's rabbitmq-server, for comparison
#   make crash     kill -9 cycles under load (CYCLES=60)

SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build run test unit lint bench interop oracle crash smoke

CYCLES ?= 60
# RocksDB's C++ is compiled once and linked by every profile; see scripts/rocksdb-lib.
ROCKSDB = ROCKSDB_LIB_DIR="$$(scripts/rocksdb-lib)" ROCKSDB_STATIC=1
TARGET := $(or $(CARGO_TARGET_DIR),target)
export LEVERET_BIN ?= $(abspath $(TARGET)/release/leveret)
LOAD = $(TARGET)/release/leveret-load

build:
	@scripts/setup build
	$(ROCKSDB) cargo build --release --locked

run: build
	$(LEVERET_BIN) server $(ARGS)

# One profile for everything, so that nothing is compiled twice.
unit: build
	$(ROCKSDB) cargo test --release --locked

test: unit
	@scripts/setup interop
	$(MAKE) crash CYCLES=20
	$(MAKE) smoke

smoke: build
	@scripts/setup interop
	interop/run pika go java

lint:
	@scripts/setup build
	cargo fmt --all --check
	$(ROCKSDB) cargo clippy --release --locked --workspace --all-targets -- -D warnings
	scripts/deny

bench: build
	@scripts/setup interop
	$(ROCKSDB) cargo build --release --locked -p leveret-load
	benches/compare

interop: build
	@scripts/setup interop
	interop/run
	for suite in amqp091-go amqplib py-amqp; do interop/suites/$$suite || exit 1; done
	interop/tutorials/run

oracle:
	@scripts/setup interop
	interop/run --broker rabbitmq

crash: build
	$(ROCKSDB) cargo build --release --locked -p leveret-load
	$(LOAD) crash-cycles --cycles $(CYCLES) --broker $(LEVERET_BIN)
