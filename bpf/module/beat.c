// SPDX-License-Identifier: GPL-2.0
/*
 * Beats: numbered entries that say that the measurer was there. A verifier that
 * knows one beat and sees the next number later knows that nothing was taken away
 * between; a gap, or a promised beat that did not come, is a time of which it
 * knows nothing.
 *
 * The numbers and what was lost are the module's: the module stays for the boot
 * once it has counted, whatever programs come and go.
 */
#include <linux/atomic.h>
#include <linux/btf.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

/* Shorter ones would fill the log, longer ones promise nothing. */
#define SHORTEST_INTERVAL ((u64)NSEC_PER_SEC)
#define LONGEST_INTERVAL (24 * 3600 * (u64)NSEC_PER_SEC)

/* The programs' sum of the unmeasured_* counters, of all of this boot. */
static atomic64_t lost = ATOMIC64_INIT(0);

static DEFINE_MUTEX(beat_lock); /* of all that follows */
static u64 last_number;
static u64 last_skipped;  /* as the loader told last: the kernel shows it to nobody else */
static u64 old_skipped;	  /* of the programs that were attached before these */
static u64 beat_interval; /* 0: none is promised */
static bool attached;

static void beat_again(struct work_struct *work);
static DECLARE_DELAYED_WORK(beat_work, beat_again);

static int log_beat(enum testbed_beat_event event)
{
	static const struct testbed_ident nobody;
	struct testbed_beat_entry entry = {
		.number = ++last_number,
		.time = ktime_get_boottime_ns(),
		.event = event,
		.interval = beat_interval,
		.lost = atomic64_read(&lost) + old_skipped + last_skipped,
		.containers = testbed_last_seq(),
	};

	/* Loaded anew, it would begin at 1 again: from now on it must stay. */
	if (entry.number == 1)
		__module_get(THIS_MODULE);
	testbed_fill_header(&entry.header, TESTBED_KIND_BEAT, sizeof(entry), 0, &nobody);
	return testbed_log_entry("ctr-beat", &entry, sizeof(entry), TESTBED_COUNT_BEATS);
}

/* A beat that cannot be logged leaves a gap in the numbers, which says so. */
static void beat_again(struct work_struct *work)
{
	mutex_lock(&beat_lock);
	if (attached && beat_interval) {
		queue_delayed_work(system_long_wq, &beat_work, nsecs_to_jiffies(beat_interval));
		log_beat(TESTBED_BEAT_PERIODIC);
	}
	mutex_unlock(&beat_lock);
}

void testbed_stop_beats(void)
{
	mutex_lock(&beat_lock);
	attached = false;
	mutex_unlock(&beat_lock);
	cancel_delayed_work_sync(&beat_work);
}

__bpf_kfunc_start_defs();

/* So much code was not measured. Called from programs that may not sleep, too. */
__bpf_kfunc void testbed_count_lost(u64 n)
{
	atomic64_add(n, &lost);
}

/*
 * Log a beat. Return the counter of the outcome, or a negative number if there is
 * nothing to say: only attaching can be the first, and detaching is told once.
 *
 * @interval: nanoseconds, of TESTBED_BEAT_ATTACHED.
 * @skipped: times that the kernel skipped a program, of what the loader asks for.
 */
__bpf_kfunc int testbed_beat(u32 event, u64 interval, u64 skipped)
{
	int result = -ENOTCONN;

	/* What the log or the count of what is lost is about to get, this beat answers for. */
	if (event == TESTBED_BEAT_ASKED || event == TESTBED_BEAT_DETACHED)
		testbed_wait_for_late();
	mutex_lock(&beat_lock);
	switch (event) {
	case TESTBED_BEAT_ATTACHED:
		old_skipped += last_skipped;
		last_skipped = skipped;
		beat_interval = interval ? clamp(interval, SHORTEST_INTERVAL, LONGEST_INTERVAL) : 0;
		attached = true;
		result = log_beat(event);
		if (beat_interval)
			mod_delayed_work(system_long_wq, &beat_work,
					 nsecs_to_jiffies(beat_interval));
		break;
	case TESTBED_BEAT_ASKED:
		if (!attached)
			break;
		last_skipped = skipped;
		result = log_beat(event);
		break;
	case TESTBED_BEAT_DETACHED:
		if (!attached)
			break;
		attached = false;
		beat_interval = 0;
		result = log_beat(event);
		break;
	default:
		result = -EINVAL;
	}
	mutex_unlock(&beat_lock);
	return result;
}

__bpf_kfunc_end_defs();
