# `make` lists the targets. Everything runs in .venv, which is made on first use.
.DEFAULT_GOAL := help
.PHONY: help lab test quick reproduce smoke notebooks exported outputs lint readme docs bench clean

WORKERS ?= 2
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
SNAPSHOT := $(BIN)/python nbs/contents.py

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Written last, so that an installation that failed or was interrupted is taken up again.
$(INSTALLED): settings.ini setup.py constraints.txt
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { \
		echo 'mvssl needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo 'Installing into .venv (minutes on first use) ...'
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	@touch $@

lab: $(INSTALLED)  ## open the notebooks in JupyterLab, at nbs/index.ipynb
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs/index.ipynb

# One thread per worker: as many workers as cores, without each of them starting as many threads again.
test quick: export OMP_NUM_THREADS := 1
test quick: export OPENBLAS_NUM_THREADS := 1
test quick: export MKL_NUM_THREADS := 1
test: lint exported  ## run everything: lint, notebooks exported and clean, every notebook, every test
	@test ! -s .venv/changed || { echo 'Look at these changes and commit them, then again.' >&2; exit 1; }
	$(BIN)/nbdev_test --n_workers $(WORKERS) --timing
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests

quick: lint exported  ## in a minute: lint, export, the notebooks and tests that your changes touch, nearest first
	$(BIN)/python tests/touched.py --workers $(WORKERS)

# Exports and cleans, and says what that has changed.
exported: $(INSTALLED)
	@$(SNAPSHOT) > .venv/before
	@$(MAKE) --no-print-directory notebooks
	@$(SNAPSHOT) | diff .venv/before - > .venv/changed || { \
		echo 'Not exported, or not clean; it is now:' >&2; \
		awk '/^[<>]/ {print "  " $$3}' .venv/changed | sort -u >&2; }

reproduce: $(INSTALLED)  ## make every table and figure of the supplementary: less than 20 minutes on two cores
	$(BIN)/mvssl reproduce --profile laptop --out .

smoke: $(INSTALLED)  ## the same, tiny, into build/smoke: shows that all of it runs
	$(BIN)/mvssl reproduce --profile smoke --out build/smoke

notebooks: $(INSTALLED)  ## export mvssl/ from the notebooks and clean them
	$(BIN)/nbdev_export
	$(BIN)/python nbs/hidden.py
	$(BIN)/nbdev_clean

lint: $(INSTALLED)  ## look for mistakes in notebooks, tests, benchmarks and the script and style of pages
	$(BIN)/ruff check
	$(BIN)/biome lint --error-on-warnings mvssl/show/templates/*.js mvssl/show/templates/*.css
	$(BIN)/ruff format --check --quiet || { echo 'Lay it out: $(BIN)/ruff format' >&2; exit 1; }

outputs: $(INSTALLED)  ## run the notebooks of the library and keep what they show: minutes
	$(BIN)/jupyter nbconvert --log-level ERROR --to notebook --execute --inplace nbs/[0-9]*.ipynb nbs/*/[0-9][0-9]_*.ipynb
	$(BIN)/python nbs/hidden.py
	$(BIN)/nbdev_clean

readme: $(INSTALLED)  ## run nbs/index.ipynb and make README.md from it
	$(BIN)/jupyter nbconvert --log-level ERROR --to notebook --execute --inplace nbs/index.ipynb
	$(BIN)/nbdev_clean --fname nbs/index.ipynb
	rm -rf nbs/images
	$(BIN)/python nbs/readme.py .

docs: $(INSTALLED)  ## make the documentation from the notebooks: build/docs/html/index.html
	$(BIN)/python docs/pages.py build/docs

bench: $(INSTALLED)  ## run the benchmarks; each prints its figures
	@for file in $(wildcard benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## remove .venv and everything else that was made here, but not data/ and runs/
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
