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
 * fail no more): then there is nothing left to commit, and it is asked for again,
 * without the runtime.
 */
#include <crypto/hash.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/hashtable.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "layers.h"
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
	struct hlist_node node;
	struct task_struct *task; /* compared, never followed */
	bool committed;		  /* its execve can fail no more */
	struct file *runtime;	  /* NULL: not known any more */
	struct testbed_ident ident;
};

static DEFINE_SPINLOCK(launch_lock); /* of the pending starts and of the images */
static DEFINE_HASHTABLE(launch_pending, 8); /* by task */

/* Images whose entry is in the log: IMA would write an audit record for each duplicate. */
static struct testbed_image_entry launch_images[IMAGES];
static u32 launch_images_next;

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
		cond_resched();
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
		cond_resched();
	}
	if (!err)
		err = crypto_shash_final(desc, digest);
	kfree(chunk);
	return err;
}

/* The runtime may be one file for all starts, or a copy in memory for each. */
static int hash_runtime(struct file *file, u64 payer, u8 *digest, u64 *read)
{
	struct testbed_content content;
	u64 bytes = 0;
	int err;

	file = testbed_real_file(file);
	testbed_begin_content(&content, file_inode(file), payer);
	if (testbed_recall(TESTBED_DIGEST_SHA256, &content, digest))
		return 0;
	err = testbed_hash_file(file, digest, &bytes);
	*read += bytes;
	if (testbed_end_content(&content) && !err)
		testbed_memorize(TESTBED_DIGEST_SHA256, &content, digest);
	return err;
}

/* ---- entries ---- */

static bool launch_is_logged(const struct testbed_image_entry *image)
{
	bool found = false;

	spin_lock(&launch_lock);
	for (u32 at = 0; at < IMAGES && !found; at++)
		found = !memcmp(&launch_images[at], image, sizeof(*image));
	spin_unlock(&launch_lock);
	return found;
}

static void launch_remember_image(const struct testbed_image_entry *image)
{
	spin_lock(&launch_lock);
	launch_images[launch_images_next++ % IMAGES] = *image;
	spin_unlock(&launch_lock);
}

static void log_image(const struct testbed_ident *payer, const struct testbed_walk *walk,
		      enum testbed_outcome outcome, const u8 *digest)
{
	static const struct testbed_ident nobody;
	struct testbed_image_entry entry = {
		.tree_version = walk->version,
		.hash_alg = TESTBED_TPM_ALG_SHA256,
		.outcome = outcome,
		.files = walk->files,
		.bytes = walk->bytes,
	};
	int result;

	memcpy(entry.digest, digest, sizeof(entry.digest));
	testbed_fill_header(&entry.header, TESTBED_KIND_IMAGE, sizeof(entry), 0, &nobody);
	if (launch_is_logged(&entry)) {
		testbed_tally(TESTBED_COUNT_IMAGES_KNOWN, 1);
		return;
	}
	result = testbed_log_charged(payer, TESTBED_BUDGET_ENTRIES, "ctr-image", &entry,
				     sizeof(entry), TESTBED_COUNT_IMAGES);
	testbed_count_for(payer, result, 1);
	if (result == TESTBED_COUNT_IMAGES || result == TESTBED_COUNT_DUPLICATES)
		launch_remember_image(&entry);
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
	    args.end - args.start > entry->args_len ||
	    (entry->args_len && entry->variable[entry->args_len - 1]))
		*flags |= TESTBED_LAUNCH_ARGS_CUT;
	if (hash_environment(&env, entry->environment)) {
		*flags |= TESTBED_LAUNCH_NO_ENVIRONMENT;
		memset(entry->environment, 0, sizeof(entry->environment));
	}
	if (!launch->runtime || hash_runtime(launch->runtime, launch->ident.outermost, entry->runtime, read)) {
		*flags |= TESTBED_LAUNCH_NO_RUNTIME;
		memset(entry->runtime, 0, sizeof(entry->runtime));
	}
	if (testbed_take_claim(entry->config))
		*flags |= TESTBED_LAUNCH_CONFIG;
	return entry->args_len;
}

/* Write the mount table of the current task to @to. Return how many bytes that were. */
static u32 add_mounts(struct testbed_launch_entry *entry, u8 *to, u32 *flags)
{
	struct testbed_mount_table table = { .text = (char *)to };

	testbed_read_mounts(NULL, &table);
	if (table.cut)
		*flags |= TESTBED_LAUNCH_MOUNTS_CUT;
	if (table.none)
		*flags |= TESTBED_LAUNCH_NO_MOUNTS;
	entry->mounts = table.count;
	entry->mounts_len = table.length;
	return table.length;
}

/* The root directory itself, which the image's digest leaves to the storage driver. */
static void fill_root(struct testbed_launch_entry *entry, const struct testbed_walk *walk,
		      const struct path *root)
{
	entry->root_mode = d_inode(root->dentry)->i_mode & 07777;
	entry->root_user = testbed_owner(root, walk->userns);
	entry->root_group = testbed_group(root, walk->userns);
	memcpy(entry->root_xattrs, walk->root_xattrs, sizeof(entry->root_xattrs));
}

static void log_launch(struct launch *launch, struct testbed_walk *walk, const struct path *root,
		       enum testbed_outcome outcome, const u8 *digest)
{
	struct testbed_launch_entry *entry;
	enum testbed_counter result;
	u32 flags = 0, length;
	bool entered;

	entry = kvzalloc(struct_size(entry, variable, VARIABLE_SIZE), GFP_KERNEL);
	if (!entry) {
		testbed_count_for(&launch->ident, TESTBED_COUNT_NO_MEMORY, 1);
		return;
	}
	/* A change of a layer from here on is a violation: none is missed before the entry is there. */
	entered = outcome == TESTBED_OUTCOME_COMPLETE && !walk->unpromised &&
		  testbed_enter_overlay(root, &launch->ident);
	if (entered && testbed_layout()->mode == TESTBED_MODE_DRIFT)
		flags |= TESTBED_LAUNCH_DRIFT;
	entry->hash_alg = TESTBED_TPM_ALG_SHA256;
	entry->outcome = outcome;
	memcpy(entry->image, digest, sizeof(entry->image));
	fill_credentials(entry, current_cred());
	fill_root(entry, walk, root);
	length = fill_program(entry, launch, &walk->read, &flags);
	length += add_ranges(entry->variable + length, &walk->userns->uid_map, &entry->uid_maps,
			     &flags);
	length += add_ranges(entry->variable + length, &walk->userns->gid_map, &entry->gid_maps,
			     &flags);
	length += add_mounts(entry, entry->variable + length, &flags);
	length = struct_size(entry, variable, length);
	testbed_fill_header(&entry->header, TESTBED_KIND_LAUNCH, length, flags, &launch->ident);
	result = testbed_log_charged(&launch->ident, TESTBED_BUDGET_ENTRIES, "ctr-launch", entry,
				     length, TESTBED_COUNT_LAUNCHES);
	testbed_count_for(&launch->ident, result, 1);
	/* What the log does not say of its image, it must say of its files. */
	if (entered && result != TESTBED_COUNT_LAUNCHES)
		testbed_leave_overlay(launch->ident.seq);
	kvfree(entry);
}

/* ---- the start itself ---- */

/* Digest the tree as one that may read all of it: the program may run as anybody. */
static enum testbed_outcome walk_root(struct testbed_walk *walk, const struct path *root,
				      u8 *digest)
{
	enum testbed_outcome outcome;
	const struct cred *own;

	memset(digest, 0, TESTBED_SHA256_SIZE);
	own = testbed_as_kernel();
	if (!own)
		return TESTBED_OUTCOME_MEMORY;
	outcome = TESTBED_OUTCOME_COMPLETE;
	if (!testbed_sealed_root(walk, root, digest))
		outcome = testbed_digest_image(walk, root, digest);
	testbed_as_before(own);
	return outcome;
}

static void measure_launch(struct launch *launch)
{
	struct testbed_walk walk = {
		.limits = {
			.files = max_files,
			.bytes = (u64)max_mib << 20,
			.depth = max(max_depth, 1u),
		},
		.layout = testbed_layout()->verity,
		.version = TESTBED_TREE_VERSION,
		.payer = launch->ident.outermost,
		.userns = current_user_ns(),
	};
	enum testbed_outcome outcome;
	u8 digest[TESTBED_SHA256_SIZE];
	struct path root;

	might_sleep();
	walk.verity = testbed_new_verity();
	if (!walk.verity) {
		testbed_count_for(&launch->ident, TESTBED_COUNT_NO_MEMORY, 1);
		return;
	}
	get_fs_root(current->fs, &root);
	outcome = walk_root(&walk, &root, digest);
	log_image(&launch->ident, &walk, outcome, digest);
	log_launch(launch, &walk, &root, outcome, digest);
	path_put(&root);
	testbed_tally(TESTBED_COUNT_BYTES, walk.read);
	testbed_free_verity(walk.verity);
}

static void free_launch(struct launch *launch)
{
	spin_lock(&launch_lock);
	hash_del(&launch->node);
	spin_unlock(&launch_lock);
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

	spin_lock(&launch_lock);
	hash_for_each_possible(launch_pending, launch, node, (unsigned long)current) {
		if (launch->task != current)
			continue;
		launch->committed |= commit;
		found = true;
	}
	spin_unlock(&launch_lock);
	return found;
}

static int queue_launch(const struct testbed_ident *ident, struct file *runtime, bool committed,
			gfp_t gfp)
{
	struct launch *launch = kzalloc(sizeof(*launch), gfp);

	if (!launch) {
		if (runtime)
			fput(runtime);
		testbed_count_for(ident, TESTBED_COUNT_NO_MEMORY, 1);
		return TESTBED_COUNT_NO_MEMORY;
	}
	launch->task = current;
	launch->committed = committed;
	launch->runtime = runtime;
	launch->ident = *ident;
	spin_lock(&launch_lock);
	hash_add(launch_pending, &launch->node, (unsigned long)current);
	spin_unlock(&launch_lock);
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
__bpf_kfunc int testbed_measure_launch(const struct testbed_ident *ident)
{
	/* A script and its interpreter are one execve. */
	if (!current->mm || find_pending(false))
		return 0;
	return queue_launch(ident, testbed_exe_file(current->mm), false, GFP_KERNEL);
}

/* The execve can fail no more. Return as above. Does not sleep. */
__bpf_kfunc int testbed_commit_launch(const struct testbed_ident *ident)
{
	if (find_pending(true))
		return 0;
	return queue_launch(ident, NULL, true, GFP_NOWAIT | __GFP_NOWARN);
}

__bpf_kfunc_end_defs();
