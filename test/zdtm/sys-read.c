/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zdtm: events=FAULT */
/*
 * The kernel writes into missing pages: read(2), readv(2), pread(2), recvmsg(2), getrandom(2) and
 * small results such as those of stat(2).  What is not overwritten keeps its content.
 */
#include "test/zdtm/zdtm.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#define PAGES 1024

static struct area area, copy;

/* Page i got n foreign bytes at offset off; all else is as it was. */
static void check_around(size_t i, size_t off, size_t n)
{
	memcpy(area_page(&area, i) + off, area_page(&copy, 0) + off, n);
	check_page(area_page(&area, i), area.seed, i);
}

/* Remembers what page i holds, without touching it. */
static void expect(size_t i)
{
	fill_page(area_page(&copy, 0), area.seed, i);
}

static void small_results(size_t i)
{
	const size_t off = 1000;
	struct timespec ts;
	struct stat st;

	expect(i);
	CHECK(getrandom(area_page(&area, i) + off, 100, 0) == 100);
	check_around(i, off, 100);
	expect(i + 1);
	CHECK(stat("/proc", (struct stat *)(area_page(&area, i + 1) + off)) == 0);
	check_around(i + 1, off, sizeof(st));
	expect(i + 2);
	CHECK(clock_getres(CLOCK_MONOTONIC_COARSE,
	                   (struct timespec *)(area_page(&area, i + 2) + off)) == 0);
	check_around(i + 2, off, sizeof(ts));
	expect(i + 3);
	CHECK(getcwd((char *)area_page(&area, i + 3) + off, 1000));
	check_around(i + 3, off, strlen((char *)area_page(&area, i + 3) + off) + 1);
}

int main(int argc, char **argv)
{
	struct iovec iov[16];
	struct area file;
	int sk[2], pfd[2];
	size_t i, k;
	int fd;

	test_init(argc, argv);
	area = area_new(PAGES, 1);
	copy = area_new(1, 2);
	file = area_new(64, 3);
	fd = open(test_path("data"), O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && write(fd, file.p, 64 * PAGE) == 64 * (ssize_t)PAGE);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sk) == 0 && pipe(pfd) == 0);
	test_daemon();
	test_waitsig();

	/* 256 whole pages in one call from a file, at an odd offset of the area. */
	CHECK(pread(fd, area_page(&area, 8) + 8, 32 * PAGE, 0) == 32 * (ssize_t)PAGE);
	expect(8);
	CHECK(memcmp(area_page(&area, 8), area_page(&copy, 0), 8) == 0);
	expect(40);
	CHECK(memcmp(area_page(&area, 40) + 8, area_page(&copy, 0) + 8, PAGE - 8) == 0);
	memmove(area_page(&area, 8), area_page(&area, 8) + 8, 32 * PAGE);
	for (i = 0; i < 32; i++)
		check_page(area_page(&area, 8 + i), 3, i);

	/* Every second page of an area, by readv, from a file. */
	for (k = 0; k < 16; k++)
		iov[k] = (struct iovec){area_page(&area, 64 + 2 * k), PAGE};
	CHECK(preadv(fd, iov, 16, 0) == 16 * (ssize_t)PAGE);
	for (k = 0; k < 16; k++) {
		check_page(area_page(&area, 64 + 2 * k), 3, k);
		check_page(area_page(&area, 65 + 2 * k), 1, 65 + 2 * k);
	}

	/* Small pieces through a socket and a pipe into the middle of missing pages. */
	for (i = 128; i < 384; i++) {
		expect(i);
		CHECK(send(sk[0], file.p, 200, 0) == 200);
		CHECK(recv(sk[1], area_page(&area, i) + 3000, 200, 0) == 200);
		CHECK(memcmp(area_page(&area, i) + 3000, file.p, 200) == 0);
		check_around(i, 3000, 200);
		expect(i + 256);
		CHECK(write(pfd[1], file.p, 64) == 64);
		CHECK(read(pfd[0], area_page(&area, i + 256) + 8, 64) == 64);
		CHECK(memcmp(area_page(&area, i + 256) + 8, file.p, 64) == 0);
		check_around(i + 256, 8, 64);
	}
	for (i = 640; i < 1024; i += 4)
		small_results(i);
	pass();
}
