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

/* Of one directory, in bytes: no file system for disks has so many. */
#define MAX_NAMES (256u << 20)
#define TREE_MAGIC 0x44494254u /* "TBID" */

/* Directories in which runtimes make files. */
enum place { PLACE_ELSEWHERE, PLACE_ROOT, PLACE_DEV, PLACE_ETC, PLACE_RUN };

struct child {
	u32 name; /* where it begins among the names */
	u32 length;
	u8 digest[TESTBED_SHA256_SIZE];
	bool covered;
};

struct directory {
	struct dentry *dentry;
	enum place place;
	bool made; /* a runtime makes it where an image has none */
	struct child *children;
	u32 count, room;
	char *names;
	u32 names_len, names_room;
	u32 next; /* the child to look at */
};

/* ---- names of a directory ---- */

struct reader {
	struct dir_context ctx;
	struct testbed_walk *walk;
	struct directory *directory;
	u32 emitted;
	int err;
};

static bool is_dots(const char *name, int length)
{
	return name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'));
}

/* Make room for one more of @size bytes, doubling. */
static void *tree_grow(void *old, u32 used, u32 more, u32 *room, size_t size)
{
	size_t wanted = max_t(size_t, *room * 2ul, used + more);
	void *fresh;

	if (old && used + more <= *room)
		return old;
	wanted = max_t(size_t, wanted, 16);
	fresh = kvmalloc_array(wanted, size, GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return NULL;
	if (old)
		memcpy(fresh, old, used * size);
	kvfree(old);
	*room = wanted;
	return fresh;
}

static int add_name(struct testbed_walk *walk, struct directory *directory, const char *name,
		    u32 length)
{
	struct child *children;
	char *names;

	if (directory->names_len > MAX_NAMES)
		return testbed_end_walk(walk, TESTBED_OUTCOME_FILES);
	children = tree_grow(directory->children, directory->count, 1, &directory->room,
			     sizeof(*children));
	if (!children)
		return -ENOMEM;
	directory->children = children;
	names = tree_grow(directory->names, directory->names_len, length, &directory->names_room,
			  1);
	if (!names)
		return -ENOMEM;
	directory->names = names;
	memcpy(names + directory->names_len, name, length);
	children[directory->count++] = (struct child){
		.name = directory->names_len,
		.length = length,
	};
	directory->names_len += length;
	return 0;
}

static bool take_name(struct dir_context *ctx, const char *name, int length, loff_t offset,
		      u64 ino, unsigned int type)
{
	struct reader *reader = container_of(ctx, struct reader, ctx);
	struct testbed_walk *walk = reader->walk;

	reader->emitted++;
	if (++walk->seen > walk->limits.files)
		reader->err = testbed_end_walk(walk, TESTBED_OUTCOME_FILES);
	else if (fatal_signal_pending(current))
		reader->err = testbed_end_walk(walk, TESTBED_OUTCOME_KILLED);
	else if (!is_dots(name, length))
		reader->err = add_name(walk, reader->directory, name, length);
	/* iterate_dir() holds the directory's lock, which is one that may sleep. */
	cond_resched();
	return !reader->err;
}

/* By raw bytes; a shorter name before a longer one that begins with it. */
static int compare_children(const struct directory *directory, u32 a, u32 b)
{
	const struct child *left = &directory->children[a], *right = &directory->children[b];
	int order = memcmp(directory->names + left->name, directory->names + right->name,
			   min(left->length, right->length));

	return order ? order : (int)left->length - (int)right->length;
}

/* Move the child at @at down until the first @count of @directory are a heap below it. */
static void sift_down(struct directory *directory, u32 at, u32 count)
{
	u32 largest;

	while ((largest = 2 * at + 1) < count) {
		if (largest + 1 < count && compare_children(directory, largest, largest + 1) < 0)
			largest++;
		if (compare_children(directory, at, largest) >= 0)
			break;
		swap(directory->children[at], directory->children[largest]);
		at = largest;
	}
}

/*
 * A heapsort of our own: a directory may have a million names, and sort_r() lets no
 * other task run until it has ended (sort_r_nonatomic() came in 6.13).
 */
static void sort_children(struct directory *directory)
{
	for (u32 at = directory->count / 2; at--;) {
		sift_down(directory, at, directory->count);
		cond_resched();
	}
	for (u32 end = directory->count; end-- > 1;) {
		swap(directory->children[0], directory->children[end]);
		sift_down(directory, 0, end);
		cond_resched();
	}
}

static int read_names(struct testbed_walk *walk, struct directory *directory,
		      const struct path *path)
{
	struct reader reader = { .ctx.actor = take_name, .walk = walk, .directory = directory };
	struct file *file;
	int err;

	file = dentry_open(path, O_RDONLY | O_DIRECTORY | O_LARGEFILE | O_NOATIME, current_cred());
	if (IS_ERR(file))
		return PTR_ERR(file);
	/* One call may give a part only (FUSE): a directory has ended when it gives nothing. */
	do {
		reader.emitted = 0;
		err = iterate_dir(file, &reader.ctx);
	} while (!err && !reader.err && reader.emitted);
	testbed_fput(file, &walk->closed);
	if (reader.err)
		return reader.err;
	if (!err)
		sort_children(directory);
	return err;
}

/* ---- what is left out ---- */

static bool is_named(const struct directory *directory, const struct child *child,
		     const char *name)
{
	return child->length == strlen(name) &&
	       !memcmp(directory->names + child->name, name, child->length);
}

/* Does a runtime make an empty file of this name where an image has none? */
static bool is_made_file(const struct directory *directory, const struct child *child)
{
	switch (directory->place) {
	case PLACE_ROOT:
		return is_named(directory, child, ".dockerenv");
	case PLACE_DEV:
		return is_named(directory, child, "console");
	case PLACE_ETC:
		return is_named(directory, child, "hosts") ||
		       is_named(directory, child, "hostname") ||
		       is_named(directory, child, "resolv.conf") ||
		       is_named(directory, child, "mtab");
	case PLACE_RUN:
		return is_named(directory, child, ".containerenv");
	default:
		return false;
	}
}

static bool is_made_directory(const struct directory *above, const struct child *child)
{
	switch (above->place) {
	case PLACE_ROOT:
		return is_named(above, child, "dev") || is_named(above, child, "proc") ||
		       is_named(above, child, "sys") || is_named(above, child, "etc") ||
		       is_named(above, child, "run");
	case PLACE_DEV:
		return is_named(above, child, "pts") || is_named(above, child, "shm");
	default:
		return false;
	}
}

/*
 * Is this file, which is no directory, one that a runtime made, and does it hold
 * nothing? Return 1 if so, 0 if not, or an error. May sleep.
 */
static int is_left_out(const struct directory *directory, const struct child *child,
		       const struct path *path)
{
	umode_t mode = d_inode(path->dentry)->i_mode;
	int nothing = 0, err;

	if (S_ISREG(mode))
		nothing = is_made_file(directory, child) &&
			  !i_size_read(d_real_inode(path->dentry));
	else if (S_ISLNK(mode) && directory->place == PLACE_ETC &&
		 is_named(directory, child, "mtab"))
		nothing = testbed_leads_to_mounts(path->dentry);
	if (nothing <= 0)
		return nothing;
	err = testbed_has_xattrs(path);
	return err < 0 ? err : !err;
}

static enum place place_of(const struct directory *above, const struct child *child)
{
	if (above->place != PLACE_ROOT)
		return PLACE_ELSEWHERE;
	if (is_named(above, child, "dev"))
		return PLACE_DEV;
	if (is_named(above, child, "etc"))
		return PLACE_ETC;
	return is_named(above, child, "run") ? PLACE_RUN : PLACE_ELSEWHERE;
}

/* ---- the walk ---- */

static int hash_directory(const struct directory *directory, u8 *content)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	int err;

	desc->tfm = testbed_sha256();
	err = crypto_shash_init(desc);
	for (u32 at = 0; !err && at < directory->count; at++) {
		const struct child *child = &directory->children[at];
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

static bool is_empty(const struct directory *directory)
{
	for (u32 at = 0; at < directory->count; at++)
		if (directory->children[at].covered)
			return false;
	return true;
}

static void tree_leave(struct directory *directory)
{
	dput(directory->dentry);
	kvfree(directory->children);
	kvfree(directory->names);
	memset(directory, 0, sizeof(*directory));
}

/*
 * Return 1 if the digest of the directory above covers @directory, 0 if it is one that
 * a runtime made and holds nothing, or an error.
 */
static int tree_is_covered(const struct directory *directory, const struct path *path)
{
	if (!directory->made || !is_empty(directory))
		return 1;
	return testbed_has_xattrs(path);
}

/* All children of the deepest directory are known: digest it, and go up. */
static int tree_finish(struct testbed_walk *walk, const struct path *root, struct directory *stack,
		       u32 depth, u8 *digest)
{
	struct path path = { .mnt = root->mnt, .dentry = stack[depth].dentry };
	struct directory *above = depth ? &stack[depth - 1] : NULL;
	struct child *self = above ? &above->children[above->next] : NULL;
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
	tree_leave(&stack[depth]);
	if (above)
		above->next++;
	return 0;
}

/* Go down into the directory at @path, the next child of the deepest one. */
static int tree_enter(struct testbed_walk *walk, struct directory *stack, u32 *depth,
		      const struct path *path)
{
	const struct directory *above = &stack[*depth];
	const struct child *self = &above->children[above->next];

	if (*depth + 1 >= walk->limits.depth)
		return testbed_end_walk(walk, TESTBED_OUTCOME_DEPTH);
	stack[++*depth] = (struct directory){
		.dentry = dget(path->dentry),
		.place = place_of(above, self),
		.made = is_made_directory(above, self),
	};
	return read_names(walk, &stack[*depth], path);
}

/* Digest the file at @path, which is no directory and the next child of @directory. */
static int digest_child(struct testbed_walk *walk, struct directory *directory,
			const struct path *path)
{
	struct child *child = &directory->children[directory->next];
	u8 content[TESTBED_SHA256_SIZE];
	int err = is_left_out(directory, child, path);

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
static int tree_step(struct testbed_walk *walk, const struct path *root, struct directory *stack,
		u32 *depth)
{
	struct directory *directory = &stack[*depth];
	struct child *child = &directory->children[directory->next];
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

static int tree_walk(struct testbed_walk *walk, const struct path *root, struct directory *stack,
		    u8 *digest)
{
	u32 depth = 0;
	int err;

	stack[0] = (struct directory){ .dentry = dget(root->dentry), .place = PLACE_ROOT };
	err = read_names(walk, &stack[0], root);
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
		tree_leave(&stack[level]);
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
	struct directory *stack;
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
