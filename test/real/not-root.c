/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preloaded into PostgreSQL by the test postgres.sh: tells it that it is not root.
 *
 * PostgreSQL refuses to run as root, and CRIU cannot read the limits of another user's processes
 * without CAP_SYS_RESOURCE, which root on small virtual machines and in containers often lacks.
 */
#include <unistd.h>

enum { SOMEBODY = 65534 };

uid_t getuid(void)
{
	return SOMEBODY;
}

uid_t geteuid(void)
{
	return SOMEBODY;
}
