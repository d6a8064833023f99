// SPDX-License-Identifier: GPL-2.0
/*
 * Files that become executable by mprotect. The hook holds mmap_lock, which
 * reading the file may need, so nothing is read there: the path is taken down, a
 * reference to the file is kept, and the task reads it on its way back to user mode.
 * The thread that called mprotect cannot run the code before that, others can:
 * hence flag LATE.
 *
 * Why not a kernel thread: a container pays for its own measurements this way, and
 * one that makes them slow (large files, a FUSE server that does not answer)
 * delays nobody else's.
 *
 * The module stays for the boot once a container has a number (testbed_new_seq),
 * and there is no work without one: none can be pending when the module goes.
 */
#include <linux/btf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/task_work.h>
#include <linux/wait.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

/* One mprotect may reach as many mappings as a process has. */
#define MAX_PENDING 4096
/* A beat waits so long for what is under way, then it says that it is lost. */
#define PATIENCE (10 * HZ)
#define GFP_LATE (GFP_NOWAIT | __GFP_NOWARN | __GFP_ACCOUNT)

struct late {
	struct callback_head work;
	struct list_head list;
	u64 serial;
	bool given_up;
	u32 flags;
	struct file *file;
	struct testbed_ident ident;
	struct testbed_file_entry entry; /* and its path */
};

static DEFINE_SPINLOCK(late_lock); /* of all that follows */
static LIST_HEAD(pending);	   /* in the order of `serial` */
static unsigned int pending_count;
static u64 last_serial;
static DECLARE_WAIT_QUEUE_HEAD(late_done);

static bool enlist(struct late *late)
{
	bool room;

	spin_lock(&late_lock);
	room = pending_count < MAX_PENDING;
	if (room) {
		pending_count++;
		late->serial = ++last_serial;
		list_add_tail(&late->list, &pending);
	}
	spin_unlock(&late_lock);
	return room;
}

static void delist(struct late *late)
{
	spin_lock(&late_lock);
	list_del(&late->list);
	pending_count--;
	spin_unlock(&late_lock);
	wake_up_all(&late_done);
}

static bool is_done_up_to(u64 serial)
{
	struct late *late;
	bool done = true;

	spin_lock(&late_lock);
	list_for_each_entry(late, &pending, list)
		if (!late->given_up) {
			done = late->serial > serial;
			break;
		}
	spin_unlock(&late_lock);
	return done;
}

static unsigned int give_up(u64 serial)
{
	unsigned int n = 0;
	struct late *late;

	spin_lock(&late_lock);
	list_for_each_entry(late, &pending, list) {
		if (late->serial > serial)
			break;
		n += !late->given_up;
		late->given_up = true;
	}
	spin_unlock(&late_lock);
	return n;
}

/* Wait until what is under way now is in the log, or counted as lost. */
void testbed_wait_for_late(void)
{
	u64 serial;

	spin_lock(&late_lock);
	serial = last_serial;
	spin_unlock(&late_lock);
	if (!wait_event_timeout(late_done, is_done_up_to(serial), PATIENCE))
		testbed_tally(TESTBED_COUNT_MPROTECT, give_up(serial));
}

static void measure(struct late *late, struct inode *inode)
{
	struct testbed_work work = { .route = TESTBED_ROUTE_MPROTECT };
	struct testbed_stamp before, after;
	bool stamped = testbed_stamp_inode(inode, &before) == 0;
	int outcome = testbed_log_file(late->file, &late->entry, late->flags, &late->ident, &work);

	testbed_tally(outcome, 1);
	testbed_tally(TESTBED_COUNT_BYTES, work.bytes);
	testbed_tally(TESTBED_COUNT_NO_PATH, work.no_path);
	if (outcome != TESTBED_COUNT_FILES && outcome != TESTBED_COUNT_DUPLICATES)
		return;
	if (!stamped)
		testbed_tally(TESTBED_COUNT_UNCACHEABLE, 1);
	else if (testbed_stamp_inode(inode, &after) || memcmp(&before, &after, sizeof(after)))
		testbed_tally(TESTBED_COUNT_CHANGED, 1);
	else
		testbed_learn_code(inode, late->ident.seq, &after);
}

static void measure_late(struct callback_head *work)
{
	struct late *late = container_of(work, struct late, work);
	struct inode *inode = file_inode(late->file);

	/* One call may reach several mappings of one file. */
	if (testbed_knows_code(inode, late->ident.seq))
		testbed_tally(TESTBED_COUNT_CACHE_HITS, 1);
	else
		measure(late, inode);
	delist(late);
	fput(late->file);
	kfree(late);
}

/* Does not sleep. */
static struct late *new_late(struct file *file, const struct testbed_ident *ident)
{
	char *path = kmalloc(PATH_MAX, GFP_LATE);
	struct late *late = NULL;
	u32 len, flags = TESTBED_FILE_LATE;

	if (!path)
		return NULL;
	len = testbed_fill_path(file, NULL, path, &flags);
	late = kzalloc(sizeof(*late) + len, GFP_LATE);
	if (late) {
		init_task_work(&late->work, measure_late);
		late->flags = flags;
		late->file = get_file(file);
		late->ident = *ident;
		late->entry.path_len = len;
		memcpy(late->entry.path, path, len);
	}
	kfree(path);
	return late;
}

static void free_late(struct late *late)
{
	fput(late->file);
	kfree(late);
}

__bpf_kfunc_start_defs();

/*
 * Have the file of @vma measured for @ident when the task leaves the kernel.
 * Return the counter of the outcome. Does not sleep.
 */
__bpf_kfunc int testbed_measure_later(struct vm_area_struct *vma, const struct testbed_ident *ident)
{
	struct file *file = vma ? vma->vm_file : NULL;
	struct late *late;

	if (!file)
		return TESTBED_COUNT_NO_FILE;
	if (testbed_knows_code(file_inode(file), ident->seq))
		return TESTBED_COUNT_CACHE_HITS;
	late = new_late(file, ident);
	if (!late)
		return TESTBED_COUNT_MPROTECT;
	if (!enlist(late)) {
		free_late(late);
		return TESTBED_COUNT_MPROTECT;
	}
	if (task_work_add(current, &late->work, TWA_RESUME)) {
		delist(late);
		free_late(late);
		return TESTBED_COUNT_MPROTECT;
	}
	return TESTBED_COUNT_LATE;
}

__bpf_kfunc_end_defs();
