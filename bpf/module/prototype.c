// SPDX-License-Identifier: GPL-2.0
/*
 * The two rules of the public prototypes, as docs/semantics.md tells them. Nothing of
 * the measurer uses this file.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

/* What the prototypes hash: as many bytes as a pointer has. */
#define PROTOTYPE_POINTER 8
/* "4294967295:" */
#define PROTOTYPE_DIGITS 11

/*
 * Log one line of a prototype: @data is what it hashes. Under a rule with
 * template=ima-ng the entry's digest is the hash of @data and its name is @name,
 * bit for bit as in the prototypes' own logs.
 */
static enum testbed_counter prototype_log_line(const char *name, const void *data)
{
	return testbed_log_entry(name, data, PROTOTYPE_POINTER, TESTBED_COUNT_LINES);
}

static int prototype_error(int err)
{
	return err == -ENOMEM ? TESTBED_COUNT_NO_MEMORY : TESTBED_COUNT_READ_ERROR;
}

__bpf_kfunc_start_defs();

/*
 * The rule of container-ima (commit 1429fd0): the namespace's number is appended
 * to the binary digest by a string function, so behind its first zero byte, and
 * as many bytes as a pointer has are hashed. Nothing of a file whose path does
 * not begin with a slash.
 */
__bpf_kfunc int testbed_prototype_file(struct file *file, u32 utsns)
{
	u8 digest[TESTBED_SHA256_SIZE], data[PROTOTYPE_POINTER];
	size_t kept, taken = PROTOTYPE_DIGITS + 1;
	char *name, *path;
	int len, result;
	u64 bytes = 0;

	if (!file)
		return TESTBED_COUNT_NOT_REGULAR;
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
		result = prototype_error(result);
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
	result = prototype_log_line(name, data);
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
	static const u8 nothing[PROTOTYPE_POINTER];
	char name[PROTOTYPE_DIGITS + 1];
	struct path root;
	bool overlay;

	get_fs_root(current->fs, &root);
	overlay = root.mnt->mnt_sb->s_magic == OVERLAYFS_SUPER_MAGIC;
	path_put(&root);
	if (!overlay)
		return TESTBED_COUNT_NOT_OVERLAY;
	snprintf(name, sizeof(name), "%u", utsns);
	return prototype_log_line(name, nothing);
}

__bpf_kfunc_end_defs();
