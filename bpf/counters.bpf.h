/* SPDX-License-Identifier: GPL-2.0 */
/* Counters, for the programs of the measurer and those of the prototypes. */
#ifndef TESTBED_COUNTERS_BPF_H
#define TESTBED_COUNTERS_BPF_H

#include "measurer.h"

extern __u64 testbed_take_tally(__u32 counter) __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TESTBED_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void add(__u32 counter, __u64 n)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, n);
}

/* Run by the loader. The module cannot write our map: add what it has counted since this ran last. */
SEC("syscall")
int collect(void *ctx)
{
	for (__u32 id = 0; id < TESTBED_COUNTER_MAX; id++)
		add(id, testbed_take_tally(id));
	return 0;
}

#endif
