# Everything a fresh machine needs: Python 3.11 or newer, and make.
#   make demo    installs into .venv and runs `ruas demo`
#   make test    installs into .venv with the test extras and runs the tests, or those that TESTS= names
#   make docs    installs into .venv with the documentation's extra and builds the pages into site/
#   make test-browser  installs the browser extra, and Chromium where there is none, and tests the page docs/try
#   make lint    installs into .venv with the lint extras and checks style and types

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# What an installation is made from: a change installs anew.
BUILT_FROM := pyproject.toml hatch_build.py $(wildcard $(addprefix ruas_jax/convolution/native/*.,cc h inc))

CHROMIUM ?= $(shell command -v chromium chromium-browser google-chrome | head -n 1)
# What the page docs/try needs beside its own files.
TRY := docs/try/model.onnx docs/try/runtime/version

.PHONY: demo test test-slow test-browser lint docs clean

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

test-browser: $(VENV)/.installed-browser $(TRY)
	test -n "$(CHROMIUM)" || (apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends chromium)
	CHROMIUM=$(or $(CHROMIUM),chromium) $(BIN)/python -m pytest tests_browser

# A warning, such as a link that leads nowhere, is an error.
docs: $(VENV)/.installed-docs $(TRY)
	$(BIN)/python -m mkdocs build --strict

docs/try/model.onnx: $(wildcard ruas_jax/photos/weights/general.* ruas_jax/export/*.py) | $(VENV)/.installed-docs
	$(BIN)/ruas export $@ --windows --overwrite

docs/try/runtime/version: docs/try/runtime.py | $(VENV)/.installed-docs
	$(BIN)/python docs/try/runtime.py

clean:
	rm -rf $(VENV) demo site $(TRY) docs/try/runtime

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

$(VENV)/.installed-browser: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[browser]"
	touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-lint: $(BUILT_FROM) | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[lint]"
	touch $@ $(VENV)/.installed
