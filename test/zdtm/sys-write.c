/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/* The kernel reads missing pages: write(2), writev(2), send(2), vmsplice(2) and path names. */
#include "test/zdtm/zdtm.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define PAGES 1024

int main(int argc, char **argv)
{
	struct area a, got, names;
	struct iovec iov[32];
	int sk[2], pfd[2], fd;
	size_t i, k;

	test_init(argc, argv);
	a = area_new(PAGES, 1);
	got = area_map(512);
	names = area_new(64, 2);
	for (i = 0; i < 64; i++)
		strcpy((char *)area_page(&names, i) + PAGE - 16, "/proc/self/maps");
	fd = open(test_path("data"), O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sk) == 0 && pipe(pfd) == 0);
	test_daemon();
	test_waitsig();

	/* A path that ends at the end of a missing page. */
	for (i = 0; i < 64; i++)
		CHECK(access((char *)area_page(&names, i) + PAGE - 16, R_OK) == 0);

	CHECK(write(fd, area_page(&a, 0), 128 * PAGE) == 128 * (ssize_t)PAGE);
	for (k = 0; k < 32; k++)
		iov[k] = (struct iovec){area_page(&a, 190 - 2 * k), PAGE};
	CHECK(writev(fd, iov, 32) == 32 * (ssize_t)PAGE);
	CHECK(pread(fd, got.p, 160 * PAGE, 0) == 160 * (ssize_t)PAGE);
	for (i = 0; i < 128; i++)
		check_page(area_page(&got, i), 1, i);
	for (k = 0; k < 32; k++)
		check_page(area_page(&got, 128 + k), 1, 190 - 2 * k);

	for (i = 256; i < 640; i++) {
		CHECK(send(sk[0], area_page(&a, i), PAGE, 0) == (ssize_t)PAGE);
		CHECK(recv(sk[1], got.p, PAGE, MSG_WAITALL) == (ssize_t)PAGE);
		check_page(got.p, 1, i);
	}
	/* The pipe holds references to the pages themselves. */
	for (i = 640; i < PAGES; i += 8) {
		struct iovec v = {area_page(&a, i), 8 * PAGE};

		CHECK(vmsplice(pfd[1], &v, 1, 0) == 8 * (ssize_t)PAGE);
		for (k = 0; k < 8; k++) {
			CHECK(read(pfd[0], got.p, PAGE) == (ssize_t)PAGE);
			check_page(got.p, 1, i + k);
		}
	}
	area_check_all(&a);
	pass();
}
