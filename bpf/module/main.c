// SPDX-License-Identifier: GPL-2.0
/*
 * The kfuncs of the measurer: hash a file afresh, build an entry of
 * docs/formats.md, hand it to IMA. What is measured, and for whom, is decided
 * by the BPF programs; this module decides only how.
 *
 * It runs in the task that is about to execute the file, in a context that may
 * sleep (lsm.s programs); see late.c for the one that may not.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <crypto/hash.h>
#include <linux/backing-dev.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/ima.h>
#include <linux/iversion.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

/*
 * Of a file, read and hashed at a time. Between chunks others may run; with 64 KiB they waited for two million
 * instructions where SHA-256 is emulated, and the scheduler, which does not read the clock again when it was asked to
 * switch (rq_clock_skip_update), charged what we had done meanwhile to whoever came next: up to 3 % of our price.
 */
#define CHUNK_SIZE PAGE_SIZE
#define DELETED_SUFFIX " (deleted)"

/* What the prototypes hash: as many bytes as a pointer has. */
#define TESTBED_POINTER 8
/* "4294967295:" */
#define TESTBED_NS_DIGITS 11

static char *sha256_name = "sha256";
module_param_named(sha256, sha256_name, charp, 0444);
MODULE_PARM_DESC(sha256, "crypto API name of the SHA-256 to use (default: the fastest)");

static struct crypto_shash *sha256_tfm;
static atomic64_t last_seq = ATOMIC64_INIT(0);

struct crypto_shash *testbed_sha256(void)
{
	return sha256_tfm;
}

u64 testbed_last_seq(void)
{
	return atomic64_read(&last_seq);
}

/* ---- hashing ---- */

/* A descriptor opened anew, if this one cannot be read through the page cache. */
static struct file *readable(struct file *file)
{
	const fmode_t can = FMODE_READ | FMODE_CAN_READ;

	/* SysV shared memory is mapped through a descriptor that knows no reading. */
	if ((file->f_mode & can) == can && !(file->f_flags & O_DIRECT))
		return get_file(file);
	return dentry_open(&file->f_path, O_RDONLY | O_LARGEFILE, file->f_cred);
}

static int hash_chunks(struct file *file, struct shash_desc *desc, u8 *chunk, u64 *bytes)
{
	loff_t pos = 0;

	for (;;) {
		ssize_t got = kernel_read(file, chunk, CHUNK_SIZE, &pos);
		int err;

		if (got <= 0)
			return got;
		err = crypto_shash_update(desc, chunk, got);
		if (err)
			return err;
		*bytes += got;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
}

int testbed_hash_file(struct file *file, u8 digest[TESTBED_SHA256_SIZE], u64 *bytes)
{
	SHASH_DESC_ON_STACK(desc, sha256_tfm);
	u8 *chunk;
	int err;

	chunk = kmalloc(CHUNK_SIZE, GFP_KERNEL);
	if (!chunk)
		return -ENOMEM;

	file = readable(file);
	if (IS_ERR(file)) {
		kfree(chunk);
		return PTR_ERR(file);
	}
	desc->tfm = sha256_tfm;
	err = crypto_shash_init(desc);
	if (!err)
		err = hash_chunks(file, desc, chunk, bytes);
	if (!err)
		err = crypto_shash_final(desc, digest);
	shash_desc_zero(desc);
	fput(file);
	kfree(chunk);
	return err;
}

/* ---- entries ---- */

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

/*
 * Does the file have a place in the tree of directories? Not so memfd, SysV shared
 * memory, hugetlb: these give their own name, some of them on a mount for users.
 */
static bool is_anon(const struct path *path)
{
	const struct dentry_operations *ops = path->dentry->d_op;

	return (path->mnt->mnt_sb->s_flags & SB_NOUSER) || (ops && ops->d_dname);
}

/*
 * Does a name lead there from @root, by default that of who asks? Not so if its mount
 * has gone (umount -l), or if its descriptor came from another tree.
 */
static bool is_reachable(const struct path *path, const struct path *root)
{
	return root ? path_is_under(path, root) : testbed_under_own_root(path);
}

/*
 * Put the path of @file into @buf, at its start and without a terminator.
 * Return its length and set the flags of the entry. Does not sleep.
 */
u32 testbed_fill_path(struct file *file, const struct path *root, char *buf, u32 *flags)
{
	const struct path *path = testbed_user_path(file);
	bool unlinked;
	size_t len;
	char *name;

	if (is_anon(path))
		*flags |= TESTBED_FILE_ANON;
	/* Unlinked meanwhile, it may have the suffix, or a name that ends like it. */
	do {
		unlinked = d_unlinked(path->dentry);
		name = d_path(path, buf, PATH_MAX);
	} while (unlinked != d_unlinked(path->dentry));
	if (unlinked || (!(*flags & TESTBED_FILE_ANON) && !is_reachable(path, root)))
		*flags |= TESTBED_FILE_UNLINKED;
	if (IS_ERR(name)) {
		*flags |= TESTBED_FILE_NO_PATH;
		return 0;
	}
	len = strlen(name);
	if (unlinked) {
		const size_t suffix = sizeof(DELETED_SUFFIX) - 1;

		if (len >= suffix && !strcmp(name + len - suffix, DELETED_SUFFIX))
			len -= suffix;
	}
	memmove(buf, name, len);
	return len;
}

static enum testbed_counter count_of_ima(int err)
{
	switch (err) {
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
	/* 0 also when the TPM refused the extend: IMA does not tell. */
	int err = ima_measure_critical_data(TESTBED_LABEL, event, entry, length,
					    false, NULL, 0);

	return err ? count_of_ima(err) : written;
}

static int count_of_error(int err)
{
	return err == -ENOMEM ? TESTBED_COUNT_NO_MEMORY : TESTBED_COUNT_READ_ERROR;
}

/*
 * d_path() speaks from the root of who asks. A path that leads to another task's
 * root begins with the path of that root: take it away.
 */
static u32 below(const struct path *root, char *path, u32 len)
{
	char *buf = kmalloc(PATH_MAX, GFP_KERNEL), *top;
	size_t cut;

	if (!buf)
		return len;
	top = d_path(root, buf, PATH_MAX);
	if (!IS_ERR(top)) {
		cut = strlen(top);
		if (cut > 1 && cut < len && !memcmp(path, top, cut) && path[cut] == '/') {
			len -= cut;
			memmove(path, path + cut, len);
		}
	}
	kfree(buf);
	return len;
}

static struct file *exe_of(struct task_struct *task)
{
	struct mm_struct *mm = get_task_mm(task);
	struct file *file;

	if (!mm)
		return NULL;
	file = testbed_exe_file(mm);
	mmput(mm);
	return file;
}

/* The inode that has the content. A file that an overlay has mapped is the real one already. */
static struct inode *real_inode(struct file *file)
{
	struct inode *inode = file_inode(file);

	return inode->i_sb->s_magic == OVERLAYFS_SUPER_MAGIC ? d_real_inode(file->f_path.dentry) :
							       inode;
}

int testbed_log_file(struct file *file, struct testbed_file_entry *entry, u32 flags,
		     const struct testbed_ident *ident, struct testbed_work *work)
{
	u32 length = sizeof(*entry) + entry->path_len;
	struct inode *inode;
	bool written;
	int result;

	if (!S_ISREG(file_inode(file)->i_mode))
		return TESTBED_COUNT_NOT_REGULAR;
	inode = real_inode(file);
	/* Before it is read: who opens it for writing from now on is seen, or seen below. */
	testbed_note_code(inode, ident, flags & ~TESTBED_FILE_LATE, entry);
	written = testbed_has_writers(inode);
	result = testbed_hash_file(file, entry->digest, &work->bytes);
	if (result)
		return count_of_error(result);
	entry->route = work->route;
	entry->hash_alg = TESTBED_TPM_ALG_SHA256;
	entry->size = work->bytes;
	testbed_fill_header(&entry->header, TESTBED_KIND_FILE, length, flags, ident);
	work->no_path = !!(flags & TESTBED_FILE_NO_PATH);
	/* By whatever route it came: one content is one entry. */
	if (work->known && !memcmp(work->digest, entry->digest, sizeof(work->digest)))
		result = TESTBED_COUNT_DUPLICATES;
	else
		result = testbed_log_entry("ctr-file", entry, length, TESTBED_COUNT_FILES);
	memcpy(work->digest, entry->digest, sizeof(work->digest));
	if (written || testbed_has_writers(inode))
		testbed_log_violation(TESTBED_VIOLATION_OPEN_WRITERS, inode, ident,
				      flags & ~TESTBED_FILE_LATE, entry->path, entry->path_len);
	return result;
}

/* Hash @file and log it for @ident. Return the counter of the outcome. */
static int measure_file(struct file *file, const struct path *root, u32 flags,
			const struct testbed_ident *ident, struct testbed_work *work)
{
	struct testbed_file_entry *entry;
	int result;

	work->bytes = 0;
	work->no_path = 0;
	if (!file)
		return TESTBED_COUNT_NO_FILE;
	entry = kzalloc(sizeof(*entry) + PATH_MAX, GFP_KERNEL);
	if (!entry)
		return TESTBED_COUNT_NO_MEMORY;
	entry->path_len = testbed_fill_path(file, root, entry->path, &flags);
	if (root)
		entry->path_len = below(root, entry->path, entry->path_len);
	result = testbed_log_file(file, entry, flags, ident, work);
	kfree(entry);
	return result;
}

/*
 * Nothing is promised (1) without a change counter, or if somebody can write right
 * now: then @stamp only says which file it is. A change through write() or a new
 * writable mapping raises i_version because it has been queried here.
 */
int testbed_stamp_inode(struct inode *inode, struct testbed_stamp *stamp)
{
	struct timespec64 ctime;

	memset(stamp, 0, sizeof(*stamp));
	if (!inode || !S_ISREG(inode->i_mode))
		return 1;
	stamp->inode = (unsigned long)inode;
	stamp->sb = (unsigned long)inode->i_sb;
	stamp->ino = inode->i_ino;
	stamp->generation = inode->i_generation;
	if (!IS_I_VERSION(inode))
		return 1;
	/*
	 * Memory is all there is (tmpfs, memfd): its pages are mapped writable at
	 * the first read, so a store through a mapping is seen by nobody, and when
	 * the mapping has gone nothing tells of it.
	 */
	if (!mapping_can_writeback(inode->i_mapping))
		return 1;
	ctime = testbed_ctime(inode);
	stamp->iversion = inode_query_iversion(inode);
	stamp->size = i_size_read(inode);
	stamp->ctime_sec = ctime.tv_sec;
	stamp->ctime_nsec = ctime.tv_nsec;
	/* After the query: a writer that comes later raises the counter. */
	smp_mb();
	return testbed_has_writers(inode);
}

/* ---- kfuncs ---- */

__bpf_kfunc_start_defs();

/* A number that no other container of this boot has had or will have. */
__bpf_kfunc u64 testbed_new_seq(void)
{
	u64 seq = atomic64_inc_return(&last_seq);

	/* Loaded anew, it would begin at 1 again: from now on it must stay. */
	if (seq == 1)
		__module_get(THIS_MODULE);
	return seq;
}

/* Fill @stamp. Return 0 if an equal stamp will mean equal content, 1 if nothing can be promised. */
__bpf_kfunc int testbed_stamp_file(struct file *file, struct testbed_stamp *stamp)
{
	return testbed_stamp_inode(file ? d_real_inode(file->f_path.dentry) : NULL, stamp);
}

/* Hash @file and log it for @ident. Return the counter of the outcome. */
__bpf_kfunc int testbed_measure_file(struct file *file,
				     const struct testbed_ident *ident,
				     struct testbed_work *work)
{
	return measure_file(file, NULL, 0, ident, work);
}

/*
 * Hash the program that @task executes and log it for @ident: it ran before it
 * could be measured. Return the counter of the outcome, or -ESRCH if the task runs
 * none any more.
 */
__bpf_kfunc int testbed_measure_exe(struct task_struct *task,
				    const struct testbed_ident *ident,
				    struct testbed_work *work)
{
	struct path root = {};
	struct file *file;
	int result;

	work->bytes = 0;
	work->no_path = 0;
	if (!task)
		return -ESRCH;
	task_lock(task);
	if (task->fs)
		get_fs_root(task->fs, &root);
	task_unlock(task);
	if (!root.mnt)
		return -ESRCH;
	file = exe_of(task);
	result = file ? measure_file(file, &root, TESTBED_FILE_LATE, ident, work) : -ESRCH;
	if (file)
		fput(file);
	path_put(&root);
	return result;
}

/* Log that @ident was first seen, in @task. */
__bpf_kfunc int testbed_measure_start(const struct testbed_ident *ident,
				      struct task_struct *task)
{
	struct testbed_start_entry *entry;
	u32 flags = ident->flags, length;
	int result;

	entry = kzalloc(sizeof(*entry) + PATH_MAX, GFP_KERNEL);
	if (!entry)
		return TESTBED_COUNT_NO_MEMORY;
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
	length = sizeof(*entry) + entry->cgroup_len;
	testbed_fill_header(&entry->header, TESTBED_KIND_START, length, flags, ident);
	result = testbed_log_entry("ctr-start", entry, length, TESTBED_COUNT_STARTS);
	kfree(entry);
	return result;
}

/*
 * Log one line of a prototype: @data is what it hashes. Under a rule with
 * template=ima-ng the entry's digest is the hash of @data and its name is @name,
 * bit for bit as in the prototypes' own logs.
 */
static enum testbed_counter log_line(const char *name, const void *data)
{
	int err = ima_measure_critical_data(TESTBED_LABEL, name, data, TESTBED_POINTER,
					    false, NULL, 0);

	return err ? count_of_ima(err) : TESTBED_COUNT_LINES;
}

/*
 * The rule of container-ima (commit 1429fd0): the namespace's number is appended
 * to the binary digest by a string function, so behind its first zero byte, and
 * as many bytes as a pointer has are hashed. Nothing of a file whose path does
 * not begin with a slash.
 */
__bpf_kfunc int testbed_prototype_file(struct file *file, u32 utsns)
{
	u8 digest[TESTBED_SHA256_SIZE], data[TESTBED_POINTER];
	size_t kept, taken = TESTBED_NS_DIGITS + 1;
	char *name, *path;
	int len, result;
	u64 bytes = 0;

	if (!file)
		return TESTBED_COUNT_NO_FILE;
	if (!S_ISREG(file_inode(file)->i_mode))
		return TESTBED_COUNT_NOT_REGULAR;
	name = kmalloc(taken + PATH_MAX, GFP_KERNEL);
	if (!name)
		return TESTBED_COUNT_NO_MEMORY;
	path = d_path(&file->f_path, name + taken, PATH_MAX);
	if (IS_ERR(path) || path[0] != '/') {
		result = TESTBED_COUNT_NO_NAME;
		goto out;
	}
	result = testbed_hash_file(file, digest, &bytes);
	if (result) {
		result = count_of_error(result);
		goto out;
	}
	len = snprintf(name, taken, "%u", utsns);
	for (kept = 0; kept < sizeof(data) && digest[kept]; kept++)
		data[kept] = digest[kept];
	memcpy(data + kept, name, min_t(size_t, len, sizeof(data) - kept));
	if (len < sizeof(data) - kept)
		memset(data + kept + len, 0, sizeof(data) - kept - len);
	name[len] = ':';
	memmove(name + len + 1, path, strlen(path) + 1);
	result = log_line(name, data);
out:
	kfree(name);
	return result;
}

/*
 * The rule of container-integrity-measurement (commit 2db127b) for a container
 * whose overlay has just been mounted: none of its files is in the dentry cache
 * that the prototype walks, so it hashes an aggregate that is still zero. What it
 * makes of uninitialised memory and of other file systems cannot be reproduced.
 */
__bpf_kfunc int testbed_prototype_image(u32 utsns)
{
	static const u8 nothing[TESTBED_POINTER];
	char name[TESTBED_NS_DIGITS + 1];
	struct path root;
	bool overlay;

	get_fs_root(current->fs, &root);
	overlay = root.mnt->mnt_sb->s_magic == OVERLAYFS_SUPER_MAGIC;
	path_put(&root);
	if (!overlay)
		return TESTBED_COUNT_NOT_OVERLAY;
	snprintf(name, sizeof(name), "%u", utsns);
	return log_line(name, nothing);
}

/* Log that a task whose thread group was created at @joined came from container @from. */
__bpf_kfunc int testbed_measure_join(const struct testbed_ident *ident, u64 joined, u64 from)
{
	struct testbed_join_entry entry = { .joined = joined, .from = from };

	testbed_fill_header(&entry.header, TESTBED_KIND_JOIN, sizeof(entry), 0, ident);
	return testbed_log_entry("ctr-join", &entry, sizeof(entry), TESTBED_COUNT_JOINS);
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(testbed_kfuncs)
BTF_ID_FLAGS(func, testbed_new_seq, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_stamp_file, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_file, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_start, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_prototype_file, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_prototype_image, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_exe, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_join, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_launch, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_commit_launch, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_beat, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_count_lost)
BTF_ID_FLAGS(func, testbed_watch_writer, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_watch_size, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_later, TESTBED_KF_ATOMIC)
BTF_KFUNCS_END(testbed_kfuncs)

static const struct btf_kfunc_id_set testbed_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &testbed_kfuncs,
};

/* What the loader may run: a beat or a claim, but no measurement. */
BTF_KFUNCS_START(testbed_loader_kfuncs)
BTF_ID_FLAGS(func, testbed_claim, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_beat, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_count_lost)
BTF_ID_FLAGS(func, testbed_take_tally)
BTF_KFUNCS_END(testbed_loader_kfuncs)

static const struct btf_kfunc_id_set testbed_loader_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &testbed_loader_kfuncs,
};

static int __init testbed_init(void)
{
	int err;

	/*
	 * The generic SHA-256 is built in, so asking for "sha256" would not load
	 * the accelerated one. Where there is none, the best available is used.
	 */
	request_module("crypto-sha256-ssse3");
	/* The BPF programs look into its inodes: its BTF must be there by then. */
	request_module("fs-overlay");
	sha256_tfm = crypto_alloc_shash(sha256_name, 0, 0);
	if (IS_ERR(sha256_tfm)) {
		pr_err("no such hash: %s\n", sha256_name);
		return PTR_ERR(sha256_tfm);
	}
	if (crypto_shash_digestsize(sha256_tfm) != TESTBED_SHA256_SIZE) {
		err = -EINVAL;
		goto err_free;
	}
	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_LSM, &testbed_kfunc_set);
	if (!err)
		err = register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &testbed_loader_kfunc_set);
	if (err)
		goto err_free;
	pr_info("hashing with %s\n", crypto_shash_driver_name(sha256_tfm));
	return 0;

err_free:
	crypto_free_shash(sha256_tfm);
	return err;
}

/* The programs hold a reference, so none of them runs any more. */
static void __exit testbed_exit(void)
{
	testbed_stop_beats();
	testbed_forget_digests();
	crypto_free_shash(sha256_tfm);
}

module_init(testbed_init);
module_exit(testbed_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Container measurer: kfuncs that log files to IMA");
