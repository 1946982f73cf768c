# The commands of this collection. They need Python >= 3.11 with venv, git and make, nothing else.
#   make run PYTHON=python3.12            another interpreter
#   make run LESSONS=02_yolo_v3_darknet   one lesson only
PYTHON ?= python3
LESSONS ?=

VENV := .venv
SITE_VENV := .venv-site
ifeq ($(OS),Windows_NT)
PROGRAMS := Scripts
else
PROGRAMS := bin
endif
BIN := $(VENV)/$(PROGRAMS)
PIP_INSTALL := -m pip install --disable-pip-version-check

# Stamps live inside the environment: they go when it goes, and each is written only after its
# step has ended well, so that an installation cut short is taken up again.
MADE := $(VENV)/.made
FOR_LESSONS := $(VENV)/.installed-for-lessons
FOR_TESTS := $(VENV)/.installed-for-tests
SITE_MADE := $(SITE_VENV)/.made
FOR_SITE := $(SITE_VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run smoke test test-full site lab notebooks figures lint format clean

help:
	@echo "make run        execute every lesson; results and HTML pages go to build/"
	@echo "make smoke      execute all cells of every lesson in the smallest sizes, some minutes"
	@echo "make test       check the code with ruff, build the site, then run the tests"
	@echo "make test-full  the same with the long tests: full lessons, many cases, killed trainings"
	@echo "make site       build the course as a website in build/site, ready to read or publish"
	@echo "make lab        open the lessons in JupyterLab"
	@echo "make notebooks  execute the committed notebooks in place, with the preset street"
	@echo "make figures    draw all figures of assets/ again, from the lessons' code"
	@echo "make lint       ruff alone"
	@echo "make format     let ruff rewrite the code in the project's style"
	@echo "make clean      delete build/ and the caches (the environments stay)"
	@echo ""
	@echo "All of them make the environment .venv when it is missing (about 5 GB, some minutes);"
	@echo "make site alone needs only a small one, .venv-site (about 200 MB, no PyTorch)."
	@echo "PYTHON=python3.12 chooses the interpreter, LESSONS=02_yolo_v3_darknet the lessons."

run: $(FOR_LESSONS)
	$(BIN)/python tools/run_lessons.py $(LESSONS)

smoke: $(FOR_LESSONS)
	$(BIN)/python tools/run_lessons.py --smoke $(LESSONS)

test: lint site
	$(BIN)/python tools/test.py $(LESSONS)

test-full: lint site
	$(BIN)/python tools/test.py --full $(LESSONS)

site: $(FOR_SITE)
	$(SITE_VENV)/$(PROGRAMS)/python book/build.py

lab: $(FOR_LESSONS)
	$(BIN)/python -m jupyter lab

# No GPU is shown to the lessons, so every machine writes the outputs of the preset street.
notebooks: export CUDA_VISIBLE_DEVICES :=
notebooks: $(FOR_LESSONS)
	$(BIN)/python tools/run_lessons.py --in-place $(LESSONS)

figures: $(FOR_LESSONS)
	$(BIN)/python assets/make_figures.py

lint: $(FOR_TESTS)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(FOR_TESTS)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis
	find . -path './$(VENV)*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

# An environment that already works is kept; one without a working pip is made again.
$(MADE) $(SITE_MADE): %/.made:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "These lessons need Python 3.11 or newer; '$(PYTHON)' is older or missing." \
	    "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || { \
	  echo "'$(PYTHON)' comes without the module venv." \
	    "On Debian and Ubuntu install the package python3-venv." >&2; exit 1; }
	@$*/$(PROGRAMS)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $*
	@touch $@

$(FOR_LESSONS): requirements.txt $(MADE)
	$(BIN)/python $(PIP_INSTALL) -r requirements.txt
	@touch $@

$(FOR_TESTS): requirements.txt requirements-dev.txt $(MADE)
	$(BIN)/python $(PIP_INSTALL) -r requirements-dev.txt
	@touch $(FOR_LESSONS) $@

$(FOR_SITE): book/requirements.txt $(SITE_MADE)
	$(SITE_VENV)/$(PROGRAMS)/python $(PIP_INSTALL) -r book/requirements.txt
	@touch $@
