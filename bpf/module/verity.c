// SPDX-License-Identifier: GPL-2.0
/*
 * The fs-verity digest of a file (docs/formats.md, "Content digest" and "ctr-file"): read from
 * the kernel where the file has fs-verity enabled with the parameters of that
 * page, computed in one pass with one block of hashes for each level where not.
 * Both give the same digest, so which files of an image have it enabled does
 * not matter.
 */
#include <crypto/hash.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"
#include "tree.h"

#define BLOCK_SIZE_LOG 12
#define VERITY_BLOCK 4096u
#define HASHES_PER_BLOCK (VERITY_BLOCK / TESTBED_SHA256_SIZE)
/* 128^7 blocks of 4096 bytes are 2^61 bytes; a file has at most 2^63. */
#define MAX_LEVELS 9

static bool verity_wanted = true;
module_param_named(verity, verity_wanted, bool, 0444);
MODULE_PARM_DESC(verity, "log the fs-verity digest of a file that has one, not its SHA-256");

/* What fs-verity hashes last (Documentation/filesystems/fsverity.rst, fsverity_descriptor). */
struct descriptor {
	u8 version;
	u8 hash_algorithm;
	u8 log_blocksize;
	u8 salt_size;
	__le32 reserved;
	__le64 data_size;
	u8 root_hash[64];
	u8 salt[32];
	u8 reserved_too[144];
};

static_assert(sizeof(struct descriptor) == 256);
static_assert(offsetof(struct descriptor, root_hash) == 16);
static_assert(offsetof(struct descriptor, salt) == 80);

struct level {
	u8 hashes[VERITY_BLOCK];
	u32 count;
};

/* One for a whole walk: it is larger than most files. */
struct testbed_verity {
	struct level levels[MAX_LEVELS];
	u8 data[VERITY_BLOCK];
};

struct testbed_verity *testbed_new_verity(void)
{
	return kvmalloc(sizeof(struct testbed_verity), GFP_KERNEL_ACCOUNT);
}

void testbed_free_verity(struct testbed_verity *verity)
{
	kvfree(verity);
}

static int verity_hash(struct crypto_shash *tfm, const void *data, u32 size, u8 *out)
{
	SHASH_DESC_ON_STACK(desc, tfm);

	desc->tfm = tfm;
	return crypto_shash_digest(desc, data, size, out);
}

/* Hash what @level has, filled with zeros, into @out, and empty it. */
static int verity_close_block(struct crypto_shash *tfm, struct level *level, u8 *out)
{
	u32 used = level->count * TESTBED_SHA256_SIZE;

	memset(level->hashes + used, 0, VERITY_BLOCK - used);
	level->count = 0;
	return verity_hash(tfm, level->hashes, VERITY_BLOCK, out);
}

/* Append a hash to the lowest level; a block that is full moves up only when another hash comes. */
static int verity_append(struct crypto_shash *tfm, struct testbed_verity *tree, u32 at,
			 const u8 *digest)
{
	u8 carry[TESTBED_SHA256_SIZE], up[TESTBED_SHA256_SIZE];
	int err;

	memcpy(carry, digest, sizeof(carry));
	for (; at < MAX_LEVELS; at++) {
		struct level *level = &tree->levels[at];
		bool full = level->count == HASHES_PER_BLOCK;

		if (full) {
			err = verity_close_block(tfm, level, up);
			if (err)
				return err;
		}
		memcpy(level->hashes + level->count++ * TESTBED_SHA256_SIZE, carry, sizeof(carry));
		if (!full)
			return 0;
		memcpy(carry, up, sizeof(carry));
	}
	return -EFBIG;
}

static bool verity_is_top(const struct testbed_verity *tree, u32 at)
{
	while (++at < MAX_LEVELS)
		if (tree->levels[at].count)
			return false;
	return true;
}

static int verity_root(struct crypto_shash *tfm, struct testbed_verity *tree, u8 *root)
{
	u8 digest[TESTBED_SHA256_SIZE];
	int err;

	/* An empty file has no tree, and its root hash is zero. */
	for (u32 at = 0; at < MAX_LEVELS && tree->levels[at].count; at++) {
		if (tree->levels[at].count == 1 && verity_is_top(tree, at)) {
			memcpy(root, tree->levels[at].hashes, TESTBED_SHA256_SIZE);
			return 0;
		}
		err = verity_close_block(tfm, &tree->levels[at], digest);
		if (!err)
			err = verity_append(tfm, tree, at + 1, digest);
		if (err)
			return err;
	}
	return 0;
}

/* Read a block: shorter only at the end of the file. */
static ssize_t verity_read_block(struct file *file, u8 *data, loff_t *pos)
{
	size_t had = 0;

	while (had < VERITY_BLOCK) {
		ssize_t got = kernel_read(file, data + had, VERITY_BLOCK - had, pos);

		if (got < 0)
			return got;
		if (!got)
			break;
		had += got;
	}
	return had;
}

/* Append the hash of the @size bytes of @tree's data, filled with zeros to a block. */
static int verity_add_block(struct crypto_shash *tfm, struct testbed_verity *tree, size_t size)
{
	u8 digest[TESTBED_SHA256_SIZE];
	int err;

	memset(tree->data + size, 0, VERITY_BLOCK - size);
	err = verity_hash(tfm, tree->data, VERITY_BLOCK, digest);
	return err ? err : verity_append(tfm, tree, 0, digest);
}

static int verity_compute(struct testbed_walk *walk, struct file *file, u64 limit, u8 *digest)
{
	struct descriptor last = { .version = 1, .hash_algorithm = 1,
				   .log_blocksize = BLOCK_SIZE_LOG };
	struct crypto_shash *tfm = testbed_sha256();
	struct testbed_verity *tree = walk->verity;
	u64 bytes = 0;
	loff_t pos = 0;
	ssize_t got;
	int err;

	for (u32 at = 0; at < MAX_LEVELS; at++)
		tree->levels[at].count = 0;
	/* A block at a time, as CHUNK_SIZE of hash.c has it and for its reason. */
	do {
		got = verity_read_block(file, tree->data, &pos);
		if (got < 0)
			return got;
		if (!got)
			break;
		bytes += got;
		walk->read += got;
		if (bytes > limit)
			return testbed_end_walk(walk, TESTBED_OUTCOME_BYTES);
		err = verity_add_block(tfm, tree, got);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return testbed_end_walk(walk, TESTBED_OUTCOME_KILLED);
		cond_resched();
	} while (got == VERITY_BLOCK);
	last.data_size = cpu_to_le64(bytes);
	err = verity_root(tfm, tree, last.root_hash);
	return err ? err : verity_hash(tfm, &last, sizeof(last), digest);
}

/*
 * Read the digest that fs-verity has of @inode. Return false if it has none, or
 * one of other parameters. The struct is private to fs-verity: where its fields
 * lie is what the programs found in the kernel's own type information.
 */
static bool verity_read_digest(struct inode *inode, const struct testbed_verity_layout *layout, u8 *digest)
{
	const u8 *info;

	if (!layout->known || !inode)
		return false;
	info = (const u8 *)fsverity_get_info(inode);
	if (!info)
		return false;
	if (*(const u32 *)(info + layout->digest_size) != TESTBED_SHA256_SIZE ||
	    *(const u32 *)(info + layout->block_size) != VERITY_BLOCK ||
	    *(void *const *)(info + layout->salted))
		return false;
	return testbed_copy_verity(inode, info + layout->file_digest, digest);
}

bool testbed_verity_of(const struct testbed_content *content, u8 digest[TESTBED_SHA256_SIZE])
{
	return verity_wanted && content->promised && (content->stamp.version & TESTBED_STAMP_VERITY) &&
	       verity_read_digest(content->inode, &testbed_layout()->verity, digest);
}

bool testbed_inode_verity(struct inode *inode, u8 digest[TESTBED_SHA256_SIZE])
{
	return verity_read_digest(inode, &testbed_layout()->verity, digest);
}

/*
 * Fill @digest for the regular file at @path, as the current task may read it, and
 * add to @walk->read what had to be read. A file of more than @limit bytes ends the
 * walk, and so does a fatal signal. May sleep.
 */
int testbed_verity_digest(struct testbed_walk *walk, const struct path *path, u64 limit,
			  u8 digest[TESTBED_SHA256_SIZE])
{
	struct file *file;
	int err = 0;

	might_sleep();
	file = dentry_open(path, O_RDONLY | O_LARGEFILE | O_NOATIME, current_cred());
	if (IS_ERR(file))
		return PTR_ERR(file);
	/* fs-verity loads what it knows of a file when that is opened. */
	if (!verity_read_digest(d_real_inode(path->dentry), &walk->layout, digest))
		err = verity_compute(walk, file, limit, digest);
	testbed_fput(file, &walk->closed);
	return err;
}
