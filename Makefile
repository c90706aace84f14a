# Every target sets up what it needs on a machine that has only make, git and Python 3.11 or newer.
# Environments are made once, and again when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_OPTIONS ?=
# --write-table writes the figures into docs/performance.md.
BENCH_OPTIONS ?=
# Worker processes of a test run; a test that is marked `alone` has no other beside it.
WORKERS ?= 2

# The tests start hundreds of programs: without stored bytecode each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-remote test test-lowest test-oneiric test-oneiric-newest test-crackerjack \
	test-crackerjack-newest test-plugins coverage lint format docs package bench bench-here bench-short \
	bench-oneiric nightly picture clean
.DELETE_ON_ERROR:

help:
	@echo "make demo         run a quality workflow over this project, and show it live"
	@echo "make demo-remote  let two simulated hosts share a session, and a third watch them"
	@echo "make test         run the quick tests; make coverage: measure what they cover"
	@echo "make test-lowest  run the core's tests with the lowest versions that pyproject.toml allows"
	@echo "make test-oneiric run those that need the real Oneiric; make test-crackerjack: the real crackerjack;"
	@echo "                  each for Python 3.13, and with -newest behind its name for Python 3.14"
	@echo "make test-plugins build and install this and the examples, and run their tests there"
	@echo "make lint         check format, style, types and imports"
	@echo "make docs         build the documentation into site/, strictly"
	@echo "make package      build the distribution into dist/, check it, and try it on each Python that is found"
	@echo "make bench        run the benchmarks; make bench-short: in a minute; make bench-oneiric: observing it"
	@echo "make picture      draw docs/live-view.svg from a run of the demo in a terminal"
	@echo "make nightly      run the slow tests, with the larger figures"
	@echo "make clean        remove all that these made"
	@echo "PYTHON=python3.13 VENV=.venv-3.13 use another Python, in an environment of its own"

demo: $(VENV)/.with-cli
	$(BIN)/eventbus demo .

# The tests bring the server.
demo-remote: $(VENV)/.with-tests
	$(BIN)/python examples/remote_demo.py

test: $(VENV)/.with-tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not nightly" $(PYTEST_OPTIONS)

# The larger figures, and the property tests of the quick tier with more examples.
nightly: $(VENV)/.with-tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "nightly or hypothesis" \
		--hypothesis-profile=nightly $(PYTEST_OPTIONS)

# What a user with old packages has. pip cannot resolve to the lowest versions, but uv can.
test-lowest: .venv-lowest/.with-lowest
	.venv-lowest/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not nightly and not alone" \
		tests/events tests/delivery tests/test_contracts.py tests/test_plugins.py tests/test_session.py \
		tests/test_settings.py tests/cli/test_program.py tests/cli/test_command_line.py \
		tests/cli/test_mcp.py tests/cli/test_session_page.py tests/cli/test_export_otlp.py $(PYTEST_OPTIONS)

# They need an environment of their own: they bring a hundred packages. Each Python has its newest versions.
TEST_ONEIRIC = python -m pytest tests/integrations tests/test_docs.py $(PYTEST_OPTIONS)
TEST_CRACKERJACK = python -m pytest -p no:asyncio tests/integrations/test_crackerjack.py $(PYTEST_OPTIONS)

test-oneiric: .venv-oneiric/.with-oneiric
	.venv-oneiric/bin/$(TEST_ONEIRIC)

test-oneiric-newest: .venv-oneiric-newest/.with-oneiric
	.venv-oneiric-newest/bin/$(TEST_ONEIRIC)

test-crackerjack: .venv-crackerjack/.with-crackerjack
	.venv-crackerjack/bin/$(TEST_CRACKERJACK)

test-crackerjack-newest: .venv-crackerjack-newest/.with-crackerjack
	.venv-crackerjack-newest/bin/$(TEST_CRACKERJACK)

# As a third party has them: built, and installed into a fresh environment.
test-plugins: $(VENV)/.with-tests
	$(BIN)/python -m pytest examples/tests $(PYTEST_OPTIONS)

coverage: $(VENV)/.with-tests
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -m "not nightly" $(PYTEST_OPTIONS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: $(VENV)/.with-linters
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/.with-linters
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: .venv-docs/.with-docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

# Built twice and compared; then installed by its name in fresh environments.
package: .venv-package/.with-packagers
	.venv-package/bin/zizmor --offline --no-progress .github
	.venv-package/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv-package/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	.ci/package .venv-package/bin/python dist
	EVENTBUS_DIST="$(CURDIR)/dist" PYTHON_3_13="$(PYTHON_3_13)" PYTHON_3_14="$(PYTHON_3_14)" \
		.venv-package/bin/python -m pytest --noconftest -m nightly tests/test_package.py $(PYTEST_OPTIONS)

# In an environment of its own: one of the peers needs old versions of the tests' packages.
bench:
	$(MAKE) --no-print-directory VENV=$(VENV)-bench bench-here

bench-here: $(VENV)/.with-peers
	$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

bench-short: $(VENV)/.with-tests
	$(BIN)/python -m benchmarks --short

bench-oneiric: .venv-oneiric/.with-oneiric
	.venv-oneiric/bin/python -m benchmarks --short --only Oneiric

# Of the live view, for the README.
picture: $(VENV)/.with-tests
	$(BIN)/python docs/pictures/draw_live_view.py

clean:
	rm -rf .venv .venv-* .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache build dist site
	find eventbus subscribers tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# One step each, so that the demo does not wait for tools it does not use. pip reads dependency
# groups since 25.1; a new environment has the pip of its Python.
$(VENV)/.with-pip: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 or newer. hint: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@touch $@

$(VENV)/.with-cli: $(VENV)/.with-pip
	$(BIN)/python -m pip install --quiet --editable '.[cli]'
	@touch $@

$(VENV)/.with-tests: $(VENV)/.with-cli
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.with-peers: $(VENV)/.with-cli
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(VENV)/.with-linters: $(VENV)/.with-tests
	$(BIN)/python -m pip install --quiet --group lint
	@touch $@

.venv-lowest/.with-lowest: pyproject.toml
	@$(MAKE) --no-print-directory VENV=.venv-lowest .venv-lowest/.with-pip
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct \
		--editable '.[cli]' --group test
	@touch $@

.venv-docs/.with-docs: pyproject.toml
	@$(MAKE) --no-print-directory VENV=.venv-docs .venv-docs/.with-cli
	.venv-docs/bin/python -m pip install --quiet --group docs
	@touch $@

.venv-package/.with-packagers: pyproject.toml
	@$(MAKE) --no-print-directory VENV=.venv-package .venv-package/.with-cli
	.venv-package/bin/python -m pip install --quiet --group package
	@touch $@

# A name on the PATH may be a shim with nothing behind it.
find_python = $(shell for each in python$(1) $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$(1)*/bin/python$(1); \
	do $$each -c "" 2>/dev/null && command -v $$each && break; done)
PYTHON_3_13 ?= $(call find_python,3.13)
PYTHON_3_14 ?= $(call find_python,3.14)

# Pythons to use, by their versions: make print-python-3.14
print-python-%:
	@echo $(PYTHON_$(subst .,_,$*))

.venv-%/.with-tests: pyproject.toml
	@test -n "$(PYTHON_3_13)" || \
		{ echo "error: there is no Python 3.13. hint: make $@ PYTHON_3_13=/path/to/python3.13" >&2; exit 2; }
	@$(MAKE) --no-print-directory PYTHON="$(PYTHON_3_13)" VENV=.venv-$* $@

.venv-%-newest/.with-tests: pyproject.toml
	@test -n "$(PYTHON_3_14)" || \
		{ echo "error: there is no Python 3.14. hint: make $@ PYTHON_3_14=/path/to/python3.14" >&2; exit 2; }
	@$(MAKE) --no-print-directory PYTHON="$(PYTHON_3_14)" VENV=.venv-$*-newest $@

.venv-oneiric/.with-oneiric .venv-oneiric-newest/.with-oneiric: %/.with-oneiric: %/.with-tests
	$*/bin/python -m pip install --quiet --group oneiric
	@touch $@

.venv-crackerjack/.with-crackerjack .venv-crackerjack-newest/.with-crackerjack: %/.with-crackerjack: \
		%/.with-tests
	$*/bin/python -m pip install --quiet --group crackerjack
	@touch $@
