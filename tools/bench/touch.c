// SPDX-License-Identifier: GPL-2.0
/*
 * First touches of 4 KiB pages, and nothing else: prints the nanoseconds of
 * each round, one line each. Usage: touch PAGES ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long touch(size_t pages)
{
	size_t bytes = pages * 4096, i;
	volatile char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long long begun_ns, took_ns;

	if (memory == MAP_FAILED)
		exit(1);
	madvise((void *)memory, bytes, MADV_NOHUGEPAGE);
	begun_ns = now_ns();
	for (i = 0; i < bytes; i += 4096)
		memory[i] = 1;
	took_ns = now_ns() - begun_ns;
	munmap((void *)memory, bytes);
	return took_ns;
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[2]) : 0;
	size_t pages = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;

	if (!pages || rounds < 1)
		return 2;
	while (rounds--)
		printf("%lld\n", touch(pages));
	return 0;
}
