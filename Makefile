# Everything a fresh machine needs: Python 3.11 or newer, and make.
#   make demo    installs into .venv and runs `ruas demo`
#   make test    installs into .venv with the test extras and runs the tests, or those that TESTS= names
#   make docs    installs into .venv with the documentation's extra and builds the pages into site/
#   make lint    installs into .venv with the lint extras and checks style and types

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# What an installation is made from: a change installs anew.
BUILT_FROM := pyproject.toml hatch_build.py $(wildcard $(addprefix ruas_jax/convolution/native/*.,cc h inc))

.PHONY: demo test test-slow lint docs clean

demo: $(VENV)/.installed
	$(BIN)/ruas demo

# Two files of tests at a time, since compiling, which is most of it, keeps one core busy; in the order of their names,
# which leaves short ones for the end.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

# A warning, such as a link that leads nowhere, is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) demo site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.installed: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[docs]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[lint]"
	touch $@ $(VENV)/.installed
