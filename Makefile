# Every target does its own set-up and may be repeated. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

SYSTEM_PYTHON := /usr/bin/python3
PYTHON := build/venv/bin/python
PYTEST := $(PYTHON) -m pytest
VM := $(PYTHON) -m tools.vm

# Of the table in livedump/tested.py: which kernels this machine's release of Debian tests, and how.
MACHINES = $(SYSTEM_PYTHON) -B -c 'from tools.vm import machines; print(machines.$1)'
FULL = $(shell $(call MACHINES,FULL))
SMOKE = $(shell $(call MACHINES,SMOKE))
DEEP = $(shell $(call MACHINES,DEEP))
PREEMPT = $(shell $(call MACHINES,PREEMPT))

# For `make vm`: KERNEL=6.12 MEMORY=4G CPUS=2 CMD='...'
KERNEL ?= $(FULL)
MEMORY ?= 2G
CPUS ?= 2
CMD ?=

# For `make install`, if it is not for the running kernel
KRELEASE ?=

# For `make debian`
RELEASE ?= $(shell $(call MACHINES,OTHER))
TARGET ?= test-guest test-smoke

# Bytecode goes to build/, never into the tree; the guest shares it.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

# A loop over nothing would pass: no list, or an empty one, is a failure.
RELEASES = releases=$$($(VM) kernels); \
	[ -n "$$releases" ] || { echo "make $@: error: tools.vm knows no kernels" >&2; exit 1; }

PY_FOLDERS := livedump tools tests
GUEST_TEST := $(PYTEST) --durations=8 tests/guest

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: setup
setup: ## Packages, build/venv, kernels and their headers, the report's assets
	@if ! [ -x $(SYSTEM_PYTHON) ]; then \
		[ "$$(id -u)" = 0 ] || { echo "setup: error: as root: apt-get install python3" >&2; exit 1; }; \
		apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install python3; \
	fi
	@$(SYSTEM_PYTHON) -m tools.setup
	@$(SYSTEM_PYTHON) -m tools.package.assets

.PHONY: debug
debug: setup ## Debian's vmlinux with debug information (860 MB for 6.1, once)
	@$(VM) fetch --debug $(FULL)

.PHONY: kmod
kmod: setup ## Build the kernel module, and those that tests need, for each kernel series
	@$(RELEASES); for release in $$releases; do \
		$(MAKE) -s -C tests/kmod STRICT=1 KRELEASE=$$release O=$(CURDIR)/build/kmod/$$release; \
	done

.PHONY: demo
demo: debug kmod ## The main job: dump a stock kernel under load, and show what it cost
	@$(PYTHON) -m tools.demo

.PHONY: tutorial
tutorial: debug kmod ## The commands of docs/tutorial.md; what they print goes to build/tutorial/
	@$(PYTHON) -m tools.demo.tutorial

.PHONY: test
test: test-unit test-vm test-guest test-smoke test-race test-oracle test-dump test-report ## All tests

.PHONY: test-unit
test-unit: setup ## Unit tests, on the host
	timeout 480 $(PYTEST) tests/unit

.PHONY: test-vm
test-vm: setup ## Real boots that prove tools.vm's verdicts
	timeout 1200 $(PYTEST) tests/vm

.PHONY: test-guest
test-guest: debug kmod ## Guest tests on 6.1 (Debian 13: 6.12), in full
	$(VM) run --kernel $(FULL) --memory 1536M --disk build/test/$(FULL).img:3G --timeout 2400 -- $(GUEST_TEST)

.PHONY: test-smoke
test-smoke: kmod ## Guest tests marked `smoke`, on 6.12 (Debian 13: 7.3 or newer)
	$(VM) run --kernel $(SMOKE) --memory 1536M --disk build/test/$(SMOKE).img:3G --timeout 1200 -- $(GUEST_TEST) -m smoke

.PHONY: test-race
test-race: setup ## Races, nested faults, NMIs, failing steps: the module's test build
	$(VM) run --kernel $(DEEP) --memory 1G --test-kmod --nmi 20 --disk build/test/race.img:2G \
		--timeout 900 -- $(PYTEST) --durations=8 tests/race

.PHONY: test-dump
test-dump: debug ## What crash and drgn make of the guest tests' dump, on the host
	timeout 420 $(PYTEST) tests/host/dump

.PHONY: test-oracle
test-oracle: setup ## The oracle's short form: one snapshot, judged by QEMU's own dump
	@$(VM) fetch --debug $(DEEP)
	timeout 600 $(PYTHON) -m tools.oracle --short --kernel $(DEEP)

.PHONY: test-report
test-report: setup ## The report of the guests' recordings, in a real browser on the host
	timeout 900 $(PYTEST) tests/host/report

.PHONY: picture
picture: test-report ## docs/report.png: the page of the recording that `make test-guest` has left
	cp build/report/$$($(VM) kernels $(FULL)).png docs/report.png

.PHONY: test-install
test-install: kmod deb ## As machines: `make install`, or the packages; boots, an upgrade, all gone again
	unshare --mount tests/install/machine.sh $(PYTEST) --durations=8 tests/install

.PHONY: test-cloud
test-cloud: setup ## Guest tests marked `smoke` on the cloud flavour of the kernel that is tested in full (root)
	tests/cloud.sh $(FULL) $(PYTHON)

.PHONY: lint
lint: setup ## flake8, isort, black, mypy --strict; W=1, sparse, checkpatch, check-* on the module
	$(PYTHON) -m flake8 $(PY_FOLDERS)
	$(PYTHON) -m isort --check-only --quiet $(PY_FOLDERS)
	$(PYTHON) -m black --check --line-length 100 $(PY_FOLDERS)
	$(PYTHON) -m mypy $(PY_FOLDERS)
	@$(RELEASES); for release in $$releases; do \
		echo "W=1 and sparse on $$release"; \
		$(MAKE) -s -C tests/kmod lint STRICT=1 KRELEASE=$$release O=$(CURDIR)/build/lint/$$release; \
	done
	$(PYTHON) -m tools.lint.checkpatch
	@$(MAKE) check-ibt
	@$(MAKE) check-untraced

.PHONY: check-ibt
check-ibt: kmod ## Disassemble the module: every indirect branch must be safe with kernel IBT
	@$(RELEASES); $(PYTHON) -m tools.lint.ibt --list \
		$$(for release in $$releases; do echo build/kmod/$$release/livedump.ko; done)

.PHONY: check-untraced
check-untraced: kmod ## Follow the module's code from a page fault: nothing may trace or probe it
	@$(RELEASES); $(PYTHON) -m tools.lint.untraced --list \
		$$(for release in $$releases; do echo build/kmod/$$release/livedump.ko; done)

.PHONY: bench
bench: kmod ## Downtime over RAM, cost of a fault, slowdown while held: build/bench/
	@$(PYTHON) -m tools.bench

.PHONY: matrix
matrix: kmod ## Guest tests marked `smoke` on kernels x paging levels x pti x preempt x CPUs
	@$(PYTHON) -m tools.matrix $(MATRIX)

.PHONY: hazards
hazards: kmod ## Long forms of the hazard tests: 200 rounds; 50 with 8 GiB and the default pool
	$(VM) run --kernel $(SMOKE) --memory 2G --timeout 3600 -- env LIVEDUMP_ROUNDS=200 \
		$(PYTEST) --durations=4 tests/guest/test_hazards.py -k "meanwhile or bursts"
	$(VM) run --kernel $(SMOKE) --memory 8G --timeout 3600 -- env LIVEDUMP_ROUNDS=50 \
		LIVEDUMP_POOL_MIB=0 $(PYTEST) --durations=4 tests/guest/test_hazards.py -k meanwhile

.PHONY: stats
stats: setup ## How often `diff` is wrong, and what it finds, on made-up loads: build/stats/ (an hour)
	@$(PYTHON) -m tools.stats

.PHONY: fuzz
fuzz: setup ## Any command line, name and meta.json, 1,000 of each, others each time (half an hour)
	LIVEDUMP_FUZZ=1000 $(PYTEST) tests/unit/test_fuzz.py

.PHONY: oracle
oracle: setup ## Judge every strategy by QEMU's own dumps of the instant, and the judge by mutants
	@$(VM) fetch --debug $(FULL) $(SMOKE)
	@$(PYTHON) -m tools.oracle
	@$(PYTHON) -m tools.oracle.rounds

.PHONY: rounds
rounds: kmod ## 100 snapshots under load on the kernel of the races, tasks preempted little and much
	@$(VM) fetch --debug $(DEEP)
	@$(PYTHON) -m tools.oracle.rounds --kernel $(DEEP) --memory 2G --append preempt=$(PREEMPT)
	@$(PYTHON) -m tools.oracle.rounds --kernel $(DEEP) --memory 2G --append preempt=full

.PHONY: debian
debian: ## TARGET='test-guest test-smoke' on the other Debian (RELEASE=), in a root of its own (root)
	@$(SYSTEM_PYTHON) -m tools.userland $(RELEASE) -- make $(TARGET)

.PHONY: keep
keep: ## TARGETS='oracle matrix': run them, and keep what they said in docs/tested.md
	@$(SYSTEM_PYTHON) -m tools.keep $(TARGETS)

.PHONY: vm
vm: export VM_COMMAND := $(value CMD)
vm: setup ## A root shell in the guest, or CMD='...' (also KERNEL=, MEMORY=, CPUS=)
	@options=(--kernel $(KERNEL) --memory $(MEMORY) --cpus $(CPUS)); \
	if [ -n "$$VM_COMMAND" ]; then \
		$(VM) run "$${options[@]}" -- bash -c "$$VM_COMMAND"; \
	else \
		$(VM) shell "$${options[@]}"; \
	fi

.PHONY: install
install: ## On a real machine: the module by DKMS, the commands in /usr/local/bin (root)
	@$(SYSTEM_PYTHON) -m tools.package.install install $(KRELEASE)

.PHONY: uninstall
uninstall: ## Undo `make install`
	@$(SYSTEM_PYTHON) -m tools.package.install uninstall

.PHONY: deb
deb: ## Debian packages for this release: livedump-dkms and livedump, to build/deb/ (root for apt)
	@$(SYSTEM_PYTHON) -m tools.package.debs

.PHONY: clean
clean: ## Remove build/; downloads stay in the cache folder
	rm -rf build
