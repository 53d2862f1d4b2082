/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * page.h - the page size and arithmetic on addresses.
 *
 * Addresses and byte lengths are uint64_t everywhere; counts of pages are uint64_t nr_...
 * x86-64 only for now, hence a constant.
 */
#ifndef CRIU_LAZY_BASE_PAGE_H
#define CRIU_LAZY_BASE_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE  (UINT64_C(1) << PAGE_SHIFT)
#define PAGE_MASK  (~(PAGE_SIZE - 1))

/* One past the last address a user mapping can have (x86-64 with 5-level tables: 2^56). */
#define USER_ADDRESS_END (UINT64_C(1) << 56)

static inline uint64_t page_down(uint64_t addr)
{
	return addr & PAGE_MASK;
}

static inline bool page_aligned(uint64_t addr)
{
	return (addr & ~PAGE_MASK) == 0;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
