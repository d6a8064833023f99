// SPDX-License-Identifier: GPL-2.0
/*
 * Files that containers get as code: what is hashed, when, and what is logged.
 *
 *   execve     The pages are dropped in the hook, before the kernel reads how the
 *              program is laid out, and it is hashed when the task returns to user
 *              mode, before its first instruction.
 *   mmap       In a process of one thread likewise: nobody else can run what is
 *              mapped, and whether the mapping came into being is known by then. Else
 *              it is hashed in the hook, as other threads can run it at once; but what
 *              is large, or will most likely be refused, when the task returns (LATE).
 *   mprotect   The hook holds mmap_lock, which reading the file may need: when the
 *              task returns (LATE).
 *   kernel     In the hook: the kernel takes the file next.
 */
#include <linux/binfmts.h>
#include <linux/cgroup.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mount.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

/*
 * What is hashed in a hook: a program that sleeps is one reader of RCU tasks trace as
 * long as it runs, and the kernel reports it as stalled after ten seconds.
 */
#define MAX_IN_HOOK (16ll << 20)
/* Of memory that can still be written by a descriptor, so much is hashed. */
#define MAX_OPEN_MEMORY (64ll << 20)
#define GFP_HOOK (GFP_NOWAIT | __GFP_NOWARN | __GFP_ACCOUNT)

/* ---- one file ---- */

static void measure_log_violations(const struct testbed_code *code,
				   const struct testbed_content *content)
{
	struct inode *inode = content->inode;
	const struct {
		bool found;
		enum testbed_violation violation;
	} rows[] = {
		{ code->written || content->written, TESTBED_VIOLATION_OPEN_WRITERS },
		{ code->changed, TESTBED_VIOLATION_CHANGED },
		{ content->tail, TESTBED_VIOLATION_TAIL },
		{ content->unsettled, TESTBED_VIOLATION_UNSETTLED },
	};

	for (int at = 0; at < ARRAY_SIZE(rows); at++)
		if (rows[at].found && testbed_is_first_violation(inode, code->ident.seq,
								rows[at].violation))
			testbed_log_violation(rows[at].violation, inode, &code->ident, code->flags,
					      code->path, code->path_len);
}

static enum testbed_counter measure_log_file(const struct testbed_code *code,
					     struct testbed_file_entry *entry)
{
	u32 length = struct_size(entry, path, code->path_len);

	entry->route = code->route;
	entry->hash_alg = TESTBED_TPM_ALG_SHA256;
	entry->path_len = code->path_len;
	memcpy(entry->path, code->path, code->path_len);
	testbed_fill_header(&entry->header, TESTBED_KIND_FILE, length, code->flags, &code->ident);
	/* By whatever route it came: one content is one entry. */
	if (testbed_knows_digest(file_inode(code->real), code->ident.seq, entry->digest,
				 code->flags))
		return TESTBED_COUNT_DUPLICATES;
	return testbed_log_charged(&code->ident, TESTBED_BUDGET_ENTRIES, "ctr-file", entry, length,
				   TESTBED_COUNT_FILES);
}

/*
 * What an error of hashing is. A task that was killed before anybody could run the code
 * got none. In a hook that is not so: the mapping is made although the task is killed,
 * and a process that shares its memory (vfork) lives on.
 */
static enum testbed_counter measure_error(const struct testbed_code *code, int err)
{
	if (err == -ENOMEM)
		return TESTBED_COUNT_NO_MEMORY;
	return err == -EINTR && code->unreached ? TESTBED_COUNT_KILLED : TESTBED_COUNT_READ_ERROR;
}

/*
 * Fill the digest and the size of @entry: from fs-verity, if that has the file's; from memory, if just this content was
 * hashed before for any container; else from the file. The entry is written in each case: it binds the content to this
 * container.
 */
static int measure_digest(struct testbed_code *code, struct testbed_file_entry *entry)
{
	struct testbed_content *content = &code->content;
	u64 bytes = 0;
	int err;

	if (testbed_verity_of(content, entry->digest)) {
		testbed_tally(TESTBED_COUNT_VERITY, 1);
		code->flags |= TESTBED_FILE_VERITY;
		entry->size = content->stamp.size;
		testbed_end_content(content);
		return 0;
	}
	if (testbed_recall(TESTBED_DIGEST_SHA256, content, entry->digest)) {
		testbed_tally(TESTBED_COUNT_RECALLED, 1);
		entry->size = content->stamp.size;
		return 0;
	}
	err = testbed_hash_file(code->real, entry->digest, &bytes);
	testbed_tally(TESTBED_COUNT_BYTES, bytes);
	entry->size = bytes;
	/* Only what was read from its begin to its end. */
	if (!err && testbed_end_content(content) && bytes == content->stamp.size)
		testbed_memorize(TESTBED_DIGEST_SHA256, content, entry->digest);
	return err;
}

static bool measure_hashed(struct testbed_code *code, struct testbed_content *content,
			   struct testbed_file_entry *entry, bool stamped)
{
	bool promised = content->promised && !code->changed;
	enum testbed_counter outcome;

	if (!testbed_is_bound(content->inode))
		code->flags |= TESTBED_FILE_NOT_BOUND;
	outcome = measure_log_file(code, entry);
	testbed_count_for(&code->ident, outcome, 1);
	testbed_tally(TESTBED_COUNT_NO_PATH, !!(code->flags & TESTBED_FILE_NO_PATH));
	testbed_tally(TESTBED_COUNT_NOT_BOUND, !!(code->flags & TESTBED_FILE_NOT_BOUND));
	measure_log_violations(code, content);
	if (!promised)
		testbed_tally(stamped ? TESTBED_COUNT_CHANGED : TESTBED_COUNT_UNCACHEABLE, 1);
	if (outcome != TESTBED_COUNT_FILES && outcome != TESTBED_COUNT_DUPLICATES)
		return false;
	testbed_learn_code(content->inode, code->ident.seq, promised ? &content->stamp : NULL,
			   entry->digest, code->flags);
	return promised;
}

bool testbed_measure_code(struct testbed_code *code, struct testbed_stamp *stamp)
{
	struct inode *inode = file_inode(code->real);
	struct testbed_file_entry *entry;
	bool promised = false, stamped;
	int err;

	might_sleep();
	if (!S_ISREG(inode->i_mode)) {
		testbed_count_for(&code->ident, TESTBED_COUNT_NOT_REGULAR, 1);
		return false;
	}
	entry = kzalloc(struct_size(entry, path, code->path_len), GFP_KERNEL);
	if (!entry) {
		testbed_count_for(&code->ident, TESTBED_COUNT_NO_MEMORY, 1);
		return false;
	}
	if (!code->begun)
		testbed_begin_content(&code->content, inode, code->ident.outermost);
	/* A digest would say nothing, and holes of terabytes take hours (the JIT of .NET). */
	if (testbed_is_open_memory(inode) && i_size_read(inode) > MAX_OPEN_MEMORY) {
		testbed_count_for(&code->ident, TESTBED_COUNT_READ_ERROR, 1);
		measure_log_violations(code, &code->content);
		kfree(entry);
		return false;
	}
	stamped = code->content.promised;
	err = measure_digest(code, entry);
	if (err)
		testbed_count_for(&code->ident, measure_error(code, err), 1);
	else
		promised = measure_hashed(code, &code->content, entry, stamped);
	*stamp = code->content.stamp;
	kfree(entry);
	return promised;
}

/* ---- notes ---- */

/* Has the container got just this content? Then @stamp is its. Does not sleep. */
static bool measure_is_known(struct inode *inode, const struct testbed_ident *ident,
			     struct testbed_stamp *stamp)
{
	if (!testbed_stamp_inode(inode, ident->outermost, stamp) || !testbed_knows_code(inode, ident->seq, stamp))
		return false;
	testbed_tally(TESTBED_COUNT_CACHE_HITS, 1);
	testbed_tally(TESTBED_COUNT_SLOW_HITS, 1);
	return true;
}

/*
 * Fill @code for @file, seen from @root (NULL: the current task's), and put it into
 * the table of code: who opens it for writing from now on is seen. The caller frees
 * its path. Return false if there is no memory, which is a loss.
 */
static bool measure_note(struct testbed_code *code, struct file *file, const struct path *root,
			 const struct testbed_ident *ident, u32 route, gfp_t gfp)
{
	struct inode *inode;

	*code = (struct testbed_code){
		.file = file,
		.real = testbed_real_file(file),
		.ident = *ident,
		.route = route,
		.path = kmalloc(PATH_MAX, gfp),
	};
	if (!code->path) {
		testbed_count_for(ident, TESTBED_COUNT_NO_MEMORY, 1);
		return false;
	}
	code->path_len = testbed_fill_path(file, root, code->path, &code->flags);
	inode = file_inode(code->real);
	if (S_ISREG(inode->i_mode))
		testbed_note_code(inode, ident, code->flags, code->path, code->path_len, gfp);
	code->written = testbed_has_writers(inode);
	return true;
}

/*
 * The kernel read the beginning of @bprm->file before the pages were dropped, and
 * goes by it. It reads an overlay's upper file, and maps the lower one if that was
 * there when it was opened.
 */
static bool measure_is_another(struct linux_binprm *bprm, struct file *real)
{
	loff_t pos = 0;
	char *begin;
	bool another;

	if (d_real_inode(bprm->file->f_path.dentry) != file_inode(real))
		return true;
	/* A server may never answer, and its file is not bound anyway. */
	if (!testbed_binds_content(file_inode(real)))
		return false;
	begin = kzalloc(BINPRM_BUF_SIZE, GFP_KERNEL);
	if (!begin)
		return true;
	/* What cannot be read is found by who hashes it. */
	another = kernel_read(real, begin, BINPRM_BUF_SIZE, &pos) >= 0 &&
		  memcmp(begin, bprm->buf, BINPRM_BUF_SIZE);
	kfree(begin);
	return another;
}

static bool measure_is_alone(void)
{
	return current->mm && atomic_read(&current->mm->mm_users) == 1;
}

/* Will the kernel refuse to map @file as code? A remount may change that meanwhile. */
static bool measure_is_doubtful(const struct file *file)
{
	return !S_ISREG(file_inode(file)->i_mode) || !(file->f_mode & FMODE_READ) ||
	       (file->f_path.mnt->mnt_flags & MNT_NOEXEC) ||
	       (file->f_path.mnt->mnt_sb->s_iflags & SB_I_NOEXEC);
}

static void measure_mmap(struct testbed_code *code, struct testbed_stamp *stamp, bool *promised)
{
	struct testbed_later how = { .doubt = true, .gfp = GFP_KERNEL };
	struct inode *inode = file_inode(code->real);
	bool doubtful = measure_is_doubtful(code->file);

	if (measure_is_alone()) {
		testbed_measure_later(code, &how);
		return;
	}
	if (doubtful || i_size_read(inode) > MAX_IN_HOOK || !testbed_binds_content(inode)) {
		how.late = true;
		/*
		 * Another thread can run it and unmap it, and a tracer can then change what
		 * the call returns. That needs a task that was traced when it entered the
		 * call.
		 */
		how.doubt = doubtful && !current->ptrace;
		testbed_measure_later(code, &how);
		return;
	}
	*promised = testbed_measure_code(code, stamp);
}

static struct file *measure_exe_of(struct task_struct *task)
{
	struct mm_struct *mm = get_task_mm(task);
	struct file *file;

	if (!mm)
		return NULL;
	file = testbed_exe_file(mm);
	mmput(mm);
	return file;
}

__bpf_kfunc_start_defs();

/*
 * The kernel opens @file to execute it, or as the interpreter of what is executed, and
 * reads next how it is laid out: from pages that nobody else holds. It comes before
 * the file system opens it, so an overlay's file has no real one yet.
 */
__bpf_kfunc int testbed_settle_program(struct file *file, const struct testbed_ident *ident)
{
	struct inode *inode = d_real_inode(file->f_path.dentry);

	if (S_ISREG(inode->i_mode))
		testbed_settle(inode, ident->outermost);
	return 0;
}

/*
 * The current task, of @ident, executes the file of @bprm: a program, a script, or the
 * interpreter of one. Return 1 if the container has got it already, with its @stamp.
 */
__bpf_kfunc int testbed_measure_exec(struct linux_binprm *bprm, const struct testbed_ident *ident,
				     struct testbed_stamp *stamp)
{
	const struct testbed_later how = { .gfp = GFP_KERNEL };
	struct testbed_code code;
	struct file *file = bprm->file;

	if (!file)
		return 0;
	if (measure_is_known(file_inode(testbed_real_file(file)), ident, stamp))
		return 1;
	if (!measure_note(&code, file, NULL, ident, TESTBED_ROUTE_EXEC, GFP_KERNEL_ACCOUNT))
		return 0;
	testbed_begin_content(&code.content, file_inode(code.real), ident->outermost);
	code.begun = true;
	code.changed = measure_is_another(bprm, code.real);
	testbed_measure_later(&code, &how);
	kfree(code.path);
	return 0;
}

/*
 * The current task, of @ident, maps @file as code, or the kernel reads it for the task.
 * Return 1 if the container has got it, with a @stamp that may be remembered.
 */
__bpf_kfunc int testbed_measure_file(struct file *file, const struct testbed_ident *ident,
				     u32 route, struct testbed_stamp *stamp)
{
	struct testbed_code code;
	bool promised = false;

	if (!file)
		return 0;
	if (measure_is_known(file_inode(testbed_real_file(file)), ident, stamp))
		return 1;
	if (!measure_note(&code, file, NULL, ident, route, GFP_KERNEL_ACCOUNT))
		return 0;
	if (route == TESTBED_ROUTE_MMAP)
		measure_mmap(&code, stamp, &promised);
	else
		promised = testbed_measure_code(&code, stamp);
	kfree(code.path);
	return promised;
}

/* What @vma maps becomes executable for the current task, of @ident. Does not sleep. */
__bpf_kfunc int testbed_measure_mprotect(struct vm_area_struct *vma,
					 const struct testbed_ident *ident)
{
	const struct testbed_later how = { .late = !measure_is_alone(), .gfp = GFP_HOOK };
	struct file *file = vma ? vma->vm_file : NULL;
	struct testbed_stamp stamp;
	struct testbed_code code;

	if (!file || measure_is_known(file_inode(file), ident, &stamp))
		return 0;
	if (testbed_is_code_of_image(file, ident))
		return 0;
	if (!measure_note(&code, file, NULL, ident, TESTBED_ROUTE_MPROTECT, GFP_HOOK))
		return 0;
	code.flags |= TESTBED_FILE_LATE;
	testbed_measure_later(&code, &how);
	kfree(code.path);
	return 0;
}

/*
 * Hash the program that @task executes and log it for @ident: it ran before it could
 * be measured. Return -ESRCH if the task runs none any more.
 */
__bpf_kfunc int testbed_measure_exe(struct task_struct *task, const struct testbed_ident *ident)
{
	struct testbed_stamp stamp;
	struct testbed_code code;
	struct path root = {};
	struct file *file;

	task_lock(task);
	if (task->fs)
		get_fs_root(task->fs, &root);
	task_unlock(task);
	if (!root.mnt)
		return -ESRCH;
	file = measure_exe_of(task);
	if (file && measure_note(&code, file, &root, ident, TESTBED_ROUTE_BEFORE, GFP_KERNEL)) {
		code.flags |= TESTBED_FILE_LATE;
		testbed_measure_code(&code, &stamp);
		kfree(code.path);
	}
	if (file)
		fput(file);
	path_put(&root);
	return file ? 0 : -ESRCH;
}

/* Log that @ident was first seen, in @task. Return the counter of the outcome. */
__bpf_kfunc int testbed_measure_start(const struct testbed_ident *ident, struct task_struct *task)
{
	struct testbed_start_entry *entry;
	u32 flags = ident->flags, length;
	int result;

	entry = kzalloc(struct_size(entry, cgroup_path, PATH_MAX), GFP_KERNEL);
	if (!entry) {
		testbed_count_for(ident, TESTBED_COUNT_NO_MEMORY, 1);
		return TESTBED_COUNT_NO_MEMORY;
	}
	rcu_read_lock();
	result = cgroup_path(task_dfl_cgroup(task), entry->cgroup_path, PATH_MAX);
	rcu_read_unlock();
	if (result < 0 || result >= PATH_MAX)
		flags |= TESTBED_START_NO_CGROUP_PATH;
	else
		entry->cgroup_len = strlen(entry->cgroup_path);
	entry->parent = ident->parent;
	entry->pidns = ident->pidns;
	entry->utsns = ident->utsns;
	length = struct_size(entry, cgroup_path, entry->cgroup_len);
	testbed_fill_header(&entry->header, TESTBED_KIND_START, length, flags, ident);
	result = testbed_log_charged(ident, TESTBED_BUDGET_ENTRIES, "ctr-start", entry, length,
				     TESTBED_COUNT_STARTS);
	if (result == TESTBED_COUNT_STARTS || result == TESTBED_COUNT_DUPLICATES)
		testbed_note_start(ident->seq);
	testbed_count_for(ident, result, 1);
	kfree(entry);
	return result;
}

/* Log that a task whose thread group was created at @joined came from container @from. */
__bpf_kfunc int testbed_measure_join(const struct testbed_ident *ident, u64 joined, u64 from)
{
	struct testbed_join_entry entry = { .joined = joined, .from = from };
	enum testbed_counter outcome;

	testbed_fill_header(&entry.header, TESTBED_KIND_JOIN, sizeof(entry), 0, ident);
	outcome = testbed_log_charged(ident, TESTBED_BUDGET_ENTRIES, "ctr-join", &entry,
				      sizeof(entry), TESTBED_COUNT_JOINS);
	testbed_count_for(ident, outcome, 1);
	return outcome;
}

__bpf_kfunc_end_defs();
