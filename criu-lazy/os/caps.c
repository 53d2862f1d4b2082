/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * caps.c - see caps.h.
 *
 * The order matters: the bounding set can be shrunk only while CAP_SETPCAP is effective, so it goes
 * first, and the process's own sets last.  The ambient set follows the inheritable one by itself
 * (the kernel keeps it inside), but is emptied by name so that a failure is seen.
 */
#include "criu-lazy/os/caps.h"

#include "criu-lazy/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void cleanup_cap(cap_t *caps)
{
	if (*caps)
		cap_free(*caps);
}

#define cleanup_caps __attribute__((cleanup(cleanup_cap)))

static bool wanted(cap_value_t cap, const cap_value_t *keep, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (keep[i] == cap)
			return true;
	return false;
}

static bool has(cap_t caps, cap_value_t cap, cap_flag_t set)
{
	cap_flag_value_t value;

	return cap_get_flag(caps, cap, set, &value) == 0 && value == CAP_SET;
}

bool caps_have(cap_value_t cap)
{
	cleanup_caps cap_t now = cap_get_proc();

	return now && has(now, cap, CAP_EFFECTIVE);
}

/* Append the capability's name; text stays terminated and is cut at size. */
static void append_name(char *text, size_t size, cap_value_t cap)
{
	char *name = cap_to_name(cap);
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used ? ", " : "", name ? name : "?");
	cap_free(name);
}

/* CAP_SETPCAP may be permitted without being effective. */
static int raise_setpcap(cap_t now, struct err *err)
{
	const cap_value_t setpcap = CAP_SETPCAP;
	cleanup_caps cap_t raised = cap_dup(now);

	if (!raised)
		return err_set(err, errno, "capabilities");
	if (cap_set_flag(raised, CAP_EFFECTIVE, 1, &setpcap, CAP_SET) < 0 ||
	    cap_set_proc(raised) < 0)
		return err_set(err, errno, "raise CAP_SETPCAP");
	return 0;
}

static int shrink_bounding(cap_t now, const cap_value_t *keep, size_t nr, struct err *err)
{
	int r;

	if (!has(now, CAP_SETPCAP, CAP_PERMITTED))
		return 0;
	r = raise_setpcap(now, err);
	if (r < 0)
		return r;
	/* cap_get_bound() fails above the last capability that the kernel knows. */
	for (cap_value_t cap = 0; cap_get_bound(cap) >= 0; cap++) {
		if (wanted(cap, keep, nr) || cap_get_bound(cap) == 0)
			continue;
		if (cap_drop_bound(cap) < 0)
			return err_set(err, errno, "drop capability %d from the bounding set", cap);
	}
	return 0;
}

int caps_keep(const cap_value_t *keep, size_t nr, char *ret_missing, size_t size, struct err *err)
{
	cleanup_caps cap_t now = cap_get_proc();
	cleanup_caps cap_t next = cap_init(); /* all sets empty */
	char missing[512] = "";
	int r;

	if (!now || !next)
		return err_set(err, errno, "read the process's capabilities");
	for (size_t i = 0; i < nr; i++) {
		if (keep[i] < 0 || keep[i] >= cap_max_bits())
			return err_set(err, EINVAL, "%d is not a capability", keep[i]);
		if (!has(now, keep[i], CAP_PERMITTED)) {
			append_name(missing, sizeof(missing), keep[i]);
			continue;
		}
		if (cap_set_flag(next, CAP_PERMITTED, 1, &keep[i], CAP_SET) < 0 ||
		    cap_set_flag(next, CAP_EFFECTIVE, 1, &keep[i], CAP_SET) < 0)
			return err_set(err, errno, "capability %d", keep[i]);
	}
	r = shrink_bounding(now, keep, nr, err);
	if (r < 0)
		return r;
	if (CAP_AMBIENT_SUPPORTED() && cap_reset_ambient() < 0)
		return err_set(err, errno, "empty the ambient capabilities");
	if (cap_set_proc(next) < 0)
		return err_set(err, errno, "give up capabilities");
	if (ret_missing && size > 0)
		snprintf(ret_missing, size, "%s", missing);
	return 0;
}
