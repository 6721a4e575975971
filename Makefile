# Each target works on a fresh clone and builds the virtual environment it needs.
# PYTHON picks the interpreter to build it with: make test PYTHON=python3.12

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$$python" && break; done)
VENV := .venv
RUN := runs/demo
TWO := -n 2 --dist loadfile  # two processes; the tests of a file stay together

# What a shell may carry that would lead python or pip elsewhere.  Where packages come from stays the user's choice.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS VIRTUAL_ENV
unexport PIP_BREAK_SYSTEM_PACKAGES PIP_DRY_RUN PIP_IGNORE_INSTALLED PIP_NO_BUILD_ISOLATION PIP_NO_DEPS PIP_PREFIX
unexport PIP_PYTHON PIP_REQUIREMENT PIP_REQUIRE_HASHES PIP_ROOT PIP_TARGET PIP_USER

.PHONY: demo test test-fast bench results docs lint clean
.DELETE_ON_ERROR:

# The bridge between the colours of two photographs, and then max–min at work on a problem whose bridge is known.
# The run folder stays; a second `make demo` finds its stages finished and an interrupted one goes on.
demo: $(VENV)/installed
	$(VENV)/bin/sbridge recover photos --out $(RUN) --resume
	$(VENV)/bin/python experiments/maxmin.py --starts "twice the noise" --seconds 20 --out $(RUN)-maxmin

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest $(TWO)

# Without the tests that are marked as slow.
test-fast: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest $(TWO) -m "not slow"

# Every method on one small problem of each kind, with eight seconds of training each.  A second call goes on.
bench: $(VENV)/installed-bench
	$(VENV)/bin/sbridge bench quick --jobs 2

# Tables and figures of the documentation: days on two quiet cores.  A second call goes on.
EXPERIMENTS := compare maxmin "ablation --seeds 0 --budgets 60" "cost step" "cost accuracy" "cost sinkhorn" "cost imports" few_points \
	certificate ranking real_data "scale throughput" "scale faults" "scale search" \
	robustness theory_control theory_likelihood theory_design theory_variance
# `make results DATA=folder` has the tables of single cells too: eb/ and msci/ in that folder.
EXPERIMENTS += $(if $(DATA),"cells $(DATA)")

results: $(VENV)/installed-dev
	for words in $(EXPERIMENTS); do \
		set -- $$words; name=$$1; shift; \
		$(VENV)/bin/python experiments/$$name.py "$$@" || exit; \
	done
	$(VENV)/bin/python docs/results.py

# The documentation as a site: open site/index.html.  Nothing is fetched, and a broken link or name fails.
docs: $(VENV)/installed-dev
	$(VENV)/bin/python docs/figures.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

lint: docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) $(RUN) $(RUN)-maxmin site docs/figures

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed; name it with PYTHON=…" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

# The constraints also hold for the environment in which pip builds the package.
install = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(VENV)/bin/python -m pip install --quiet --editable

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(install) .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/installed-bench
	$(install) '.[dev]'
	touch $@

# torchcfm is a method of the benchmark, and tests compare with it.  Its dependencies serve parts that are not used here.
$(VENV)/installed-bench: | $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --no-deps torchcfm==1.0.7
	touch $@
