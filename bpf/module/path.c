// SPDX-License-Identifier: GPL-2.0
/* The path of a file, as its container sees it. */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

#define DELETED_SUFFIX " (deleted)"
/* No path has more parts: each takes two bytes at least. */
#define MAX_PARTS (PATH_MAX / 2)

/*
 * Does the file have a place in the tree of directories? Not so memfd, SysV shared
 * memory, hugetlb: these give their own name, some of them on a mount for users.
 */
static bool path_is_anon(const struct path *path)
{
	const struct dentry_operations *ops = path->dentry->d_op;

	return (path->mnt->mnt_sb->s_flags & SB_NOUSER) || (ops && ops->d_dname);
}

/* As d_path() for the current task's root. Return the length in @buf, or an error. Does not sleep. */
static int path_from_own_root(const struct path *path, char *buf, bool *unlinked)
{
	size_t len;
	char *name;

	/* Unlinked meanwhile, it may have the suffix, or a name that ends like it. */
	do {
		*unlinked = d_unlinked(path->dentry);
		name = d_path(path, buf, PATH_MAX);
	} while (*unlinked != d_unlinked(path->dentry));
	if (IS_ERR(name))
		return PTR_ERR(name);
	len = strlen(name);
	if (*unlinked) {
		const size_t suffix = sizeof(DELETED_SUFFIX) - 1;

		if (len >= suffix && !strcmp(name + len - suffix, DELETED_SUFFIX))
			len -= suffix;
	}
	memmove(buf, name, len);
	return len;
}

/* Put @part and the slash before it in front of what begins at @at. Return where it begins then. */
static int path_prepend(char *buf, int at, const struct qstr *part)
{
	if (at < 0 || part->len + 1 > at)
		return -ENAMETOOLONG;
	at -= part->len;
	memcpy(buf + at, part->name, part->len);
	buf[--at] = '/';
	return at;
}

/*
 * The path from @root, which is another task's: d_path() would speak from the root
 * of the current task. One part at a time, from the file up, with a reference to
 * each. Return the length in @buf, or an error. May sleep.
 */
static int path_from_root(const struct path *path, const struct path *root, char *buf,
			  bool *unlinked)
{
	struct path at = *path;
	int begin = PATH_MAX, parts = 0;

	might_sleep();
	*unlinked = d_unlinked(path->dentry);
	path_get(&at);
	while (begin >= 0 && !path_equal(&at, root) && parts++ < MAX_PARTS) {
		struct name_snapshot name;
		struct dentry *parent;

		if (at.dentry == at.mnt->mnt_root) {
			/* The end of what is mounted, and not below @root. */
			if (!follow_up(&at)) {
				*unlinked = true;
				break;
			}
			continue;
		}
		take_dentry_name_snapshot(&name, at.dentry);
		begin = path_prepend(buf, begin, &name.name);
		release_dentry_name_snapshot(&name);
		parent = dget_parent(at.dentry);
		dput(at.dentry);
		at.dentry = parent;
	}
	path_put(&at);
	if (begin < 0)
		return begin;
	if (begin == PATH_MAX)
		buf[--begin] = '/';
	memmove(buf, buf + begin, PATH_MAX - begin);
	return PATH_MAX - begin;
}

u32 testbed_fill_path(struct file *file, const struct path *root, char *buf, u32 *flags)
{
	const struct path *path = testbed_user_path(file);
	bool unlinked;
	int len;

	if (path_is_anon(path)) {
		*flags |= TESTBED_FILE_ANON;
		root = NULL;
	}
	len = root ? path_from_root(path, root, buf, &unlinked) :
		     path_from_own_root(path, buf, &unlinked);
	/* Nor does a name lead there if its mount has gone, or its descriptor came from another tree. */
	if (unlinked ||
	    (!(*flags & TESTBED_FILE_ANON) && !root && !testbed_under_own_root(path)))
		*flags |= TESTBED_FILE_UNLINKED;
	if (len < 0) {
		*flags |= TESTBED_FILE_NO_PATH;
		return 0;
	}
	return len;
}
