# Two commands: `make demo` runs the whole workflow and writes a report; `make test` runs the checks.
# Each installs what it needs in .venv; only python3 and make are required.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long lint install bench coverage docs wheel web web-test clean

demo: install
	$(BIN)/frugalseg demo --overwrite

test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile -q

# The tests marked `long`: every command and notebook of the documentation, the site, every benchmark. An hour on two cores.
test-long: install
	$(BIN)/python -m pytest -n auto --dist loadfile -q -m long

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site, in build/site/html; fails on a broken link. Reads and loads nothing from the network.
docs: install
	$(BIN)/python -m docs.site.build

# ARGS: see `benchmarks/bench.py --help`, for example make bench ARGS="--only training --rounds 1"
bench: install
	$(BIN)/python benchmarks/bench.py $(ARGS)

# Which lines and branches the tests run; the page is htmlcov/index.html.
coverage: install
	$(BIN)/python -m pytest -n auto --dist loadfile -q --cov --cov-report term:skip-covered --cov-report html

# What is published: a wheel with the page of `annotate`, and the sources, in dist/.
wheel: install web
	$(BIN)/python -m build --no-isolation

# The page of `frugalseg annotate`, built into the package. Needs Node 20 or newer; a wheel carries the built page, so its users do not.
web: web/node_modules
	cd web && npm run --silent build

web-test: web/node_modules
	cd web && npm run --silent check && npm test --silent

web/node_modules: web/package.json web/package-lock.json
	cd web && npm ci --silent
	touch $@

install: $(VENV)/installed

# The constraints keep every installation on the tested versions and on one build of PyTorch.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,tracking,annotate,wandb,mlflow]'
	touch $@

clean:
	rm -rf $(VENV) frugalseg-demo build dist htmlcov .coverage
