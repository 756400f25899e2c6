// SPDX-License-Identifier: GPL-2.0
/*
 * What an ordinary user may do while a snapshot is taken. Each mode goes on until
 * it is ended:
 *
 *   secret          memfd_secret(): pages that leave the kernel's direct map
 *   threads         threads that start and end in bursts
 *   stamp PAGES     CLOCK_BOOTTIME into each page of private memory, in turn; the
 *                   first line says where they are, the next ones how long a round
 *                   of all pages took, ns
 *   row FILE PAGES  a number into each page of a file, in turn, mapped for that
 *                   store alone; the next round has the next number
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

#define PAGE 4096UL
#define BURST 64

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *map(int fd, size_t bytes, off_t offset)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

static void secret(void)
{
	for (;;) {
		int fd = syscall(SYS_memfd_secret, 0);
		char *at;

		if (fd < 0 || ftruncate(fd, 16 * PAGE))
			die("memfd_secret");
		at = map(fd, 16 * PAGE, 0);
		for (int i = 0; i < 16; i++)
			at[i * PAGE] = i;
		munmap(at, 16 * PAGE);
		close(fd);
	}
}

static void *nothing(void *unused)
{
	usleep(1000);
	return unused;
}

static void threads(void)
{
	pthread_t thread[BURST];

	for (;;) {
		int count = 0;

		while (count < BURST &&
		       !pthread_create(&thread[count], NULL, nothing, NULL))
			count++;
		while (count > 0)
			pthread_join(thread[--count], NULL);
	}
}

static uint64_t boottime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void stamp(unsigned long pages)
{
	char *at = map(-1, pages * PAGE, 0);

	memset(at, 1, pages * PAGE);
	printf("%p\n", (void *)at);
	for (;;) {
		uint64_t start = boottime_ns();

		for (unsigned long i = 0; i < pages; i++)
			*(volatile uint64_t *)(at + i * PAGE) = boottime_ns();
		printf("%" PRIu64 "\n", boottime_ns() - start);
		fflush(stdout);
	}
}

static void row(const char *path, unsigned long pages)
{
	int fd = open(path, O_RDWR);

	if (fd < 0)
		die(path);
	for (uint64_t number = 1;; number++) {
		for (unsigned long i = 0; i < pages; i++) {
			volatile uint64_t *at = map(fd, PAGE, i * PAGE);

			*at = number;
			munmap((void *)at, PAGE);
		}
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "secret"))
		secret();
	else if (!strcmp(mode, "threads"))
		threads();
	else if (!strcmp(mode, "stamp") && argc == 3)
		stamp(strtoul(argv[2], NULL, 0));
	else if (!strcmp(mode, "row") && argc == 4)
		row(argv[2], strtoul(argv[3], NULL, 0));
	fprintf(stderr, "usage: churn secret|threads|stamp PAGES|row FILE PAGES\n");
	return 2;
}
