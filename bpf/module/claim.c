// SPDX-License-Identifier: GPL-2.0
/*
 * What an OCI hook claims of a container that is about to start: the digest of its
 * config.json. It is kept by the process that will be the container's first one,
 * until that logs its launch. Nobody in a container can hand one in.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

/* Of containers that are being created right now. The oldest gives way. */
#define CLAIMS 256

struct claim {
	u64 started; /* 0: free */
	pid_t tgid;
	u8 digest[TESTBED_SHA256_SIZE];
};

static DEFINE_SPINLOCK(claim_lock); /* of all that follows */
static struct claim claim_table[CLAIMS];
static u32 claim_next;

/* Move the claim about the current process into @digest. Return false if there is none. */
bool testbed_take_claim(u8 digest[TESTBED_SHA256_SIZE])
{
	bool found = false;

	spin_lock(&claim_lock);
	for (u32 at = 0; at < CLAIMS && !found; at++) {
		found = claim_table[at].started == current->group_leader->start_boottime &&
			claim_table[at].tgid == current->tgid;
		if (!found)
			continue;
		memcpy(digest, claim_table[at].digest, TESTBED_SHA256_SIZE);
		claim_table[at].started = 0;
	}
	spin_unlock(&claim_lock);
	return found;
}

/* @task is the leader of its process: who takes its place in an execve inherits the time. */
static void claim_keep(const struct task_struct *task, const u8 *digest)
{
	struct claim *claim;

	spin_lock(&claim_lock);
	claim = &claim_table[claim_next++ % CLAIMS];
	claim->started = task->start_boottime;
	claim->tgid = task->tgid;
	memcpy(claim->digest, digest, TESTBED_SHA256_SIZE);
	spin_unlock(&claim_lock);
}

__bpf_kfunc_start_defs();

/*
 * Keep the digest of a file that the caller has open for one of its processes, by
 * the number that it has for the caller. -ESRCH: there is no such process.
 */
__bpf_kfunc int testbed_claim(const struct testbed_claim *claim)
{
	u8 digest[TESTBED_SHA256_SIZE];
	struct task_struct *task;
	struct file *file;
	struct pid *pid;
	u64 bytes = 0;
	int err;

	file = fget(claim->fd);
	if (!file)
		return -EBADF;
	err = S_ISREG(file_inode(file)->i_mode) ? testbed_hash_file(file, digest, &bytes) : -EINVAL;
	fput(file);
	if (err)
		return err;
	pid = find_get_pid(claim->pid);
	task = get_pid_task(pid, PIDTYPE_TGID);
	put_pid(pid);
	if (!task)
		return -ESRCH;
	claim_keep(task, digest);
	put_task_struct(task);
	return 0;
}

__bpf_kfunc_end_defs();
