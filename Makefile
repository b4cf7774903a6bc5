# Squall's two commands are `make demo` and `make test`; each sets up what it needs. `make help` lists the rest.

CARGO ?= cargo
SETUP := .ci/setup.sh
# Always the same path, whatever libtorch it leads to: cargo then never rebuilds for a change of spelling.
NATIVE := LIBTORCH="$(CURDIR)/target/libtorch"
BROKER ?= memory
SECONDS ?= 60
KILLS ?= 30
SEED ?= 1
INPUT ?=
OUT ?= out/demo

.DEFAULT_GOAL := help
.PHONY: help demo test setup build check format fuzz chaos latency examples bench bench-baselines bench-models bench-scores replay clean

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | \
	    while IFS='|' read -r target text; do printf '  make %-15s %s\n' "$$target" "$$text"; done

demo: build ## Watch a forecast being made (BROKER=kafka: through a real Kafka; OUT=folder)
	@if [ "$(BROKER)" = kafka ]; then $(SETUP) test; fi
	target/release/squall demo --broker $(BROKER) --output $(OUT)

test: ## Set up, then every check and test; ends with 'N passed, N failed'
	@.ci/test.sh

setup: ## Fetch libtorch, Kafka and the tests' Python packages into target/
	@$(SETUP) test

build: ## Set up and build target/release/squall
	@$(SETUP) build
	$(NATIVE) $(CARGO) build --release --locked --package squall-pipeline

check: ## The fast loop: format, unused dependencies, lints, unit tests
	@$(SETUP) check
	$(CARGO) fmt --all --check
	.ci/unused.sh
	$(NATIVE) $(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(NATIVE) $(CARGO) test --release --locked --workspace --exclude squall-tests --lib --bins

format: ## Lay out the code as rustfmt wants it
	$(CARGO) fmt --all

fuzz: ## Damage what each decoder reads (SECONDS=60: for so long, each)
	@$(SETUP) build
	SQUALL_FUZZ_SECONDS=$(SECONDS) $(NATIVE) $(CARGO) test --release --locked --package squall-connectors --test fuzz

latency: build ## From the last needed frame to the committed forecast (FRAMES=120, CADENCE=2, MEMBERS=20, LEADS=18, COMPANION=steps)
	@$(SETUP) test
	$(NATIVE) $(CARGO) build --release --locked --workspace --bins
	@target/release/latency

replay: build ## How fast an archive is replayed, and what scoring it costs (INPUT=FILE.nc, LEADS=12)
	@$(SETUP) test
	$(NATIVE) $(CARGO) build --release --locked --workspace --bins
	@INPUT="$(INPUT)" target/release/replay

chaos: build ## Kill the program and the broker while an event streams in (KILLS=30, INPUT=FILE.nc, SEED=1)
	@$(SETUP) test
	$(NATIVE) $(CARGO) build --release --locked --workspace --bins
	@KILLS="$(KILLS)" INPUT="$(INPUT)" SEED="$(SEED)" target/release/chaos

examples: build ## Run the examples of the library: a forecast from files, a forecaster of one's own, scores
	$(NATIVE) $(CARGO) build --release --locked --package squall-pipeline --package squall-models --examples
	target/release/squall simulate --output out/examples/storm.nc
	target/release/examples/forecast_from_files configs/demo.toml out/examples/storm.nc
	target/release/examples/own_forecaster
	target/release/examples/scores

bench: ## Benchmarks of the crates, then bench-baselines
	@$(SETUP) build
	$(NATIVE) $(CARGO) bench --locked --workspace
	@$(MAKE) --no-print-directory bench-baselines

bench-baselines: ## STEPS, extrapolation, scores and a replay beside other programs (SQUALL_DATA=folder; PARTS="steps replay", MEMBERS=24, LEADS=12)
	@$(SETUP) test
	$(NATIVE) $(CARGO) build --release --locked --workspace --bins --examples
	@models/benches/baselines.sh

bench-models: ## The networks beside eager PyTorch on the same weights (fetches PyTorch, 3 GB, once)
	@$(SETUP) bench
	$(NATIVE) $(CARGO) bench --locked --package squall-models
	$(NATIVE) PATH="$(CURDIR)/target/torch-venv/bin:$$PATH" sh models/benches/run.sh

bench-scores: ## The part of bench-baselines that is on one thread: scores beside scores, scoringrules and SciPy
	@$(MAKE) --no-print-directory bench-baselines PARTS=scores

clean: ## Remove everything that was built or fetched
	rm -rf target out
