# make help lists what can be done. PYTHON and VENV choose the interpreter and the environment, ARGS adds to a command:
#   make train ARGS="model.lrn=false seed=2"
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
JOBS ?= 2
SLOW ?=
OUTPUTS ?= outputs
BIN := $(VENV)/bin

# Written when everything is installed, and not before: a failed install is begun again.
DONE := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help install train smoke test coverage report lint format bench tensorboard lecture screenshots clean rename

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(DONE) ## make $(VENV) and install everything into it, at the versions of constraints.txt

$(DONE): setup.cfg constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit("error: $(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

train: $(DONE) ## train AlexNet on the embedded digits, a few minutes on two cores
	$(BIN)/python train.py $(ARGS)

smoke: $(DONE) ## the same path in seconds
	$(BIN)/python train.py experiment=smoke $(ARGS)

test: $(DONE) ## the tests, JOBS at a time, without those that take longest; SLOW=1 runs these too
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(if $(SLOW),,-m 'not slow') $(ARGS)

coverage: $(DONE) ## every test, and which lines of src/ none of them runs
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term-missing:skip-covered $(ARGS)

report: $(DONE) ## compare runs: make report ARGS=outputs/study/NAME
	$(BIN)/python report.py $(ARGS)

lint: $(DONE) ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DONE) ## put the style right
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DONE) ## measure LRN, the step and the loader against the usual way, on this machine
	$(BIN)/python benchmark.py $(ARGS)

tensorboard: $(DONE) ## look at every run, in the browser
	$(BIN)/tensorboard --logdir $(OUTPUTS)

lecture: $(DONE) ## run examples/lecture.ipynb and the Chinese one, and make docs/lecture.md of them
	rm -rf outputs/lecture docs/lecture_files
	$(BIN)/jupyter nbconvert --to markdown --execute --output-dir docs examples/lecture.ipynb
	rm -rf outputs/lecture
	$(BIN)/jupyter nbconvert --to markdown --execute --output-dir docs examples/lecture.zh-TW.ipynb
	rm -rf docs/lecture.zh-TW_files
	sed -i.old 's/lecture\.zh-TW_/lecture_/g' docs/lecture.zh-TW.md && rm docs/lecture.zh-TW.md.old

screenshots: $(DONE) ## make the images of docs/ again, with Chromium
	$(BIN)/python -m tests.screenshots

clean: ## remove the environment and caches; outputs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info
	find src tests -name __pycache__ -prune -exec rm -rf {} +

rename: ## give the package in src/ another name: make rename NAME=mine, then make install format
	git mv src/alexnet src/$(NAME)
	git grep -lIzw -e alexnet -e ALEXNET_CACHE -- . ':!docs/studies' | xargs -0 perl -pi -e ' \
	  s{(?<![\w./-])alexnet(?=\.(?!py\b|yaml\b)[\w"])}{$(NAME)}g; s{\b(from|(?<!models )import) alexnet\b}{$$1 $(NAME)}g; \
	  s{(src/|^name = |"src" / "|getLogger\(")alexnet\b}{$$1$(NAME)}g; s{INFO, "alexnet"}{INFO, "$(NAME)"}; \
	  s{\bALEXNET_CACHE\b}{\U$(NAME)\E_CACHE}g; s{~/\.cache/alexnet\b}{~/.cache/$(NAME)}g; \
	  s{^(source =|  project:|  experiment_name:) alexnet$$}{$$1 $(NAME)}'
