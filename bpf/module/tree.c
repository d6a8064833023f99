// SPDX-License-Identifier: GPL-2.0
/*
 * Walk over the tree of a container's root and digest it (docs/formats.md,
 * section 3). Not recursive: the directories on the way down are an array. A
 * directory is read whole, its names are sorted, each child's digest is kept
 * beside its name, and all are hashed when the last one is known.
 *
 * Files are looked up in the mount of the root alone, so what lies under a mount
 * is what is digested, and what is mounted there is not entered.
 */
#include <crypto/hash.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "module.h"
#include "tree.h"

#define TREE_MAGIC 0x44494254u /* "TBID" */

/* ---- the walk ---- */

static int hash_directory(const struct testbed_directory *directory, u8 *content)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	int err;

	desc->tfm = testbed_sha256();
	err = crypto_shash_init(desc);
	for (u32 at = 0; !err && at < directory->count; at++) {
		const struct testbed_child *child = &directory->children[at];
		__le32 length = cpu_to_le32(child->length);

		if (!child->covered)
			continue;
		err = crypto_shash_update(desc, (u8 *)&length, sizeof(length));
		if (!err)
			err = crypto_shash_update(desc, directory->names + child->name,
						  child->length);
		if (!err)
			err = crypto_shash_update(desc, child->digest, TESTBED_SHA256_SIZE);
		cond_resched();
	}
	return err ? err : crypto_shash_final(desc, content);
}

static bool is_empty(const struct testbed_directory *directory)
{
	for (u32 at = 0; at < directory->count; at++)
		if (directory->children[at].covered)
			return false;
	return true;
}

/*
 * Return 1 if the digest of the directory above covers @directory, 0 if it is one that
 * a runtime made and holds nothing, or an error.
 */
static int tree_is_covered(const struct testbed_directory *directory, const struct path *path)
{
	if (!directory->made || !is_empty(directory))
		return 1;
	return testbed_has_xattrs(path);
}

/* All children of the deepest directory are known: digest it, and go up. */
static int tree_finish(struct testbed_walk *walk, const struct path *root, struct testbed_directory *stack,
		       u32 depth, u8 *digest)
{
	struct path path = { .mnt = root->mnt, .dentry = stack[depth].dentry };
	struct testbed_directory *above = depth ? &stack[depth - 1] : NULL;
	struct testbed_child *self = above ? &above->children[above->next] : NULL;
	u8 content[TESTBED_SHA256_SIZE];
	int err;

	err = hash_directory(&stack[depth], content);
	if (!err)
		err = testbed_node_digest(walk, &path, !depth, content,
					  self ? self->digest : digest);
	if (err)
		return err;
	if (self) {
		err = tree_is_covered(&stack[depth], &path);
		if (err < 0)
			return err;
		self->covered = err;
	}
	if (!self || self->covered)
		walk->files++;
	testbed_leave_directory(&stack[depth]);
	if (above)
		above->next++;
	return 0;
}

/* Go down into the directory at @path, the next child of the deepest one. */
static int tree_enter(struct testbed_walk *walk, struct testbed_directory *stack, u32 *depth,
		      const struct path *path)
{
	const struct testbed_directory *above = &stack[*depth];
	const struct testbed_child *self = &above->children[above->next];

	if (*depth + 1 >= walk->limits.depth)
		return testbed_end_walk(walk, TESTBED_OUTCOME_DEPTH);
	stack[++*depth] = (struct testbed_directory){
		.dentry = dget(path->dentry),
		.place = testbed_place_of(above, self),
		.made = testbed_is_made_directory(above, self),
	};
	return testbed_read_names(walk, &stack[*depth], path);
}

/* Digest the file at @path, which is no directory and the next child of @directory. */
static int digest_child(struct testbed_walk *walk, struct testbed_directory *directory,
			const struct path *path)
{
	struct testbed_child *child = &directory->children[directory->next];
	u8 content[TESTBED_SHA256_SIZE];
	int err = testbed_is_left_out(directory, child, path);

	if (err < 0)
		return err;
	child->covered = !err;
	if (child->covered) {
		err = testbed_content_digest(walk, path, content);
		if (!err)
			err = testbed_node_digest(walk, path, false, content, child->digest);
		if (err)
			return err;
		walk->files++;
	}
	directory->next++;
	return 0;
}

/* Look at the next child: digest a file, go down into a directory. */
static int tree_step(struct testbed_walk *walk, const struct path *root, struct testbed_directory *stack,
		u32 *depth)
{
	struct testbed_directory *directory = &stack[*depth];
	struct testbed_child *child = &directory->children[directory->next];
	struct path path = { .mnt = root->mnt };
	int err;

	path.dentry = testbed_lookup(root->mnt, directory->names + child->name, child->length,
				     directory->dentry);
	if (IS_ERR(path.dentry))
		return PTR_ERR(path.dentry);
	/* Below an overlay: the file system that has the bytes. */
	if (!testbed_binds_content(d_real_inode(path.dentry)))
		err = -EOPNOTSUPP;
	else if (d_is_dir(path.dentry))
		err = tree_enter(walk, stack, depth, &path);
	else
		err = digest_child(walk, directory, &path);
	dput(path.dentry);
	return err;
}

static int tree_walk(struct testbed_walk *walk, const struct path *root, struct testbed_directory *stack,
		    u8 *digest)
{
	u32 depth = 0;
	int err;

	stack[0] = (struct testbed_directory){ .dentry = dget(root->dentry), .place = TESTBED_PLACE_ROOT };
	err = testbed_read_names(walk, &stack[0], root);
	while (!err) {
		if (stack[depth].next < stack[depth].count) {
			err = tree_step(walk, root, stack, &depth);
		} else {
			err = tree_finish(walk, root, stack, depth, digest);
			if (!err && !depth--)
				return 0;
		}
		if (fatal_signal_pending(current))
			err = testbed_end_walk(walk, TESTBED_OUTCOME_KILLED);
		cond_resched();
	}
	for (u32 level = 0; level <= depth; level++)
		testbed_leave_directory(&stack[level]);
	return err;
}

static enum testbed_outcome tree_outcome(const struct testbed_walk *walk, int err)
{
	if (!err)
		return TESTBED_OUTCOME_COMPLETE;
	if (walk->outcome)
		return walk->outcome;
	/* A file system gives up what it waits for when the task is killed. */
	if (fatal_signal_pending(current))
		return TESTBED_OUTCOME_KILLED;
	return err == -ENOMEM ? TESTBED_OUTCOME_MEMORY : TESTBED_OUTCOME_UNREADABLE;
}

/*
 * Do all file systems of which @sb is made bind what they hold? Below an overlay each
 * regular file is asked for its own (step()), but names and links come from a directory
 * of some layer, and the kernel does not say which. Overlays lie on each other at
 * most FILESYSTEM_MAX_STACK_DEPTH times. @sb is in use, and so are its layers.
 */
static bool binds_layers(const struct super_block *sb)
{
	const struct testbed_layers_layout *layout = &testbed_layout()->layers;
	const u8 *overlay = sb->s_fs_info, *list;

	if (sb->s_magic != OVERLAYFS_SUPER_MAGIC)
		return testbed_binds_content(d_inode(sb->s_root));
	if (!layout->known)
		return false;
	list = *(const u8 *const *)(overlay + layout->list);
	for (u32 at = 0; at < *(const u32 *)(overlay + layout->count); at++) {
		const u8 *one = list + at * layout->size;
		const struct super_block *layer =
			*(const struct super_block *const *)(one + layout->sb);

		/* The first is the upper layer's, which need not be there. */
		if (layer && !binds_layers(layer))
			return false;
	}
	return true;
}

static int digest_root(struct testbed_walk *walk, const struct path *root, u8 *digest)
{
	struct testbed_directory *stack;
	int err;

	/* Nor is it asked for names and attributes: to read some of these has effects. */
	if (!binds_layers(root->mnt->mnt_sb))
		return -EOPNOTSUPP;
	err = testbed_xattrs_digest(walk, root, walk->root_xattrs);
	if (err)
		return err;
	stack = kvcalloc(walk->limits.depth, sizeof(*stack), GFP_KERNEL_ACCOUNT);
	if (!stack)
		return -ENOMEM;
	err = tree_walk(walk, root, stack, digest);
	kvfree(stack);
	return err;
}

enum testbed_outcome testbed_walk_tree(struct testbed_walk *walk, const struct path *root,
				       u8 digest[TESTBED_SHA256_SIZE])
{
	struct {
		__le32 magic;
		__le16 version;
		u8 node[TESTBED_SHA256_SIZE];
	} __packed last = {
		.magic = cpu_to_le32(TREE_MAGIC),
		.version = cpu_to_le16(TESTBED_TREE_VERSION),
	};
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	int err;

	might_sleep();
	err = digest_root(walk, root, last.node);
	desc->tfm = testbed_sha256();
	if (!err)
		err = crypto_shash_digest(desc, (u8 *)&last, sizeof(last), digest);
	if (err)
		memset(digest, 0, TESTBED_SHA256_SIZE);
	return tree_outcome(walk, err);
}
