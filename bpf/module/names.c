// SPDX-License-Identifier: GPL-2.0
/* The names of a directory, sorted, and which of them a runtime makes (docs/formats.md, "What is left out"). */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/namei.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "module.h"
#include "tree.h"

/* Of one directory, in bytes: no file system for disks has so many. */
#define MAX_NAMES (256u << 20)

/* ---- names of a directory ---- */

struct reader {
	struct dir_context ctx;
	struct testbed_walk *walk;
	struct testbed_directory *directory;
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

static int add_name(struct testbed_walk *walk, struct testbed_directory *directory, const char *name,
		    u32 length)
{
	struct testbed_child *children;
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
	children[directory->count++] = (struct testbed_child){
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
static int compare_children(const struct testbed_directory *directory, u32 a, u32 b)
{
	const struct testbed_child *left = &directory->children[a], *right = &directory->children[b];
	int order = memcmp(directory->names + left->name, directory->names + right->name,
			   min(left->length, right->length));

	return order ? order : (int)left->length - (int)right->length;
}

/* Move the child at @at down until the first @count of @directory are a heap below it. */
static void sift_down(struct testbed_directory *directory, u32 at, u32 count)
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
static void sort_children(struct testbed_directory *directory)
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

int testbed_read_names(struct testbed_walk *walk, struct testbed_directory *directory,
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

static bool is_named(const struct testbed_directory *directory, const struct testbed_child *child,
		     const char *name)
{
	return child->length == strlen(name) &&
	       !memcmp(directory->names + child->name, name, child->length);
}

/* Does a runtime make an empty file of this name where an image has none? */
bool testbed_is_made_file(const struct testbed_directory *directory, const struct testbed_child *child)
{
	switch (directory->place) {
	case TESTBED_PLACE_ROOT:
		return is_named(directory, child, ".dockerenv");
	case TESTBED_PLACE_DEV:
		return is_named(directory, child, "console");
	case TESTBED_PLACE_ETC:
		return is_named(directory, child, "hosts") ||
		       is_named(directory, child, "hostname") ||
		       is_named(directory, child, "resolv.conf") ||
		       is_named(directory, child, "mtab");
	case TESTBED_PLACE_RUN:
		return is_named(directory, child, ".containerenv");
	default:
		return false;
	}
}

bool testbed_is_made_directory(const struct testbed_directory *above, const struct testbed_child *child)
{
	switch (above->place) {
	case TESTBED_PLACE_ROOT:
		return is_named(above, child, "dev") || is_named(above, child, "proc") ||
		       is_named(above, child, "sys") || is_named(above, child, "etc") ||
		       is_named(above, child, "run");
	case TESTBED_PLACE_DEV:
		return is_named(above, child, "pts") || is_named(above, child, "shm");
	default:
		return false;
	}
}

/*
 * Is this file, which is no directory, one that a runtime made, and does it hold
 * nothing? Return 1 if so, 0 if not, or an error. May sleep.
 */
int testbed_is_left_out(const struct testbed_directory *directory, const struct testbed_child *child,
		       const struct path *path)
{
	umode_t mode = d_inode(path->dentry)->i_mode;
	int nothing = 0, err;

	if (S_ISREG(mode))
		nothing = testbed_is_made_file(directory, child) &&
			  !i_size_read(d_real_inode(path->dentry));
	else if (S_ISLNK(mode) && directory->place == TESTBED_PLACE_ETC &&
		 is_named(directory, child, "mtab"))
		nothing = testbed_leads_to_mounts(path->dentry);
	if (nothing <= 0)
		return nothing;
	err = testbed_has_xattrs(path);
	return err < 0 ? err : !err;
}

enum testbed_place testbed_place_of(const struct testbed_directory *above, const struct testbed_child *child)
{
	if (above->place != TESTBED_PLACE_ROOT)
		return TESTBED_PLACE_ELSEWHERE;
	if (is_named(above, child, "dev"))
		return TESTBED_PLACE_DEV;
	if (is_named(above, child, "etc"))
		return TESTBED_PLACE_ETC;
	return is_named(above, child, "run") ? TESTBED_PLACE_RUN : TESTBED_PLACE_ELSEWHERE;
}

void testbed_leave_directory(struct testbed_directory *directory)
{
	dput(directory->dentry);
	kvfree(directory->children);
	kvfree(directory->names);
	memset(directory, 0, sizeof(*directory));
}
