# Everything here works on a fresh machine with Python >= 3.11: the first target that needs it makes .venv.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
EXTRA ?= cpu
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header
ROOMS := $(addprefix -p ,demo evaluation memory memory_builder models reco reco_client service)
# The image's locks: with tracing, without development tools and triton: 1 GB that only torch.compile needs, which RECO never calls.
IMAGE_ONLY := --no-emit-package triton

.DEFAULT_GOAL := help
.PHONY: help install demo test check format docs lock docker browser milvus ray stores replicas gpu follow examples screenshots sbom release clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: .venv/installed ## Make .venv with everything pinned (EXTRA=gpu for faiss-gpu)

.venv/installed: requirements/$(EXTRA).lock pyproject.toml client/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "RECO needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/uv.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/$(EXTRA).lock requirements/uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . --editable client
	@touch $@

demo: install ## Draw a field guide, build its memory, train, print the table, serve it at http://127.0.0.1:8000
	$(BIN)/reco demo

# Tests start some two hundred processes of RECO: each would compile all of it anew where Python keeps no bytecode.
test: export PYTHONDONTWRITEBYTECODE :=
test: install ## Run all tests that need nothing but this folder, side by side on all cores
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: install ## Lint, formatting, types (of a Mac, too) and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(ROOMS)
	$(BIN)/mypy $(ROOMS) --platform darwin --no-warn-unreachable --cache-dir .mypy_cache/darwin
	$(BIN)/python -m pytest -q tests/test_house.py

format: install ## Rewrite the code as `make check` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install ## Write docs/api.md and docs/openapi.json from the code
	$(BIN)/python -m service.documents.api_reference docs

lock: install ## Renew the pinned requirements from pyproject.toml
	set -e; for extra in cpu gpu; do \
	  $(COMPILE) --extra $$extra --extra dev pyproject.toml -o requirements/$$extra.lock; \
	  $(COMPILE) --extra $$extra --extra otel $(IMAGE_ONLY) -c requirements/$$extra.lock pyproject.toml -o requirements/$$extra-runtime.lock; \
	done
	$(COMPILE) --extra cpu --extra dev --extra at-scale pyproject.toml -o requirements/at-scale.lock

docker: install ## Build the image and try it with Docker Compose (needs a Docker engine)
	$(BIN)/python -m pytest -m docker tests/deploy

browser: install ## Try the page in a real browser (needs Chromium; as root on Debian it is installed)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get -qq update && apt-get -qq install -y chromium; } || true
	$(BIN)/python -m pytest -m browser tests/browser

.venv/at-scale: requirements/at-scale.lock .venv/installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/at-scale.lock
	@touch $@

milvus: .venv/at-scale ## Try Milvus as a memory, on the server that Milvus Lite brings
	$(BIN)/python -m pytest -m milvus tests/memory tests/service

ray: .venv/at-scale ## Build on a Ray of three machines (simulated here), of which one is lost
	$(BIN)/python -m pytest -m ray tests/memory_builder

stores: .venv/at-scale ## Try corpora and memories in an object store, on the S3-compatible server that moto brings
	$(BIN)/python -m pytest -m stores tests/memory tests/memory_builder tests/reco tests/service

replicas: install ## Try replicas behind a balancer: rolling swaps, restarts, a kill (needs HAProxy; as root on Debian it is installed)
	@command -v haproxy >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get -qq update && apt-get -qq install -y haproxy; } || true
	$(BIN)/python -m pytest -m replicas tests/end_to_end

gpu: install ## Try encoder, search and faults on a GPU (needs one, and EXTRA=gpu for the search)
	$(BIN)/python -m pytest -m "gpu or not gpu" tests/gpu tests/memory/indexing/test_gpu_search.py

follow: install ## Follow the documentation: run its commands as a newcomer would
	$(BIN)/python -m pytest -m docs tests/docs

.venv/examples: examples/requirements.txt .venv/installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $@
	$(BIN)/uv pip install --quiet --python $@/bin/python --requirement examples/requirements.txt

examples: .venv/examples ## Run the examples against a service: LangChain, LlamaIndex, Qdrant, the notebook
	RECO_TEST_EXAMPLES=$(CURDIR)/.venv/examples/bin/python $(BIN)/python -m pytest -m examples tests/docs

screenshots: install ## Renew docs/images from the page, as the demo serves it (needs Chromium)
	$(BIN)/python -m tests.browser.screenshots docs/images

sbom: install ## Write the software bill of materials of the image to dist/
	mkdir -p dist
	$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements/$(EXTRA)-runtime.lock \
	  --pyproject pyproject.toml --mc-type application --output-reproducible --of JSON -o dist/sbom-$(EXTRA).json

release: install sbom ## Build wheels, image and notes of the tag that HEAD has, into dist/
	set -e; version=$$($(BIN)/python deploy/release/release.py dist); \
	  $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python -o dist . ; \
	  $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python -o dist client; \
	  docker build -t reco:$$version-$(EXTRA) --build-arg EXTRA=$(EXTRA) .; \
	  docker image inspect --format "reco:$$version-$(EXTRA)  {{.Size}} bytes" reco:$$version-$(EXTRA); ls dist

clean: ## Remove .venv, caches and the demo's folder
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info reco-demo
