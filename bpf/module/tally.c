// SPDX-License-Identifier: GPL-2.0
/*
 * Counters of what the module does where no program waits for the result. It
 * cannot write the programs' map: a program that the loader runs takes these away
 * from here and adds them there before the map is read.
 */
#include <linux/atomic.h>
#include <linux/btf.h>
#include <linux/string.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

static atomic64_t tallies[TESTBED_COUNTER_MAX];

static const char *const names[] = {
#define TESTBED_COUNTER_NAME(id, name) [TESTBED_COUNT_##id] = name,
	TESTBED_COUNTERS(TESTBED_COUNTER_NAME)
#undef TESTBED_COUNTER_NAME
};

void testbed_tally(enum testbed_counter counter, u64 n)
{
	atomic64_add(n, &tallies[counter]);
	if (!strncmp(names[counter], "unmeasured_", strlen("unmeasured_")))
		testbed_count_lost(n);
}

__bpf_kfunc_start_defs();

/* Return what was counted since this was asked last. */
__bpf_kfunc u64 testbed_take_tally(u32 counter)
{
	return counter < TESTBED_COUNTER_MAX ? atomic64_xchg(&tallies[counter], 0) : 0;
}

__bpf_kfunc_end_defs();
