// SPDX-License-Identifier: GPL-2.0
/*
 * What is measured when the task returns to user mode: by the task itself, in the
 * order in which the hooks met it, outside of BPF, where it may take as long as it
 * takes and be killed.
 *
 * Why not a kernel thread: a container pays for its own measurements this way, and one
 * that makes them slow (large files, a FUSE server that does not answer) delays nobody
 * else's.
 *
 * The kernel does a task's works newest first. So there is one work a task, with a
 * queue of its own: else one call that makes two files executable would have the
 * first one read last, when another thread has run it and put another content in its
 * place.
 *
 * The module stays for the boot once a container has a number (testbed_new_seq), and
 * there is no work without one: none can be pending when the module goes.
 */
#include <asm/syscall.h>
#include <linux/btf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/overflow.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/task_work.h>
#include <linux/wait.h>

#include "compat.h"
#include "module.h"

/* One mprotect may reach as many mappings as a process has. */
#define MAX_JOBS 4096
/* A beat waits so long for what is under way, then it is a loss of its container. */
#define PATIENCE (10 * HZ)

/* One file to measure. */
struct work_job {
	struct list_head of_queue;
	struct list_head of_late; /* in the order of `serial`, if others can run it already */
	u64 serial;
	bool late;
	bool doubt;
	bool given_up;
	bool stamped; /* `stamp` is of the content when it became code */
	bool settled; /* and its pages were settled then */
	struct testbed_stamp stamp;
	struct testbed_code code;
	char path[];
};

/* Those of one task. Only the task itself adds to it, and empties it. */
struct work_queue {
	struct callback_head work;
	struct hlist_node node;
	struct task_struct *task; /* compared, never followed */
	struct list_head jobs;
	unsigned int count;
	u64 ended; /* the container whose last task this is, 0 if it is not */
};

static DEFINE_HASHTABLE(work_queues, 8);
static LIST_HEAD(work_late);
static u64 work_last_serial;
static DEFINE_SPINLOCK(work_lock); /* of all that is above */
static DECLARE_WAIT_QUEUE_HEAD(work_done);

/* ---- one job ---- */

/*
 * Did the mapping that was asked for not come into being? The call failed, and nothing
 * of the file is mapped as code. Both are asked: a tracer can change what a call
 * returns, another thread can unmap.
 */
static bool work_was_refused(const struct inode *inode)
{
	long result = syscall_get_error(current, current_pt_regs());
	struct vm_area_struct *vma;
	bool mapped = false;

	/* What the kernel puts there before a call has a result. */
	if (!result || result == -ENOSYS || !current->mm)
		return false;
	if (mmap_read_lock_killable(current->mm))
		return false;
	VMA_ITERATOR(at, current->mm, 0);
	for_each_vma(at, vma)
		mapped |= vma->vm_file && file_inode(vma->vm_file) == inode &&
			  (vma->vm_flags & VM_EXEC);
	mmap_read_unlock(current->mm);
	return !mapped;
}

/* Is @a of another content than @b, and not only counted otherwise? */
static bool work_is_another(const struct testbed_stamp *a, struct testbed_stamp b)
{
	b.version = a->version;
	return memcmp(a, &b, sizeof(b));
}

/*
 * Others could run it from the hook on. It is what they ran only if its pages were
 * settled then, and nothing has changed. A version alone proves no change: XFS raises
 * it when the mapping makes the time of the last access another one.
 */
static void work_judge_late(struct work_job *job, const struct testbed_stamp *now)
{
	struct testbed_code *code = &job->code;

	if (!testbed_is_bound(file_inode(code->real)))
		return;
	if (job->stamped && work_is_another(&job->stamp, *now))
		code->changed = true;
	else if (!job->settled || job->stamp.version != now->version)
		code->flags |= TESTBED_FILE_NOT_BOUND;
}

/*
 * Has the container got just this content, and is that all there is to say? One call may
 * reach several mappings of one file. Fills @now.
 */
static bool work_is_known(const struct work_job *job, struct testbed_stamp *now)
{
	const struct testbed_code *code = &job->code;
	struct inode *inode = file_inode(code->real);

	if (!testbed_stamp_inode(inode, code->ident.outermost, now) || code->written || code->changed)
		return false;
	if (code->begun && (code->content.written || code->content.tail || code->content.unsettled))
		return false;
	if (job->late && (!job->settled || memcmp(&job->stamp, now, sizeof(*now))))
		return false;
	return testbed_knows_code(inode, code->ident.seq, now);
}

static void work_do_job(struct work_job *job)
{
	struct inode *inode = file_inode(job->code.real);
	struct testbed_stamp now;

	/* It was killed before it could run what it got. */
	if (!job->late && (current->flags & PF_EXITING)) {
		testbed_tally(TESTBED_COUNT_KILLED, 1);
		return;
	}
	if (job->doubt && work_was_refused(inode)) {
		testbed_tally(TESTBED_COUNT_REFUSED, 1);
		return;
	}
	/* The first program and its loader come here after the launch. */
	if (testbed_is_code_of_image(job->code.file, &job->code.ident))
		return;
	if (work_is_known(job, &now)) {
		testbed_tally(TESTBED_COUNT_CACHE_HITS, 1);
		return;
	}
	job->code.unreached = !job->late;
	if (job->late) {
		testbed_tally(TESTBED_COUNT_LATE, 1);
		work_judge_late(job, &now);
	}
	testbed_measure_code(&job->code, &now);
}

static void work_free_job(struct work_job *job)
{
	fput(job->code.file);
	kfree(job);
}

/* ---- queues ---- */

static struct work_queue *work_find_queue(struct task_struct *task)
{
	struct work_queue *queue;

	lockdep_assert_held(&work_lock);
	hash_for_each_possible(work_queues, queue, node, (unsigned long)task)
		if (queue->task == task)
			return queue;
	return NULL;
}

/* The oldest job, NULL if there is none: then the queue has left the table, too. */
static struct work_job *work_first(struct work_queue *queue)
{
	struct work_job *job;

	spin_lock(&work_lock);
	job = list_first_entry_or_null(&queue->jobs, struct work_job, of_queue);
	if (!job)
		hash_del(&queue->node);
	spin_unlock(&work_lock);
	return job;
}

static void work_finish(struct work_queue *queue, struct work_job *job)
{
	spin_lock(&work_lock);
	list_del(&job->of_queue);
	queue->count--;
	if (job->late)
		list_del(&job->of_late);
	spin_unlock(&work_lock);
	if (job->late)
		wake_up_all(&work_done);
	work_free_job(job);
}

static void work_run(struct callback_head *work)
{
	struct work_queue *queue = container_of(work, struct work_queue, work);
	struct work_job *job;

	while ((job = work_first(queue))) {
		work_do_job(job);
		work_finish(queue, job);
	}
	if (queue->ended)
		testbed_forget_container(queue->ended);
	kfree(queue);
}

/* Add @job to the current task's queue. Return false if it has too many. */
static bool work_add_job(struct work_queue *queue, struct work_job *job)
{
	lockdep_assert_held(&work_lock);
	if (queue->count >= MAX_JOBS)
		return false;
	queue->count++;
	list_add_tail(&job->of_queue, &queue->jobs);
	if (job->late) {
		job->serial = ++work_last_serial;
		list_add_tail(&job->of_late, &work_late);
	}
	return true;
}

/* Have a queue for the current task with @job in it. Return false if that cannot be. */
static bool work_new_queue(struct work_job *job, gfp_t gfp)
{
	struct work_queue *queue = kzalloc(sizeof(*queue), gfp);

	if (!queue)
		return false;
	init_task_work(&queue->work, work_run);
	queue->task = current;
	INIT_LIST_HEAD(&queue->jobs);
	spin_lock(&work_lock);
	work_add_job(queue, job);
	hash_add(work_queues, &queue->node, (unsigned long)current);
	spin_unlock(&work_lock);
	if (!task_work_add(current, &queue->work, TWA_RESUME))
		return true;
	/* It is exiting. */
	spin_lock(&work_lock);
	hash_del(&queue->node);
	list_del(&job->of_queue);
	if (job->late)
		list_del(&job->of_late);
	spin_unlock(&work_lock);
	kfree(queue);
	return false;
}

static bool work_enqueue(struct work_job *job, gfp_t gfp)
{
	struct work_queue *queue;
	bool added = false;

	spin_lock(&work_lock);
	queue = work_find_queue(current);
	if (queue)
		added = work_add_job(queue, job);
	spin_unlock(&work_lock);
	return queue ? added : work_new_queue(job, gfp);
}

/* Does not sleep if @how->gfp does not. */
static struct work_job *work_new_job(const struct testbed_code *code,
				     const struct testbed_later *how)
{
	struct work_job *job = kzalloc(struct_size(job, path, code->path_len), how->gfp);

	if (!job)
		return NULL;
	job->late = how->late;
	job->doubt = how->doubt;
	job->code = *code;
	job->code.path = job->path;
	memcpy(job->path, code->path, code->path_len);
	if (how->late)
		job->code.flags |= TESTBED_FILE_LATE;
	/* An overlay's file keeps the real one. */
	get_file(code->file);
	job->stamped = testbed_stamp_inode(file_inode(code->real), code->ident.outermost, &job->stamp);
	job->settled = job->stamped && testbed_is_settled(&job->stamp);
	return job;
}

void testbed_measure_later(const struct testbed_code *code, const struct testbed_later *how)
{
	struct work_job *job = work_new_job(code, how);

	if (!job) {
		testbed_count_for(&code->ident, TESTBED_COUNT_NO_MEMORY, 1);
		return;
	}
	if (!work_enqueue(job, how->gfp)) {
		testbed_count_for(&code->ident, TESTBED_COUNT_PENDING, 1);
		work_free_job(job);
	}
}

bool testbed_end_later(u64 seq)
{
	struct work_queue *queue;

	spin_lock(&work_lock);
	queue = work_find_queue(current);
	if (queue)
		queue->ended = seq;
	spin_unlock(&work_lock);
	return queue;
}

/* ---- beats ---- */

/* Is nothing under way that a beat waits for? Not for who may never answer. */
static bool work_is_done_up_to(u64 serial)
{
	struct work_job *job;
	bool done = true;

	spin_lock(&work_lock);
	list_for_each_entry(job, &work_late, of_late) {
		if (job->serial > serial)
			break;
		if (!job->given_up && testbed_binds_content(file_inode(job->code.real))) {
			done = false;
			break;
		}
	}
	spin_unlock(&work_lock);
	return done;
}

/* Take the next job that is not done, and count it as one that will not be done. */
static bool work_give_up(u64 serial, struct testbed_ident *ident)
{
	struct work_job *job;
	bool found = false;

	spin_lock(&work_lock);
	list_for_each_entry(job, &work_late, of_late) {
		if (job->serial > serial)
			break;
		if (job->given_up)
			continue;
		job->given_up = true;
		*ident = job->code.ident;
		found = true;
		break;
	}
	spin_unlock(&work_lock);
	return found;
}

/*
 * Wait until what others can run already is in the log. What is not by then is a loss
 * of its container. What nobody can run yet is not waited for.
 */
void testbed_wait_for_late(void)
{
	struct testbed_ident ident;
	u64 serial;

	might_sleep();
	spin_lock(&work_lock);
	serial = work_last_serial;
	spin_unlock(&work_lock);
	wait_event_timeout(work_done, work_is_done_up_to(serial), PATIENCE);
	while (work_give_up(serial, &ident))
		testbed_count_for(&ident, TESTBED_COUNT_PENDING, 1);
}
