# SPDX-License-Identifier: GPL-2.0-or-later
#
# One non-recursive Makefile.  `make help` lists what there is to make.
#
#   BUILD=dir     where everything that is built goes (default build)
#   SANITIZE=1    with AddressSanitizer and UndefinedBehaviorSanitizer (use another BUILD with it)

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
LIBS = -luring -lprotobuf-c -lcap -pthread
ifeq ($(SANITIZE),1)
BASE_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
endif

# --- what there is --------------------------------------------------------------------------------

FLOORS   := criu-lazy/base criu-lazy/os proto criu-lazy/track images criu-lazy/source criu-lazy/engine
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
HEADERS  := $(wildcard $(addsuffix /*.h,$(FLOORS) criu-lazy/cmd))

.PHONY: all help check check-unit check-zdtm check-real lint floors headers sanitize fuzz fuzz-build \
	bench demo install deps clean
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
$(BUILD)/obj/%.o $(BUILD)/%.o: %.c | $(GEN_H)
	@mkdir -p $(@D)
	@echo '  CC   $<'
	$(Q)$(CC) $(CFLAGS) $(BASE_CFLAGS) $(WARN) -MMD -MP -c $< -o $@

$(LIB): $(LIB_OBJS) $(GEN_OBJS)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(PROG): $(CMD_OBJS) $(LIB)
	@echo '  LINK $@'
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pthread $^ $(LIBS) -o $@

$(BUILD)/test/unit/%-test: $(BUILD)/test/unit/%-test.o $(LIB)
	@echo '  LINK $@'
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LIBS) -lcmocka -o $@

include test/zdtm/Makefile.inc bench/Makefile.inc

-include $(wildcard $(LIB_OBJS:.o=.d) $(CMD_OBJS:.o=.d) $(UNIT:=.d))

# --- verbs ----------------------------------------------------------------------------------------

## make              the program: build/criu-lazy
## make demo         the main job: a program checkpointed by CRIU comes back lazily (installs what it needs)
## make check        every test (installs what they need); ends with "N passed, N failed"
## make check-unit   unit tests only
## make check-zdtm   whole-system tests only
## make sanitize     the program and the tests once more under ASan and UBSan
## make fuzz         a minute for each fuzz target (FUZZ_SECONDS=60)
## make bench        side by side with CRIU's own helper; tables and pictures
## make lint         formatting, static analysis, headers compile alone, the floors' include rule
## make install      DESTDIR= PREFIX=/usr/local
## make clean

install: $(PROG)
	install -D -m 755 $(PROG) $(DESTDIR)$(PREFIX)/sbin/criu-lazy

clean:
	rm -rf $(BUILD)
