/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proto/handshake.h"

#include "criu-lazy/base/err.h"

#include <errno.h>
#include <string.h>

size_t handshake_want(const struct handshake *h)
{
	switch (h->at) {
	case HANDSHAKE_AT_WORD:
		return sizeof(h->word) - h->nr_word;
	case HANDSHAKE_AT_FD:
		return 1;
	default:
		return 0;
	}
}

static int feed_word(struct handshake *h, struct err *err)
{
	uint32_t word = (uint32_t)h->word[0] | (uint32_t)h->word[1] << 8 |
	                (uint32_t)h->word[2] << 16 | (uint32_t)h->word[3] << 24;

	h->nr_word = 0;
	if (word == HANDSHAKE_FINISHED_WORD) {
		if (h->nr_seen < h->nr_expected)
			return err_set(err, EPROTO,
			               "the restorer says \"finished\" after %zu of %zu processes",
			               h->nr_seen, h->nr_expected);
		h->at = HANDSHAKE_AT_END;
		return HANDSHAKE_FINISHED;
	}
	if (h->nr_seen >= h->nr_expected)
		return err_set(err, EPROTO,
		               "the restorer sends 0x%08x where \"finished\" was expected "
		               "(the image has %zu processes)",
		               word, h->nr_expected);
	if (!word || word == 0x80000000)
		return err_set(err, EPROTO, "the restorer sends 0x%08x as a pid", word);
	if (word & 0x80000000) {
		h->pid = -word;
		h->nr_seen++;
		return HANDSHAKE_ZOMBIE;
	}
	h->pid = word;
	h->at = HANDSHAKE_AT_FD;
	return HANDSHAKE_MORE;
}

int handshake_feed(struct handshake *h, const void *bytes, size_t n, bool has_fd, struct err *err)
{
	if (h->at == HANDSHAKE_AT_FD) {
		if (!has_fd)
			return err_set(err, EPROTO,
			               "process %u: the restorer sent a byte without a userfaultfd",
			               h->pid);
		if (*(const uint8_t *)bytes)
			return err_set(err, EPROTO, "process %u: 0x%02x came with its userfaultfd",
			               h->pid, *(const uint8_t *)bytes);
		h->at = HANDSHAKE_AT_WORD;
		h->nr_seen++;
		return HANDSHAKE_TASK;
	}
	if (has_fd)
		return err_set(err, EPROTO, "the restorer sent a descriptor where a pid belongs");
	if (n > handshake_want(h))
		return err_set(err, EPROTO, "the restorer sent more after \"finished\"");
	memcpy(h->word + h->nr_word, bytes, n);
	h->nr_word += n;
	if (h->nr_word < sizeof(h->word))
		return HANDSHAKE_MORE;
	return feed_word(h, err);
}

int handshake_eof(const struct handshake *h, struct err *err)
{
	if (h->at == HANDSHAKE_AT_END)
		return 0;
	if (h->at == HANDSHAKE_AT_FD)
		return err_set(err, EPROTO,
		               "the restorer closed the connection between the pid %u and its "
		               "userfaultfd",
		               h->pid);
	if (h->nr_word)
		return err_set(err, EPROTO, "the restorer closed the connection inside a pid");
	return err_set(err, EPROTO,
	               "the restorer closed the connection before the restore was finished "
	               "(%zu of %zu processes had reported)",
	               h->nr_seen, h->nr_expected);
}
