/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Log-linear buckets: 16 for each power of two, so that a bucket is at most
 * 1/16 (6.25 %) as wide as its lower bound and its middle is at most 3.2 %
 * away from any value in it. Values below 32 have a bucket of their own.
 * Plain C: the tests compile it for the host and compare it with
 * livedump/recording/buckets.py.
 */
#ifndef LIVEDUMP_LOGLINEAR_H
#define LIVEDUMP_LOGLINEAR_H

#define LD_SUB_BITS 4
#define LD_SUB (1 << LD_SUB_BITS)
/* Powers of two 2^4 ... 2^63, and one linear group in front of them. */
#define LD_BUCKETS ((64 - LD_SUB_BITS + 1) * LD_SUB)

/* Position of the highest bit set; BPF has no instruction for it. */
static inline __attribute__((always_inline)) unsigned int
ld_log2(unsigned long long value)
{
	unsigned int bit = 0;

	if (value >> 32) {
		value >>= 32;
		bit += 32;
	}
	if (value >> 16) {
		value >>= 16;
		bit += 16;
	}
	if (value >> 8) {
		value >>= 8;
		bit += 8;
	}
	if (value >> 4) {
		value >>= 4;
		bit += 4;
	}
	if (value >> 2) {
		value >>= 2;
		bit += 2;
	}
	if (value >> 1)
		bit += 1;
	return bit;
}

static inline __attribute__((always_inline)) unsigned int
ld_bucket(unsigned long long value)
{
	unsigned int exponent;

	if (value < LD_SUB)
		return value;
	exponent = ld_log2(value);
	return (exponent - LD_SUB_BITS + 1) * LD_SUB +
	       ((value >> (exponent - LD_SUB_BITS)) & (LD_SUB - 1));
}

#endif /* LIVEDUMP_LOGLINEAR_H */
