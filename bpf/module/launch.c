// SPDX-License-Identifier: GPL-2.0
/*
 * How a container was started: the entries ctr-image and ctr-launch.
 *
 * Both are written by the container's first process itself, when it returns to
 * user mode from the execve of its first program: outside BPF, where it may sleep
 * and be killed, with its own arguments in its own memory, and before it has run
 * one instruction.
 *
 * That is asked for when the execve begins, as the runtime's program is known only
 * then, and committed when it can fail no more. What is not committed does nothing:
 * an execve that failed is no launch, and the next one tries again. The kernel may
 * do a task's work within an execve (it cancels io_uring's requests before it can
 * fail no more): then there is nothing left to commit, and it is asked for anew,
 * without the runtime.
 */
#include <crypto/hash.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "module.h"
#include "tree.h"

#define MAX_RANGES 64
#define RANGES_SIZE (MAX_RANGES * sizeof(struct testbed_id_range))
#define VARIABLE_SIZE (TESTBED_ARGS_MAX + 2 * RANGES_SIZE + TESTBED_MOUNTS_MAX)
#define IMAGES 64

static unsigned long max_files = 1000000;
module_param(max_files, ulong, 0444);
MODULE_PARM_DESC(max_files, "files of an image beyond which it is not digested");
static unsigned long max_mib = 65536;
module_param(max_mib, ulong, 0444);
MODULE_PARM_DESC(max_mib, "MiB of an image beyond which it is not digested");
static unsigned int max_depth = 4096;
module_param(max_depth, uint, 0444);
MODULE_PARM_DESC(max_depth, "levels of directories of an image beyond which it is not digested");

/* A start that was asked for and has not come back to user mode yet. */
struct launch {
	struct callback_head work;
	struct list_head list;
	struct task_struct *task; /* compared, never followed */
	bool committed;		  /* its execve can fail no more */
	struct file *runtime;	  /* NULL: not known any more */
	struct testbed_ident ident;
	struct testbed_verity_layout layout;
};

static DEFINE_SPINLOCK(lock); /* of the pending starts and of the images */
static LIST_HEAD(pending);

/* Images whose entry is in the log: IMA would write an audit record for each duplicate. */
static struct testbed_image_entry images[IMAGES];
static u32 images_next;

/* ---- what the kernel sees of the program ---- */

struct text {
	unsigned long start;
	unsigned long end;
};

/* Copy the arguments, as many bytes as fit, and count all. */
static int read_arguments(const struct text *text, u8 *to, u32 *length, u32 *count)
{
	char *chunk = kmalloc(PAGE_SIZE, GFP_KERNEL);
	int err = 0;

	if (!chunk)
		return -ENOMEM;
	for (unsigned long at = text->start; at < text->end && !err;) {
		size_t size = min_t(unsigned long, text->end - at, PAGE_SIZE);

		err = copy_from_user(chunk, (void __user *)at, size) ? -EFAULT : 0;
		if (err)
			break;
		if (at - text->start < TESTBED_ARGS_MAX) {
			u32 kept = min_t(size_t, size, TESTBED_ARGS_MAX - *length);

			memcpy(to + *length, chunk, kept);
			*length += kept;
		}
		for (size_t i = 0; i < size; i++)
			*count += !chunk[i];
		at += size;
		if (fatal_signal_pending(current))
			err = -EINTR;
	}
	kfree(chunk);
	return err;
}

static int hash_environment(const struct text *text, u8 *digest)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	u8 *chunk = kmalloc(PAGE_SIZE, GFP_KERNEL);
	int err;

	if (!chunk)
		return -ENOMEM;
	desc->tfm = testbed_sha256();
	err = crypto_shash_init(desc);
	for (unsigned long at = text->start; at < text->end && !err;) {
		size_t size = min_t(unsigned long, text->end - at, PAGE_SIZE);

		err = copy_from_user(chunk, (void __user *)at, size) ? -EFAULT : 0;
		if (!err)
			err = crypto_shash_update(desc, chunk, size);
		at += size;
		if (fatal_signal_pending(current))
			err = -EINTR;
	}
	if (!err)
		err = crypto_shash_final(desc, digest);
	kfree(chunk);
	return err;
}

/* The runtime may be one file for all starts, or a copy in memory for each. */
static int hash_runtime(struct file *file, u8 *digest, u64 *read)
{
	struct dentry *dentry = file->f_path.dentry;
	struct testbed_memo memo;
	u64 bytes = 0;
	int err;

	if (testbed_recall(TESTBED_DIGEST_SHA256, dentry, &memo, digest))
		return 0;
	err = testbed_hash_file(file, digest, &bytes);
	*read += bytes;
	if (!err)
		testbed_memorize(TESTBED_DIGEST_SHA256, dentry, &memo, digest);
	return err;
}

/* ---- entries ---- */

static bool is_logged(const struct testbed_image_entry *image)
{
	bool found = false;

	spin_lock(&lock);
	for (u32 at = 0; at < IMAGES && !found; at++)
		found = !memcmp(&images[at], image, sizeof(*image));
	spin_unlock(&lock);
	return found;
}

static void remember(const struct testbed_image_entry *image)
{
	spin_lock(&lock);
	images[images_next++ % IMAGES] = *image;
	spin_unlock(&lock);
}

static void log_image(const struct testbed_walk *walk, enum testbed_outcome outcome,
		      const u8 *digest)
{
	static const struct testbed_ident nobody;
	struct testbed_image_entry entry = {
		.tree_version = TESTBED_TREE_VERSION,
		.hash_alg = TESTBED_TPM_ALG_SHA256,
		.outcome = outcome,
		.files = walk->files,
		.bytes = walk->bytes,
	};
	int result;

	memcpy(entry.digest, digest, sizeof(entry.digest));
	testbed_fill_header(&entry.header, TESTBED_KIND_IMAGE, sizeof(entry), 0, &nobody);
	if (is_logged(&entry)) {
		testbed_tally(TESTBED_COUNT_IMAGES_KNOWN, 1);
		return;
	}
	result = testbed_log_entry("ctr-image", &entry, sizeof(entry), TESTBED_COUNT_IMAGES);
	testbed_tally(result, 1);
	if (result == TESTBED_COUNT_IMAGES || result == TESTBED_COUNT_DUPLICATES)
		remember(&entry);
}

/* Append the ranges of @map. Return how many bytes that were. */
static u32 add_ranges(u8 *to, const struct uid_gid_map *map, u32 *count, u32 *flags)
{
	struct testbed_id_range *ranges = (struct testbed_id_range *)to;
	/* Written before the number of extents is, and never changed after. */
	u32 all = smp_load_acquire(&map->nr_extents);
	const struct uid_gid_extent *extents = map->extent;

	if (all > UID_GID_MAP_MAX_BASE_EXTENTS)
		extents = map->forward;
	*count = min_t(u32, all, MAX_RANGES);
	if (all > MAX_RANGES)
		*flags |= TESTBED_LAUNCH_MAPS_CUT;
	for (u32 at = 0; at < *count; at++)
		ranges[at] = (struct testbed_id_range){
			.inside = extents[at].first,
			.outside = extents[at].lower_first,
			.count = extents[at].count,
		};
	return *count * sizeof(*ranges);
}

static void fill_credentials(struct testbed_launch_entry *entry, const struct cred *cred)
{
	entry->user = from_kuid(&init_user_ns, cred->uid);
	entry->group = from_kgid(&init_user_ns, cred->gid);
	entry->cap_permitted = testbed_caps(&cred->cap_permitted);
	entry->cap_bounding = testbed_caps(&cred->cap_bset);
	entry->cap_inheritable = testbed_caps(&cred->cap_inheritable);
	entry->cap_ambient = testbed_caps(&cred->cap_ambient);
}

/* What the kernel sees of the program that is about to run, into @entry and behind it. */
static u32 fill_program(struct testbed_launch_entry *entry, struct launch *launch, u64 *read,
			u32 *flags)
{
	struct mm_struct *mm = current->mm;
	struct text args, env;

	spin_lock(&mm->arg_lock);
	args = (struct text){ mm->arg_start, mm->arg_end };
	env = (struct text){ mm->env_start, mm->env_end };
	spin_unlock(&mm->arg_lock);
	if (read_arguments(&args, entry->variable, &entry->args_len, &entry->args) ||
	    args.end - args.start > entry->args_len)
		*flags |= TESTBED_LAUNCH_ARGS_CUT;
	if (hash_environment(&env, entry->environment)) {
		*flags |= TESTBED_LAUNCH_NO_ENVIRONMENT;
		memset(entry->environment, 0, sizeof(entry->environment));
	}
	if (!launch->runtime || hash_runtime(launch->runtime, entry->runtime, read)) {
		*flags |= TESTBED_LAUNCH_NO_RUNTIME;
		memset(entry->runtime, 0, sizeof(entry->runtime));
	}
	if (testbed_take_claim(entry->config))
		*flags |= TESTBED_LAUNCH_CONFIG;
	return entry->args_len;
}

static void log_launch(struct launch *launch, const struct testbed_walk *walk,
		       enum testbed_outcome outcome, const u8 *digest, u64 *read)
{
	struct testbed_launch_entry *entry;
	u32 flags = walk->mounts_cut ? TESTBED_LAUNCH_MOUNTS_CUT : 0, length;

	entry = kvzalloc(sizeof(*entry) + VARIABLE_SIZE, GFP_KERNEL);
	if (!entry) {
		testbed_tally(TESTBED_COUNT_NO_MEMORY, 1);
		return;
	}
	entry->hash_alg = TESTBED_TPM_ALG_SHA256;
	entry->outcome = outcome;
	memcpy(entry->image, digest, sizeof(entry->image));
	fill_credentials(entry, current_cred());
	length = fill_program(entry, launch, read, &flags);
	length += add_ranges(entry->variable + length, &walk->userns->uid_map, &entry->uid_maps,
			     &flags);
	length += add_ranges(entry->variable + length, &walk->userns->gid_map, &entry->gid_maps,
			     &flags);
	entry->mounts = walk->mounts;
	entry->mounts_len = walk->mounts_len;
	memcpy(entry->variable + length, walk->mount_list, walk->mounts_len);
	length += sizeof(*entry) + walk->mounts_len;
	testbed_fill_header(&entry->header, TESTBED_KIND_LAUNCH, length, flags, &launch->ident);
	testbed_tally(testbed_log_entry("ctr-launch", entry, length, TESTBED_COUNT_LAUNCHES), 1);
	kvfree(entry);
}

/* ---- the start itself ---- */

/* Digest the tree as one that may read all of it: the program may run as anybody. */
static enum testbed_outcome walk_root(struct testbed_walk *walk, u8 *digest)
{
	struct cred *all = prepare_kernel_cred(&init_task);
	enum testbed_outcome outcome;
	const struct cred *own;
	struct path root;

	memset(digest, 0, TESTBED_SHA256_SIZE);
	if (!all)
		return TESTBED_OUTCOME_MEMORY;
	get_fs_root(current->fs, &root);
	own = override_creds(all);
	outcome = testbed_walk_tree(walk, &root, digest);
	revert_creds(own);
	put_cred(all);
	path_put(&root);
	return outcome;
}

static void measure_launch(struct launch *launch)
{
	struct testbed_walk walk = {
		.limits = { .files = max_files, .bytes = (u64)max_mib << 20, .depth = max(max_depth, 1u) },
		.layout = launch->layout,
		.userns = current_user_ns(),
	};
	enum testbed_outcome outcome;
	u8 digest[TESTBED_SHA256_SIZE];

	walk.mount_list = kmalloc(TESTBED_MOUNTS_MAX, GFP_KERNEL);
	walk.verity = testbed_new_verity();
	if (!walk.mount_list || !walk.verity) {
		testbed_tally(TESTBED_COUNT_NO_MEMORY, 1);
		goto out;
	}
	outcome = walk_root(&walk, digest);
	log_image(&walk, outcome, digest);
	log_launch(launch, &walk, outcome, digest, &walk.read);
	testbed_tally(TESTBED_COUNT_BYTES, walk.read);
out:
	testbed_free_verity(walk.verity);
	kfree(walk.mount_list);
}

static void free_launch(struct launch *launch)
{
	spin_lock(&lock);
	list_del(&launch->list);
	spin_unlock(&lock);
	if (launch->runtime)
		fput(launch->runtime);
	kfree(launch);
}

static void back_to_user(struct callback_head *work)
{
	struct launch *launch = container_of(work, struct launch, work);

	/* It may have been killed before its first instruction. */
	if (launch->committed && !(current->flags & PF_EXITING) && current->mm)
		measure_launch(launch);
	free_launch(launch);
}

/* Mark the current task's launch, and return true if it has one. */
static bool find_pending(bool commit)
{
	struct launch *launch;
	bool found = false;

	spin_lock(&lock);
	list_for_each_entry(launch, &pending, list) {
		if (launch->task != current)
			continue;
		launch->committed |= commit;
		found = true;
	}
	spin_unlock(&lock);
	return found;
}

static int queue_launch(const struct testbed_ident *ident,
			const struct testbed_verity_layout *layout, struct file *runtime,
			bool committed, gfp_t gfp)
{
	struct launch *launch = kzalloc(sizeof(*launch), gfp);

	if (!launch) {
		if (runtime)
			fput(runtime);
		return TESTBED_COUNT_NO_MEMORY;
	}
	launch->task = current;
	launch->committed = committed;
	launch->runtime = runtime;
	launch->ident = *ident;
	launch->layout = *layout;
	spin_lock(&lock);
	list_add(&launch->list, &pending);
	spin_unlock(&lock);
	init_task_work(&launch->work, back_to_user);
	/* Refused, it is exiting and will execute nothing. */
	if (task_work_add(current, &launch->work, TWA_RESUME))
		free_launch(launch);
	return 0;
}

__bpf_kfunc_start_defs();

/*
 * Have the current task, which executes the first program of @ident, log its image
 * and its launch before that runs, if the execve is committed. Return 0, or the
 * counter of why that cannot be.
 */
__bpf_kfunc int testbed_measure_launch(const struct testbed_ident *ident,
				       const struct testbed_verity_layout *layout)
{
	/* A script and its interpreter are one execve. */
	if (!current->mm || find_pending(false))
		return 0;
	testbed_know_digests();
	return queue_launch(ident, layout, testbed_exe_file(current->mm), false, GFP_KERNEL);
}

/* The execve can fail no more. Return as above. Does not sleep. */
__bpf_kfunc int testbed_commit_launch(const struct testbed_ident *ident,
				      const struct testbed_verity_layout *layout)
{
	if (find_pending(true))
		return 0;
	return queue_launch(ident, layout, NULL, true, GFP_NOWAIT | __GFP_NOWARN);
}

__bpf_kfunc_end_defs();
