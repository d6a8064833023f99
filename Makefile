# Two commands matter: `make evaluate` and `make test`. Each sets the machine up first, by itself.

SHELL := /bin/bash
BIN := .venv/bin
PYTHON_FILES := testbed tests benchmarks notebooks examples docs

# The newest campaign, else the small reference data of the repository.
RESULTS ?= $(or $(shell ls -t results/*/plan.json 2>/dev/null | grep -vxE 'results/reference(-paper)?/plan.json' | \
	sed -n '1s,/plan.json$$,,p'),results/reference)

# What a user's PYTHONPATH holds (plugins of pytest, other versions of packages) is not of .venv.
unexport PYTHONPATH PYTHONHOME

# Line and branch coverage in percent: less is a failure. The verifier has a floor of its own. Parts of the package need
# a machine, so only tests/vm reaches them.
COVER_MIN := 92
COVER_MIN_VERIFIER := 95

# `make fuzz`: each of these for so many seconds, two at a time.
FUZZ_TARGETS := log evidence ascii quote signature key bundle state policy image
SECONDS ?= 600

# Tests that boot: number of machines at a time. tests/vm/conftest.py keeps the tests of one machine together.
VM_WORKERS ?= 2

# `make kernels`: the tests that run on each kernel.
KERNEL_TESTS := $(addprefix tests/vm/test_,kernels.py alive.py code.py image.py prototypes.py)

# `make holes`: attacks, and harmless actions that must cause no alarm.
HOLE_TESTS := $(addprefix tests/vm/test_,holes.py denial.py quiet.py second.py known.py drift.py verity.py)

# `make kasan`: the mode of the measurer, and how many programs containers execute.
MODE ?= file
EXECS ?= 20000

# `make scaling`: machines that differ. With several processors no clock counts instructions: VCPU_TIER=kvm if KVM works.
BANKS := "sha256" "sha1","sha256" "sha1","sha256","sha384" "sha1","sha256","sha384","sha512"
VCPUS := 1 2 4
VCPU_TIER ?= tcg

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: setup desk evaluate selftest scaling test test-vm browser check holes kernels fuzz kasan figures paper paper-full \
	quoted pages notebooks jupyter doctor demo shell clean help

setup: ## packages, .venv; run by the targets below when they need it
	@bash setup/setup.sh lab

desk:
	@bash setup/setup.sh desk

evaluate: setup ## the smoke experiment: machines, verification, figures, report
	@$(BIN)/testbed evaluate

selftest: setup ## a null campaign, in which no effect may be found, and a positive control, which must be found
	@$(BIN)/testbed selftest

scaling: setup ## curves: files, bytes, containers alive, PCR banks, processors, the log's length (VCPU_TIER=kvm)
	@$(BIN)/testbed run experiments/scaling.toml --tier icount
	@for banks in $(foreach banks,$(BANKS),'$(banks)'); do \
		$(BIN)/testbed run experiments/scaling-machine.toml --tier icount --set "machine.pcr_banks=[$$banks]" || exit; \
	done
	@for vcpus in $(VCPUS); do \
		$(BIN)/testbed run experiments/scaling-machine.toml --tier $(VCPU_TIER) --set machine.vcpus=$$vcpus \
			$(if $(filter tcg,$(VCPU_TIER)),--set blocks=1) || exit; \
	done
	@$(BIN)/testbed bench log

test: check docs browser test-vm ## check, the site, the tests in a browser, then those that boot machines, VM_WORKERS=2 at a time (TESTBED_SKIP_VM=1 leaves those out)

# A user may skip tests on their own machine; CI and TESTBED_FORCE_VM override that.
test-vm: export TESTBED_FORCE_VM := 1
test-vm: check
ifneq ($(and $(TESTBED_SKIP_VM),$(if $(CI)$(TESTBED_FORCE_VM),,1)),)
	@echo '**** NOT TESTED: the tests that boot machines were left out (TESTBED_SKIP_VM is set). ****'
else
	$(BIN)/pytest tests/vm -m 'vm and not variant' -n $(VM_WORKERS)
endif

browser: setup ## the report page in a headless browser (TESTBED_SCREENSHOTS=1 writes the pictures of the docs)
	TESTBED_FORCE_BROWSER=1 $(BIN)/pytest tests/browser -q

check: setup ## format, lint, types, unit tests; no root, no machine
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/mypy
	$(BIN)/mypy tests/vm
	$(BIN)/mypy tests/kasan
	$(BIN)/mypy tests/browser
	$(BIN)/pytest tests/unit -q -n 2 --cov=testbed --cov-branch --cov-report=
	@echo 'Coverage of the verifier:'
	$(BIN)/coverage report --include='testbed/attest/*' --show-missing --skip-covered --fail-under=$(COVER_MIN_VERIFIER)
	@echo 'Coverage of the whole package, in percent:'
	$(BIN)/coverage report --format=total --fail-under=$(COVER_MIN)

holes: setup ## every attack on the measurer, in all its variants, on both kernels
	TESTBED_FORCE_VM=1 $(BIN)/pytest $(HOLE_TESTS) -m vm -n $(VM_WORKERS)

kernels: setup ## boot every kernel with every measurer, and the tests on each; writes docs/kernels.md
	@$(BIN)/testbed kernels
	TESTBED_KERNELS=all TESTBED_FORCE_VM=1 $(BIN)/pytest $(KERNEL_TESTS) -m 'vm and not variant' -n $(VM_WORKERS)

fuzz: setup ## hostile bytes for the verifier, SECONDS=600 for each kind
	@printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I {} $(BIN)/python tests/fuzz/run.py {} --seconds $(SECONDS)

kasan: export TESTBED_KASAN := 1
kasan: export TESTBED_KASAN_MODE = $(MODE)
kasan: export TESTBED_KASAN_EXECS = $(EXECS)
kasan: setup ## compile a kernel that looks for memory and lock errors, once, and soak the measurer in it (MODE=file EXECS=20000)
	$(BIN)/pytest tests/kasan -v -s

# By the environment, where no character of a path has a meaning; but for a leading ~/, which no shell has expanded.
figures: export TESTBED_DRAWN = $(RESULTS)
figures: desk ## draw the figures of RESULTS=... again (the newest campaign, else results/reference)
	@$(BIN)/testbed figures "$${TESTBED_DRAWN/#\~\//$$HOME/}"

quoted: desk ## write the tables and the digest of results/reference into the pages that quote them
	@$(BIN)/python -m testbed.analysis.quoted results/reference docs/overhead.md docs/calibration.md README.md

paper: desk ## the paper's figures, tables and claims in build/paper, from the reference data, without a machine
	@$(BIN)/testbed paper

paper-full: setup ## the same from the first boot on: runs both of its experiments, then draws from them (about 70 minutes)
	@$(BIN)/testbed run experiments/paper.toml
	@$(BIN)/testbed run experiments/overhead.toml
	@$(BIN)/testbed paper --newest results

pages: desk notebooks paper docs ## every page, figure and notebook again from the reference data, below build/pages
	@$(BIN)/python -m testbed.analysis.pages build/pages

notebooks: desk ## execute the notebooks again (TESTBED_RESULTS=...: on a campaign other than results/reference)
	$(BIN)/python -m testbed.analysis.notebook $(wildcard notebooks/*.py)

# The newest campaign is in the environment, from which the notebooks take it. Nothing is fetched: no news, no extensions.
jupyter: export TESTBED_RESULTS = $(RESULTS)
jupyter: desk ## JupyterLab in notebooks/ on the newest campaign (RESULTS=...), on this machine only and with a token
	@$(BIN)/jupyter lab --notebook-dir=notebooks --ServerApp.ip=127.0.0.1 --ServerApp.allow_remote_access=False \
		--LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
		--LabApp.extension_manager=readonly $(if $(filter 0,$(shell id -u)),--allow-root) $(JUPYTER_ARGS)

doctor: desk ## what this machine can do, and what is missing
	@$(BIN)/testbed doctor

demo: setup ## five minutes: a machine, its log, its verdict, and four attacks that turn it
	@$(BIN)/testbed demo

shell: setup ## a shell in a booted guest
	@$(BIN)/testbed shell

.PHONY: docs
docs: desk ## the documentation as a site, in build/docs; every link within it is checked
	$(BIN)/python docs/_site/site_build.py

clean: ## remove files that tools leave here
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find testbed tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'Left: results/ (yours), .venv/ (rm -r .venv), the cache of images and kernels ($${TESTBED_CACHE:-~/.cache/container-testbed}),'
	@echo 'and the state directory ($${TESTBED_STATE:-~/.local/state/container-testbed}).'

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
