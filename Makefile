# fp8cast: a thin front to CMake. `make demo` and `make check` do everything,
# set-up included; see README.md.

BUILD   ?= build
PREFIX  ?= /usr/local
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)

# A blank would make two targets of it, and `make clean` remove two folders.
ifneq ($(words $(BUILD)),1)
$(error BUILD: expected a folder without blanks, found "$(BUILD)")
endif

.PHONY: all demo check interop coverage faults soak fuzz bench bench-full \
    install uninstall clean setup test-build format

all: $(BUILD)/CMakeCache.txt
	@cmake --build "$(BUILD)" -j $(JOBS)

$(BUILD)/CMakeCache.txt:
	@cmake -S . -B "$(BUILD)" -DCMAKE_INSTALL_PREFIX="$(PREFIX)" $(CMAKE_FLAGS)

# What the build and the demo need; the tests need more.
setup:
	@scripts/setup build

demo: setup all
	@scripts/demo "$(BUILD)"

check:
	@scripts/setup check
	@scripts/check

# Needs 9 GB of Python packages, so it is no part of `make check`.
interop: all
	@scripts/setup-interop
	@FP8CAST="$(abspath $(BUILD))/fp8cast" scripts/interop

# Every call disturbed in turn, where check takes a sample: half an hour.
faults: all
	@for part in sweep holders durable signals; do \
	    FP8CAST="$(BUILD)/fp8cast" tests/faults/$$part.py --full || exit 1; \
	done

# Kills at random moments of a conversion of 6 GB; ROUNDS=50.
soak: all
	@FP8CAST="$(BUILD)/fp8cast" tests/faults/soak.py

# Each target of tests/fuzz for SECONDS, with clang.
SECONDS ?= 60
fuzz:
	@scripts/setup fuzz
	@scripts/fuzz $(SECONDS)

coverage:
	@scripts/setup coverage
	@scripts/coverage

# A few minutes and 20 GB; ROUNDS, BENCH_DIR and BENCH_PYTHON: bench/run --help.
bench bench-full: all
	@scripts/setup bench
	@cmake --build "$(BUILD)" -j $(JOBS) --target bench_floor bench_kernels
	@bench/run "$(BUILD)" $(if $(filter bench-full,$@),--full)

# Configured anew, since PREFIX stands in the pkg-config file too.
install: all
	@cmake -S . -B "$(BUILD)" -DCMAKE_INSTALL_PREFIX="$(PREFIX)" >/dev/null
	@cmake --build "$(BUILD)" -j $(JOBS) >/dev/null
	@cmake -P "$(BUILD)/cmake_install.cmake"

uninstall:
	@xargs -r -I{} rm -fv "$(DESTDIR){}" < "$(BUILD)/install_manifest.txt"

format:
	@clang-format -i cli/*.[ch] src/*.[ch] src/kernel/*.[ch] include/*.h \
	    examples/*.c tests/unit/*.c tests/fuzz/*.[ch] tests/faults/*.c \
	    tests/cli/*.c

clean:
	@rm -rf "$(BUILD)" build-* demo
