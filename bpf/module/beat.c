// SPDX-License-Identifier: GPL-2.0
/*
 * Beats: numbered entries that say that the measurer was there. A verifier that
 * knows one beat and sees the next number later knows that nothing was taken away
 * between; a gap, or a promised beat that did not come, is a time of which it
 * knows nothing.
 *
 * A beat proves that hooks still run. They can be switched off without a link or a
 * pin going (kernel.ftrace_enabled). The loader does all that the hooks watch before
 * it asks for a beat, and the programs tell which of them have seen it; a periodic
 * beat opens one file for writing. If that is not seen, it says that the programs
 * are detached.
 *
 * The numbers and what was lost are the module's: the module stays for the boot
 * once it has counted, whatever programs come and go.
 */
#include <linux/anon_inodes.h>
#include <linux/atomic.h>
#include <linux/btf.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "layers.h"
#include "measurer.h"
#include "module.h"

/* Shorter ones would fill the log, longer ones promise nothing. */
#define SHORTEST_INTERVAL ((u64)NSEC_PER_SEC)
#define LONGEST_INTERVAL (24 * 3600 * (u64)NSEC_PER_SEC)

/* What no container can be named for, of all of this boot. */
static atomic64_t lost = ATOMIC64_INIT(0);

static DEFINE_MUTEX(beat_lock); /* of all that follows */
static u64 last_number;
static u64 last_skipped;  /* the loader's last report: the kernel shows it to user space only */
static u64 old_skipped;	  /* of the programs that were attached before these */
static u64 beat_interval; /* 0: none is promised */
static bool attached;
/* Written by the hook, in the task that opens the canary: it holds the lock. */
static struct task_struct *canary_task;
static bool canary_seen;
static const struct file_operations canary_operations = { .owner = THIS_MODULE };

static void beat_again(struct work_struct *work);
static DECLARE_DELAYED_WORK(beat_work, beat_again);

void testbed_lose(u64 n)
{
	atomic64_add(n, &lost);
}

static int beat_log(enum testbed_beat_event event, u32 proved)
{
	static const struct testbed_ident nobody;
	struct testbed_beat_entry entry = {
		.number = ++last_number,
		.time = ktime_get_boottime_ns(),
		.event = event,
		.proved = proved,
		.interval = beat_interval,
		.lost = atomic64_read(&lost) + old_skipped + last_skipped,
		.containers = testbed_last_start(),
	};

	lockdep_assert_held(&beat_lock);
	/* If it were loaded again, it would begin at 1 again: from now on it must stay. */
	if (entry.number == 1)
		__module_get(THIS_MODULE);
	testbed_fill_header(&entry.header, TESTBED_KIND_BEAT, sizeof(entry), 0, &nobody);
	return testbed_log_entry("ctr-beat", &entry, sizeof(entry), TESTBED_COUNT_BEATS);
}

/*
 * Nothing that was remembered is true any more: no hook saw, or will see, that a file
 * is opened for writing.
 */
static void beat_forget_all(void)
{
	testbed_forget_contents();
	testbed_forget_layers();
	testbed_forget_all_code();
	testbed_forget_containers();
}

/* The programs are gone, or are about to go. */
static int beat_log_detached(void)
{
	lockdep_assert_held(&beat_lock);
	attached = false;
	beat_interval = 0;
	beat_forget_all();
	return beat_log(TESTBED_BEAT_DETACHED, 0);
}

void testbed_see_canary(void)
{
	if (READ_ONCE(canary_task) == current)
		WRITE_ONCE(canary_seen, true);
}

/*
 * Does the hook for opening still run? The module opens a file of its own for that: a
 * worker's root has no files from 7.3 on. The open fails, but only after the hook has
 * run.
 */
static bool beat_try_canary(void)
{
	struct file *canary, *file;

	lockdep_assert_held(&beat_lock);
	WRITE_ONCE(canary_seen, false);
	canary = anon_inode_getfile("[testbed]", &canary_operations, NULL, O_RDWR);
	if (IS_ERR(canary))
		return false;
	WRITE_ONCE(canary_task, current);
	file = dentry_open(&canary->f_path, O_WRONLY, current_cred());
	WRITE_ONCE(canary_task, NULL);
	if (!IS_ERR(file))
		fput(file);
	fput(canary);
	return READ_ONCE(canary_seen);
}

/* A beat that cannot be logged leaves a gap in the numbers, which says so. */
static void beat_again(struct work_struct *work)
{
	mutex_lock(&beat_lock);
	if (attached && beat_interval) {
		if (beat_try_canary()) {
			queue_delayed_work(system_long_wq, &beat_work,
					   nsecs_to_jiffies(beat_interval));
			beat_log(TESTBED_BEAT_PERIODIC, TESTBED_PROOF_OPEN);
		} else {
			beat_log_detached();
		}
	}
	mutex_unlock(&beat_lock);
}

bool testbed_is_attached(void)
{
	return READ_ONCE(attached);
}

void testbed_stop_beats(void)
{
	mutex_lock(&beat_lock);
	attached = false;
	mutex_unlock(&beat_lock);
	cancel_delayed_work_sync(&beat_work);
}

static int beat_log_attached(u64 interval, u64 skipped)
{
	int result;

	lockdep_assert_held(&beat_lock);
	beat_forget_all();
	old_skipped += last_skipped;
	last_skipped = skipped;
	beat_interval = interval ? clamp(interval, SHORTEST_INTERVAL, LONGEST_INTERVAL) : 0;
	attached = true;
	result = beat_log(TESTBED_BEAT_ATTACHED, 0);
	if (beat_interval)
		mod_delayed_work(system_long_wq, &beat_work, nsecs_to_jiffies(beat_interval));
	return result;
}

__bpf_kfunc_start_defs();

/* A program could not tell for which container: so many events. Does not sleep. */
__bpf_kfunc void testbed_count_lost(u32 n)
{
	testbed_lose(n);
}

/*
 * Log a beat. Return the counter of the outcome, or a negative number if there is
 * nothing to say: only attaching can be the first, and detaching is logged once.
 *
 * @interval: nanoseconds, of TESTBED_BEAT_ATTACHED.
 * @skipped: times that the kernel skipped a program, of what the loader asks for.
 * @proved: which hooks have seen what the loader did, of TESTBED_BEAT_ASKED.
 */
__bpf_kfunc int testbed_beat(u32 event, u64 interval, u64 skipped, u32 proved)
{
	int result = -ENOTCONN;

	/* What the log is about to get, this beat answers for. */
	if (event == TESTBED_BEAT_ASKED || event == TESTBED_BEAT_DETACHED) {
		testbed_wait_for_late();
		testbed_log_losses();
	}
	mutex_lock(&beat_lock);
	switch (event) {
	case TESTBED_BEAT_ATTACHED:
		result = beat_log_attached(interval, skipped);
		break;
	case TESTBED_BEAT_ASKED:
		if (!attached)
			break;
		last_skipped = max(last_skipped, skipped);
		result = beat_log(event, proved);
		break;
	case TESTBED_BEAT_DETACHED:
		if (attached)
			result = beat_log_detached();
		break;
	default:
		result = -EINVAL;
	}
	mutex_unlock(&beat_lock);
	if (result >= 0)
		testbed_tally(result, 1);
	return result;
}

__bpf_kfunc_end_defs();
