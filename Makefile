# SPDX-License-Identifier: Apache-2.0
# A thin front for CMake and scripts/. `make help` lists what there is.
#
#   PRESET=release     a configure preset of CMakePresets.json
#   PREFIX=/usr/local  for install, with DESTDIR= if wanted
#   T=target ...       build only these targets (make build)

PRESET ?= release
PREFIX ?= /usr/local
BUILD_DIR ?= build/$(PRESET)
CTEST = scripts/build.sh $(PRESET) --test
export BUILD_DIR

.DEFAULT_GOAL := build
.PHONY: help deps build unit sim replay e2e test test-kernel test-kube images demo tutorial bench fuzz soak install format \
	tidy lint clean

help:
	@echo 'make deps     install the Debian packages that are missing'
	@echo 'make build    programs in build/bin (PRESET=$(PRESET); T=... for single targets)'
	@echo 'make test     everything: format, tidy, two compilers, sanitizers, end to end'
	@echo 'make unit     unit tests of one preset; likewise sim, replay (fuzz corpora), e2e'
	@echo 'make demo     a guided tour of a two-node mesh on this machine (KEEP=1 leaves it up)'
	@echo 'make tutorial the well-known Istio exercises (EX=row for some, EX=quick, KEEP=1 leaves its lab up, MODE=kube in a cluster)'
	@echo 'make test-kernel  main end-to-end flows on Debian 12'"'"'s kernel in QEMU, five to ten minutes'
	@echo 'make test-kube  on the Kubernetes cluster that KUBECONFIG names, under its istiod (tests/kube/README.md)'
	@echo 'make images   container images by docker, podman or buildah (TAG=, REGISTRY=, PUSH=1)'
	@echo 'make bench    measure, write the report to bench/results'
	@echo 'make fuzz     libFuzzer on every fuzz target (FUZZ_TIME=60 seconds each, FUZZ=name ...)'
	@echo 'make soak     the long run'
	@echo 'make format   rewrite the sources with clang-format; make tidy: house rules'
	@echo 'make lint     clang-tidy'
	@echo 'make install  PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'make clean    remove build/ (the BoringSSL cache stays)'

deps:
	@scripts/deps.sh

build: deps
	@scripts/build.sh $(PRESET) $(T)
	@$(if $(T),true,scripts/build.sh $(PRESET) --link-bin)

unit: deps
	@scripts/build.sh $(PRESET) unit
	@$(CTEST) -L unit

sim: deps
	@scripts/build.sh $(PRESET) sim_tests
	@$(CTEST) -L sim

replay: deps
	@scripts/build.sh $(PRESET) fuzz_tests
	@$(CTEST) -L fuzz

e2e: build
	@scripts/e2e.sh $(BUILD_DIR)/bin

test: deps
	@scripts/test.sh

test-kernel: build
	@scripts/optional.sh scripts/test-kernel.sh

test-kube: deps
	@scripts/test-kube.sh $(K)

images:
	@TAG='$(TAG)' REGISTRY='$(REGISTRY)' PUSH='$(PUSH)' BUILDER='$(BUILDER)' scripts/images.sh

demo: build
	@scripts/optional.sh scripts/demo.sh

tutorial: build
	@BIN_DIR=$(BUILD_DIR)/bin EX='$(EX)' KEEP='$(KEEP)' MODE='$(MODE)' scripts/tutorial.sh

bench: build
	@scripts/optional.sh scripts/bench.sh

soak: build
	@scripts/optional.sh scripts/soak.sh

fuzz: deps
	@scripts/fuzz.sh

install: build
	@DESTDIR='$(DESTDIR)' cmake --install $(BUILD_DIR) --prefix $(abspath $(PREFIX))

format: deps
	@scripts/format.sh

tidy: deps
	@scripts/format.sh --check
	@python3 tests/tidy.py

lint: deps
	@scripts/build.sh $(PRESET) zt_generated
	@scripts/lint.sh $(BUILD_DIR)

clean:
	@rm -rf build
