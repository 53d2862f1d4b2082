# SPDX-License-Identifier: GPL-2.0-or-later
#
# One non-recursive Makefile.  `make help` lists what there is to make.
#
#   BUILD=dir     where everything that is built goes (default build)
#   SANITIZE=1    with AddressSanitizer and UndefinedBehaviorSanitizer (use another BUILD with it)
#   THREADS=1     with ThreadSanitizer (the same)

BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
CC       := gcc
CFLAGS   ?= -O2 -g
VERSION  := 0.1
Q        := $(if $(V),,@)

WARN := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
BASE_CFLAGS := -std=gnu17 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -I. -I$(BUILD)/gen -fno-common \
	-fstack-protector-strong -pthread
LIBS = -luring -lprotobuf-c -lcap -lgnutls -llz4 -pthread
ifeq ($(SANITIZE),1)
BASE_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
endif
ifeq ($(THREADS),1)
BASE_CFLAGS += -fsanitize=thread -fno-omit-frame-pointer
LDFLAGS += -fsanitize=thread
endif

# --- what there is --------------------------------------------------------------------------------

FLOORS   := criu-lazy/base criu-lazy/os proto criu-lazy/track images criu-lazy/source criu-lazy/engine \
	criu-lazy/server
PROTOS   := $(wildcard images/*.proto)
GEN_C    := $(PROTOS:%.proto=$(BUILD)/gen/%.pb-c.c)
GEN_H    := $(GEN_C:.c=.h)
GEN_OBJS := $(GEN_C:.c=.o)
LIB_SRCS := $(wildcard $(addsuffix /*.c,$(FLOORS)))
LIB_OBJS := $(LIB_SRCS:%.c=$(BUILD)/obj/%.o)
CMD_OBJS := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard criu-lazy/cmd/*.c))
LIB      := $(BUILD)/libcriu-lazy.a
PROG     := $(BUILD)/criu-lazy
UNIT     := $(patsubst %.c,$(BUILD)/%,$(wildcard test/unit/*-test.c))
CERTS    := $(BUILD)/test/certs/make
HEADERS  := $(wildcard $(addsuffix /*.h,$(FLOORS) criu-lazy/cmd))

.PHONY: all help check check-unit check-zdtm check-real unit-progs lint sanitize fuzz fuzz-build \
	repeat torture bench demo install clean
.SECONDARY:

all: $(PROG)

help:
	@sed -n 's/^## //p' Makefile

$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: %.proto
	@mkdir -p $(BUILD)/gen
	$(Q)protoc-c --proto_path=. --c_out=$(BUILD)/gen $<

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	@echo '  CC   $<'
	$(Q)$(CC) $(CFLAGS) $(BASE_CFLAGS) -c $< -o $@

# The program is $(BUILD)/criu-lazy, so the objects of the folder of that name live elsewhere.
define COMPILE
	@mkdir -p $(@D)
	@echo '  CC   $<'
	$(Q)$(CC) $(CFLAGS) $(BASE_CFLAGS) $(WARN) -MMD -MP -c $< -o $@
endef

$(BUILD)/obj/%.o: %.c | $(GEN_H)
	$(COMPILE)

$(BUILD)/%.o: %.c | $(GEN_H)
	$(COMPILE)

$(LIB): $(LIB_OBJS) $(GEN_OBJS)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(PROG): $(CMD_OBJS) $(LIB)
	@echo '  LINK $@'
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread $^ $(LIBS) -o $@

$(BUILD)/test/unit/%-test: $(BUILD)/test/unit/%-test.o $(LIB)
	@echo '  LINK $@'
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LIBS) -lcmocka -o $@

# Its children are held as long as it likes.
$(BUILD)/test/unit/newborn-race-test $(BUILD)/test/unit/newborn-kept-test: LDFLAGS += -Wl,--wrap=uffd_quiet

# Workers die there.
$(BUILD)/test/unit/resume-count-test: LDFLAGS += -Wl,--wrap=journal_add,--wrap=journal_events_end

# Certificates for tests; test/certs/make.c tells how it is called.
$(CERTS): %: %.o
	@echo '  LINK $@'
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -lgnutls -o $@

include test/zdtm/Makefile.inc test/proxy/Makefile.inc test/soak/Makefile.inc \
	test/torture/Makefile.inc bench/Makefile.inc man/Makefile.inc

-include $(wildcard $(LIB_OBJS:.o=.d) $(CMD_OBJS:.o=.d) $(UNIT:=.d) $(CERTS).d)

# --- verbs ----------------------------------------------------------------------------------------

## make              the program: build/criu-lazy
## make demo         the main job: a program checkpointed by CRIU comes back lazily (installs what it needs)
## make check        every test (installs what they need); ends with "N passed, N failed"
## make check-unit   unit tests only
## make check-zdtm   whole-system tests only
## make sanitize     the program and the tests once more under ASan, UBSan, TSan
## make fuzz         a minute for each fuzz target (FUZZ_SECONDS=60)
## make soak         programs that do everything to memory that is missing, and a killer beside the
##                   helper, ten minutes long (SECONDS=600 SEED=n)
## make torture      calls of the helper fail, each in turn, TORTURE_RUNS=5000 for each way to run it
## make repeat       a container checkpointed and restored lazily, 400 times (REPEAT=400)
## make bench        side by side with CRIU's own helper; tables and pictures
## make lint         formatting, static analysis, headers compile alone, the floors' include rule
## make man          the manual pages: build/man
## make install      the program, its manual and its unit for systemd; DESTDIR= PREFIX=/usr/local
## make clean

# Debian's packages and a CRIU that runs here; each does nothing when it has nothing to do.
SETUP = .ci/setup
CRIUS = test/criu/fetch build/criu
SANITIZED ?= $(BUILD)/sanitize
THREADED  ?= $(BUILD)/threads
STAGES ?= unit floors man fuzz cli zdtm_4_2 zdtm_4_1 zdtm_slow zdtm_jobs real_4_2 real_4_1 \
	proxy remote zdtm_remote zdtm_proxy runc unit_sanitized cli_sanitized zdtm_sanitized \
	unit_threads zdtm_threads soak torture systemd
CHECK = BUILD=$(BUILD) SANITIZED=$(SANITIZED) THREADED=$(THREADED) .ci/check

unit-progs: $(UNIT) $(CERTS)

check:
	$(SETUP) test
	$(CRIUS) trixie sid
	$(MAKE) all unit-progs zdtm-progs proxy soak-progs torture-progs man fuzz-build
	$(MAKE) BUILD=$(SANITIZED) SANITIZE=1 all unit-progs zdtm-progs
	$(MAKE) BUILD=$(THREADED) THREADS=1 all unit-progs zdtm-progs
	$(CHECK) $(STAGES)

check-unit: unit-progs
	$(CHECK) unit

check-zdtm: all zdtm-progs
	$(CRIUS) sid
	$(CHECK) zdtm_4_2

check-real: all
	$(CRIUS) trixie sid
	$(CHECK) real_4_2 real_4_1

sanitize:
	$(SETUP) test
	$(CRIUS) sid
	$(MAKE) BUILD=$(SANITIZED) SANITIZE=1 all unit-progs zdtm-progs
	$(MAKE) BUILD=$(THREADED) THREADS=1 all unit-progs zdtm-progs
	$(CHECK) unit_sanitized cli_sanitized zdtm_sanitized unit_threads zdtm_threads

torture:
	$(SETUP) test
	$(MAKE) all torture-progs
	$(MAKE) BUILD=$(SANITIZED) SANITIZE=1 all
	TORTURE_RUNS=$${TORTURE_RUNS:-5000} $(CHECK) torture

REPEAT ?= 400

repeat:
	$(SETUP) test
	$(CRIUS) sid
	$(MAKE) all
	test/runc/run --build $(BUILD) --criu build/criu/sid/criu --loops $(REPEAT) local

demo:
	$(SETUP) demo
	$(CRIUS) trixie
	$(MAKE) all
	demo/run --build $(BUILD) --criu build/criu/trixie/criu

# --- fuzzing: libFuzzer wants clang, and the library once more, instrumented ----------------------

FUZZ_PROGS := $(patsubst %.c,$(BUILD)/%,$(wildcard test/fuzz/*.c))
FUZZ_FLAGS := -g -O1 $(BASE_CFLAGS) -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all -Wno-unknown-warning-option
FUZZ_OBJS  := $(LIB_SRCS:%.c=$(BUILD)/fuzz/%.o) $(GEN_C:$(BUILD)/gen/%.c=$(BUILD)/fuzz/gen/%.o)

$(BUILD)/fuzz/gen/%.o: $(BUILD)/gen/%.c
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -c $< -o $@

$(BUILD)/fuzz/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/fuzz/libcriu-lazy.a: $(FUZZ_OBJS)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(FUZZ_PROGS): $(BUILD)/test/fuzz/%: test/fuzz/%.c $(BUILD)/fuzz/libcriu-lazy.a
	@mkdir -p $(@D)
	@echo '  FUZZ $@'
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer $^ $(LIBS) -o $@

-include $(wildcard $(FUZZ_OBJS:.o=.d))

fuzz-build: $(FUZZ_PROGS)

fuzz:
	$(SETUP) test
	$(MAKE) fuzz-build
	$(CHECK) fuzz

lint:
	$(SETUP) lint
	BUILD=$(BUILD) .ci/lint

install: $(PROG) install-man
	install -D -m 755 $(PROG) $(DESTDIR)$(PREFIX)/sbin/criu-lazy
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's:@PREFIX@:$(PREFIX):' systemd/criu-lazy@.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/criu-lazy@.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/criu-lazy@.service

clean:
	rm -rf $(BUILD)
