// SPDX-License-Identifier: GPL-2.0
/* Entries of docs/formats.md: their header, and how they get into the log. */
#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/ima.h>
#include <linux/module.h>

#include "compat.h"
#include "module.h"

static atomic64_t last_seq = ATOMIC64_INIT(0);
static atomic64_t last_start = ATOMIC64_INIT(0);

/*
 * The highest number of a container whose start is in the log. A number that was given
 * out can be of no container: of two tasks that begin one container, one number is left.
 */
u64 testbed_last_start(void)
{
	return atomic64_read(&last_start);
}

/* The start of container @seq is in the log. */
void testbed_note_start(u64 seq)
{
	s64 before = atomic64_read(&last_start);

	while (before < (s64)seq && !atomic64_try_cmpxchg(&last_start, &before, seq))
		;
}

void testbed_fill_header(struct testbed_header *header, enum testbed_kind kind, u32 length,
			 u32 flags, const struct testbed_ident *ident)
{
	header->magic = TESTBED_MAGIC;
	header->version = TESTBED_VERSION;
	header->kind = kind;
	header->length = length;
	header->flags = flags;
	header->seq = ident->seq;
	header->mntns = ident->mntns;
	header->cgroup = ident->cgroup;
	header->started = ident->started;
}

static enum testbed_counter entry_outcome(int err, enum testbed_counter written)
{
	switch (err) {
	case 0:
		return written;
	case -EEXIST:
		return TESTBED_COUNT_DUPLICATES;
	case -ENOENT:
		return TESTBED_COUNT_NO_RULE;
	case -ENOMEM:
		return TESTBED_COUNT_NO_MEMORY;
	default:
		return TESTBED_COUNT_IMA_ERROR;
	}
}

enum testbed_counter testbed_log_entry(const char *event, const void *entry, u32 length,
				       enum testbed_counter written)
{
	might_sleep();
	/* 0 also when the TPM refused the extend: IMA does not tell. */
	return entry_outcome(ima_measure_critical_data(TESTBED_LABEL, event, entry, length, false,
						       NULL, 0),
			     written);
}

__bpf_kfunc_start_defs();

/* A number that no other container of this boot has had or will have. */
__bpf_kfunc u64 testbed_new_seq(void)
{
	u64 seq = atomic64_inc_return(&last_seq);

	/* If it were loaded again, it would begin at 1 again: from now on it must stay. */
	if (seq == 1)
		__module_get(THIS_MODULE);
	return seq;
}

__bpf_kfunc_end_defs();
