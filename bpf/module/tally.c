// SPDX-License-Identifier: GPL-2.0
/*
 * Counters of what the module does. It cannot write the programs' map: a program
 * that the loader runs takes these away from here and adds them there before the
 * map is read.
 */
#include <linux/atomic.h>
#include <linux/btf.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

static atomic64_t tallies[TESTBED_COUNTER_MAX];

static const enum testbed_fate tally_fates[] = {
#define TESTBED_COUNTER_FATE(id, name, fate) [TESTBED_COUNT_##id] = TESTBED_##fate,
	TESTBED_COUNTERS(TESTBED_COUNTER_FATE)
#undef TESTBED_COUNTER_FATE
};

enum testbed_fate testbed_fate_of(enum testbed_counter counter)
{
	return tally_fates[counter];
}

/* Count an outcome. What the log does not show of the machine is said by the next beat. */
void testbed_tally(enum testbed_counter counter, u64 n)
{
	atomic64_add(n, &tallies[counter]);
	if (tally_fates[counter] == TESTBED_MACHINE)
		testbed_lose(n);
}

__bpf_kfunc_start_defs();

/* Return what was counted since this was asked last. */
__bpf_kfunc u64 testbed_take_tally(u32 counter)
{
	return counter < TESTBED_COUNTER_MAX ? atomic64_xchg(&tallies[counter], 0) : 0;
}

__bpf_kfunc_end_defs();
