# Understudy: `make` or `make help` says what there is.
#
# Variables, each also taken from the environment:
#   KERNEL    Debian package of both systems' kernels (linux-image-amd64; a suite may follow: linux-image-amd64/trixie)
#   KERNEL1   that of the first system, KERNEL2 of the second
#   CPUS      processors of the machine
#   SHARE     of the demo: CPUs that OS 2 gets turns on, which OS 1 keeps, for example 0,2 (TARGET=qemu)
#   TARGET    the machine to run on: bochs; for demo also qemu (AMD-V, q35), or kvm, where QEMU/KVM gives its guests VT-x
#   SCENARIO  of the demo: cycle, upgrade (OS 2 has Debian 13's kernel), add or service (a disk is plugged in or out; TARGET=qemu)
#   FIRMWARE  of the demo's machine: bios, or with TARGET=qemu also uefi
#   HOTPLUG   how slots are served in SCENARIO=add (acpi unless told) and service (native)
#   IOMMU     of the demo's machine, with TARGET=qemu: none, or intel or amd

SHELL := /bin/bash
export PATH := $(CURDIR)/build/node/bin:$(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin
export KERNEL KERNEL1 KERNEL2 CPUS SHARE TARGET SCENARIO FIRMWARE HOTPLUG IOMMU

.PHONY: help setup iso run test demo bench check fuzz-compiler bench-compiler clean distclean

help:
	@echo "make setup      install what is needed, where it is missing (Debian 12 or 13)"
	@echo "make iso        build everything into build/understudy.iso"
	@echo "make run        the first system's console here, in an emulator; Ctrl-] quits"
	@echo "make demo       the whole story: capture, second system, hand-over, release"
	@echo "make bench      measure it"
	@echo "make test       all tests"
	@echo "make check      types of the tooling code"
	@echo "make fuzz-compiler N=1000   random programs through the compiler, in Node and in C; SEED=1 repeats"
	@echo "make bench-compiler   the dialect against C and AssemblyScript"
	@echo "make clean      remove what was built; distclean also what was downloaded"
	@echo
	@sed -n '/^# Variables/,/^#   IOMMU/s/^# \?//p' Makefile

setup:
	@image/setup.sh

iso: setup
	@tsx image/iso.ts

run: setup
	@tsx image/run.ts

demo: setup
	@tsx demo/demo.ts

bench: setup
	@tsx bench/bench.ts

test: setup
	@vitest run --reporter=default --reporter=json --outputFile.json=build/test.json

check: setup
	@tsc

bench-compiler: setup
	@tsx bench/compiler/bench.ts

fuzz-compiler: setup
	@tsx test/compiler/fuzz.ts $(or $(N),1000) $(SEED)

clean:
	@mkdir -p build
	@find build -mindepth 1 -maxdepth 1 ! -name cache ! -name node ! -name setup.done -exec rm -rf {} +

distclean:
	@rm -rf build node_modules
