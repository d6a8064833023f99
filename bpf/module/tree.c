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
#include <linux/sort.h>

#include "compat.h"
#include "module.h"
#include "tree.h"

/* Of one directory, in bytes: no file system for disks has so many. */
#define MAX_NAMES (256u << 20)
#define TREE_MAGIC 0x44494254u /* "TBID" */

/* Directories in which some names are left out. */
enum place { PLACE_ELSEWHERE, PLACE_ROOT, PLACE_ETC, PLACE_RUN };

struct child {
	u32 name; /* where it begins among the names */
	u32 length;
	u8 digest[TESTBED_SHA256_SIZE];
	bool covered;
};

struct directory {
	struct dentry *dentry;
	enum place place;
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
static void *grow(void *old, u32 used, u32 more, u32 *room, size_t size)
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

static int add_name(struct directory *directory, const char *name, u32 length)
{
	struct child *children;
	char *names;

	if (directory->names_len > MAX_NAMES)
		return -E2BIG;
	children = grow(directory->children, directory->count, 1, &directory->room,
			sizeof(*children));
	if (!children)
		return -ENOMEM;
	directory->children = children;
	names = grow(directory->names, directory->names_len, length, &directory->names_room, 1);
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

	reader->emitted++;
	if (++reader->walk->seen > reader->walk->limits.files)
		reader->err = -E2BIG;
	else if (fatal_signal_pending(current))
		reader->err = -EINTR;
	else if (!is_dots(name, length))
		reader->err = add_name(reader->directory, name, length);
	return !reader->err;
}

/* By raw bytes; a shorter name before a longer one that begins with it. */
static int compare_children(const void *a, const void *b, const void *names)
{
	const struct child *left = a, *right = b;
	int order = memcmp((const char *)names + left->name, (const char *)names + right->name,
			   min(left->length, right->length));

	return order ? order : (int)left->length - (int)right->length;
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
	testbed_fput(file);
	if (reader.err)
		return reader.err;
	if (!err && directory->count)
		sort_r(directory->children, directory->count, sizeof(*directory->children),
		       compare_children, NULL, directory->names);
	return err;
}

/* ---- what is left out ---- */

static bool is_named(const struct directory *directory, const struct child *child,
		     const char *name)
{
	return child->length == strlen(name) &&
	       !memcmp(directory->names + child->name, name, child->length);
}

static bool is_left_out(const struct directory *directory, const struct child *child, umode_t mode)
{
	switch (directory->place) {
	case PLACE_ROOT:
		if (S_ISDIR(mode))
			return is_named(directory, child, "dev") ||
			       is_named(directory, child, "proc") ||
			       is_named(directory, child, "sys");
		return S_ISREG(mode) && is_named(directory, child, ".dockerenv");
	case PLACE_ETC:
		if (S_ISLNK(mode))
			return is_named(directory, child, "mtab");
		return S_ISREG(mode) && (is_named(directory, child, "hosts") ||
					 is_named(directory, child, "hostname") ||
					 is_named(directory, child, "resolv.conf") ||
					 is_named(directory, child, "mtab"));
	case PLACE_RUN:
		return S_ISREG(mode) && is_named(directory, child, ".containerenv");
	default:
		return false;
	}
}

static enum place place_of(const struct directory *above, const struct child *child)
{
	if (above->place != PLACE_ROOT)
		return PLACE_ELSEWHERE;
	if (is_named(above, child, "etc"))
		return PLACE_ETC;
	return is_named(above, child, "run") ? PLACE_RUN : PLACE_ELSEWHERE;
}

/* ---- mounts ---- */

static void add_bytes(u8 **at, const void *data, size_t size)
{
	memcpy(*at, data, size);
	*at += size;
}

static void add_number(u8 **at, u32 number)
{
	__le32 bytes = cpu_to_le32(number);

	add_bytes(at, &bytes, sizeof(bytes));
}

/* List the mount that covers the child at which each directory of @stack looks. */
static void list_mount(struct testbed_walk *walk, struct directory *stack, u32 depth,
		       const struct vfsmount *mount)
{
	const char *type = mount->mnt_sb->s_type->name;
	size_t length = 0, type_len = strlen(type);
	u8 *at = walk->mount_list + walk->mounts_len;

	for (u32 level = 0; level <= depth; level++)
		length += 1 + stack[level].children[stack[level].next].length;
	if (walk->mounts_len + 12 + length + type_len > TESTBED_MOUNTS_MAX) {
		walk->mounts_cut = true;
		return;
	}
	add_number(&at, mount->mnt_flags & TESTBED_MOUNT_FLAGS);
	add_number(&at, length);
	add_number(&at, type_len);
	for (u32 level = 0; level <= depth; level++) {
		struct child *child = &stack[level].children[stack[level].next];

		add_bytes(&at, "/", 1);
		add_bytes(&at, stack[level].names + child->name, child->length);
	}
	add_bytes(&at, type, type_len);
	walk->mounts++;
	walk->mounts_len = at - walk->mount_list;
}

/* List what is mounted on @path here, not in another namespace. The topmost is what is seen. */
static void look_for_mount(struct testbed_walk *walk, struct directory *stack, u32 depth,
			   const struct path *path)
{
	struct path top = *path;

	if (!d_mountpoint(path->dentry))
		return;
	path_get(&top);
	while (follow_down_one(&top))
		;
	if (top.mnt != path->mnt)
		list_mount(walk, stack, depth, top.mnt);
	path_put(&top);
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

static void leave(struct directory *directory)
{
	dput(directory->dentry);
	kvfree(directory->children);
	kvfree(directory->names);
	memset(directory, 0, sizeof(*directory));
}

/* All children of the deepest directory are known: digest it, and go up. */
static int finish(struct testbed_walk *walk, const struct path *root, struct directory *stack,
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
	/* A runtime makes these where the image has none. */
	if (self)
		self->covered = stack[depth].place == PLACE_ELSEWHERE || !is_empty(&stack[depth]);
	if (!self || self->covered)
		walk->files++;
	leave(&stack[depth]);
	if (above)
		above->next++;
	return 0;
}

/* Look at the next child: digest a file, go down into a directory. */
static int step(struct testbed_walk *walk, const struct path *root, struct directory *stack,
		u32 *depth)
{
	struct directory *directory = &stack[*depth];
	struct child *child = &directory->children[directory->next];
	struct path path = { .mnt = root->mnt };
	u8 content[TESTBED_SHA256_SIZE];
	umode_t mode;
	int err = 0;

	path.dentry = testbed_lookup(root->mnt, directory->names + child->name, child->length,
				     directory->dentry);
	if (IS_ERR(path.dentry))
		return PTR_ERR(path.dentry);
	look_for_mount(walk, stack, *depth, &path);
	mode = d_inode(path.dentry)->i_mode;
	if (is_left_out(directory, child, mode)) {
		directory->next++;
	} else if (S_ISDIR(mode)) {
		if (*depth + 1 >= walk->limits.depth) {
			err = -ELOOP;
			goto out;
		}
		stack[++*depth] = (struct directory){
			.dentry = dget(path.dentry),
			.place = place_of(directory, child),
		};
		err = read_names(walk, &stack[*depth], &path);
	} else {
		err = testbed_content_digest(walk, &path, content);
		if (!err)
			err = testbed_node_digest(walk, &path, false, content, child->digest);
		child->covered = true;
		walk->files++;
		directory->next++;
	}
out:
	dput(path.dentry);
	return err;
}

static int walk_all(struct testbed_walk *walk, const struct path *root, struct directory *stack,
		    u8 *digest)
{
	u32 depth = 0;
	int err;

	stack[0] = (struct directory){ .dentry = dget(root->dentry), .place = PLACE_ROOT };
	err = read_names(walk, &stack[0], root);
	while (!err) {
		if (stack[depth].next < stack[depth].count) {
			err = step(walk, root, stack, &depth);
		} else {
			err = finish(walk, root, stack, depth, digest);
			if (!err && !depth--)
				return 0;
		}
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	for (u32 level = 0; level <= depth; level++)
		leave(&stack[level]);
	return err;
}

static enum testbed_outcome outcome_of(int err)
{
	switch (err) {
	case 0:
		return TESTBED_OUTCOME_COMPLETE;
	case -E2BIG:
		return TESTBED_OUTCOME_FILES;
	case -ELOOP:
		return TESTBED_OUTCOME_DEPTH;
	case -EFBIG:
		return TESTBED_OUTCOME_BYTES;
	case -EINTR:
		return TESTBED_OUTCOME_KILLED;
	case -ENOMEM:
		return TESTBED_OUTCOME_MEMORY;
	default:
		return TESTBED_OUTCOME_UNREADABLE;
	}
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
	struct directory *stack;
	int err = -ENOMEM;

	/* proc and sysfs are no images, and to read their files has effects. */
	if (root->mnt->mnt_sb->s_magic == PROC_SUPER_MAGIC ||
	    root->mnt->mnt_sb->s_magic == SYSFS_MAGIC)
		return TESTBED_OUTCOME_UNREADABLE;
	stack = kvcalloc(walk->limits.depth, sizeof(*stack), GFP_KERNEL_ACCOUNT);
	if (stack)
		err = walk_all(walk, root, stack, last.node);
	kvfree(stack);
	desc->tfm = testbed_sha256();
	if (!err)
		err = crypto_shash_digest(desc, (u8 *)&last, sizeof(last), digest);
	if (err)
		memset(digest, 0, TESTBED_SHA256_SIZE);
	return outcome_of(err);
}
