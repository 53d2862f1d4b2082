/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "criu-lazy/base/bits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WORD = 64, GROUP = WORD * WORD };

void bits_release(struct bits *bits)
{
	free(bits->word);
	free(bits->upper);
	*bits = (struct bits){0};
}

/* Bits [from, to) of one word. */
static uint64_t mask(uint64_t from, uint64_t to)
{
	return (to == WORD ? ~UINT64_C(0) : (UINT64_C(1) << to) - 1) & ~((UINT64_C(1) << from) - 1);
}

static int grow(struct bits *bits, uint64_t nr)
{
	uint64_t room = bits->room ? bits->room : GROUP;
	uint64_t *word, *upper;

	while (room < nr)
		room *= 2;
	if (room == bits->room)
		return 0;
	word = realloc(bits->word, room / WORD * sizeof(*word));
	if (!word)
		return -ENOMEM;
	bits->word = word;
	upper = realloc(bits->upper, room / GROUP * sizeof(*upper));
	if (!upper)
		return -ENOMEM;
	bits->upper = upper;
	memset(word + bits->room / WORD, 0, (room - bits->room) / WORD * sizeof(*word));
	memset(upper + bits->room / GROUP, 0, (room - bits->room) / GROUP * sizeof(*upper));
	bits->room = room;
	return 0;
}

int bits_append(struct bits *bits, uint64_t nr)
{
	uint64_t bit = bits->nr, end = bits->nr + nr;

	if (end < nr || end > UINT64_MAX / 2)
		return -ENOMEM;
	if (grow(bits, end) < 0)
		return -ENOMEM;
	while (bit < end) {
		uint64_t w = bit / WORD, stop = (w + 1) * WORD < end ? (w + 1) * WORD : end;

		bits->word[w] |= mask(bit % WORD, stop - w * WORD);
		bits->upper[w / WORD] |= UINT64_C(1) << (w % WORD);
		bit = stop;
	}
	bits->nr = end;
	return 0;
}

int bits_copy(const struct bits *from, struct bits *ret)
{
	struct bits copy = {.nr = from->nr, .room = from->room};

	if (!from->room) {
		*ret = copy;
		return 0;
	}
	copy.word = malloc(from->room / WORD * sizeof(*copy.word));
	copy.upper = malloc(from->room / GROUP * sizeof(*copy.upper));
	if (!copy.word || !copy.upper) {
		bits_release(&copy);
		return -ENOMEM;
	}
	memcpy(copy.word, from->word, from->room / WORD * sizeof(*copy.word));
	memcpy(copy.upper, from->upper, from->room / GROUP * sizeof(*copy.upper));
	*ret = copy;
	return 0;
}

bool bits_test(const struct bits *bits, uint64_t bit)
{
	return bits->word[bit / WORD] >> (bit % WORD) & 1;
}

uint64_t bits_clear(struct bits *bits, uint64_t bit, uint64_t nr)
{
	uint64_t end = bit + nr, cleared = 0;

	while (bit < end) {
		uint64_t w = bit / WORD, stop = (w + 1) * WORD < end ? (w + 1) * WORD : end;
		uint64_t hit = bits->word[w] & mask(bit % WORD, stop - w * WORD);

		cleared += (uint64_t)__builtin_popcountll(hit);
		bits->word[w] &= ~hit;
		if (!bits->word[w])
			bits->upper[w / WORD] &= ~(UINT64_C(1) << (w % WORD));
		bit = stop;
	}
	return cleared;
}

uint64_t bits_count(const struct bits *bits, uint64_t bit, uint64_t nr)
{
	uint64_t end = bit + nr, count = 0;

	while (bit < end) {
		uint64_t w = bit / WORD, stop = (w + 1) * WORD < end ? (w + 1) * WORD : end;

		count += (uint64_t)__builtin_popcountll(bits->word[w] &
		                                        mask(bit % WORD, stop - w * WORD));
		bit = stop;
	}
	return count;
}

/* First non-empty word at or after w, or end. */
static uint64_t next_word(const struct bits *bits, uint64_t w, uint64_t end)
{
	while (w < end) {
		uint64_t up = bits->upper[w / WORD] & ~((UINT64_C(1) << (w % WORD)) - 1);

		if (up)
			return w / WORD * WORD + (uint64_t)__builtin_ctzll(up);
		w = (w / WORD + 1) * WORD;
	}
	return end;
}

uint64_t bits_next_set(const struct bits *bits, uint64_t bit, uint64_t end)
{
	uint64_t w = bit / WORD, last = (end + WORD - 1) / WORD, hit;

	if (bit >= end)
		return end;
	hit = bits->word[w] & ~((UINT64_C(1) << (bit % WORD)) - 1);
	if (!hit) {
		w = next_word(bits, w + 1, last);
		if (w >= last)
			return end;
		hit = bits->word[w];
	}
	bit = w * WORD + (uint64_t)__builtin_ctzll(hit);
	return bit < end ? bit : end;
}

uint64_t bits_next_clear(const struct bits *bits, uint64_t bit, uint64_t end)
{
	while (bit < end) {
		uint64_t clear = ~bits->word[bit / WORD] & ~((UINT64_C(1) << (bit % WORD)) - 1);

		if (clear) {
			bit = bit / WORD * WORD + (uint64_t)__builtin_ctzll(clear);
			return bit < end ? bit : end;
		}
		bit = (bit / WORD + 1) * WORD;
	}
	return end;
}
