// SPDX-License-Identifier: GPL-2.0
/*
 * The digest of one file of an image (docs/formats.md, "Node digest" and "Content
 * digest"). A directory's children are digested first, by tree.c.
 */
#include <crypto/hash.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/xattr.h>

#include "compat.h"
#include "module.h"
#include "tree.h"

#define NODE_MAGIC 0x54494254u /* "TBIT" */

struct node_header {
	__le32 magic;
	__le16 version;
	__le16 type;
	__le32 mode;
	__le32 uid;
	__le32 gid;
	__le64 rdev;
	__le32 xattrs;
} __packed;

static_assert(sizeof(struct node_header) == 32);

/* ---- extended attributes ---- */

/* The overlay's own and what the host puts there: docs/formats.md, "What is left out". */
static bool is_left_out(const char *name)
{
	return strstarts(name, "trusted.overlay.") ||
	       !strcmp(name, "security.selinux") || !strcmp(name, "security.ima") ||
	       !strcmp(name, "security.evm");
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/*
 * File capabilities that were set inside a user namespace name its root, as the
 * same attribute of the image does not: give them the form that the image has.
 */
static size_t unmap_capability(const struct testbed_walk *walk, const char *name, void *value,
			       size_t size)
{
	struct vfs_ns_cap_data *caps = value;
	kuid_t root;

	if (strcmp(name, XATTR_NAME_CAPS) || size != XATTR_CAPS_SZ_3)
		return size;
	root = make_kuid(&init_user_ns, le32_to_cpu(caps->rootid));
	if (!uid_eq(root, make_kuid(walk->userns, 0)))
		return size;
	caps->magic_etc = cpu_to_le32(VFS_CAP_REVISION_2 |
				      (le32_to_cpu(caps->magic_etc) & ~VFS_CAP_REVISION_MASK));
	return XATTR_CAPS_SZ_2;
}

static int add_sized(struct shash_desc *desc, const void *data, u32 size)
{
	__le32 length = cpu_to_le32(size);
	int err = crypto_shash_update(desc, (const u8 *)&length, sizeof(length));

	return err ? err : crypto_shash_update(desc, data, size);
}

static int add_xattr(const struct testbed_walk *walk, struct shash_desc *desc,
		     const struct path *path, const char *name)
{
	ssize_t size = testbed_getxattr(path, name, NULL, 0);
	void *value;
	int err;

	if (size < 0)
		return size;
	value = kvzalloc(size + 1, GFP_KERNEL_ACCOUNT);
	if (!value)
		return -ENOMEM;
	/* A size of 0 would ask for the length once more, and fill nothing. */
	size = testbed_getxattr(path, name, value, size + 1);
	err = size < 0 ? size : add_sized(desc, name, strlen(name));
	if (!err)
		err = add_sized(desc, value, unmap_capability(walk, name, value, size));
	kvfree(value);
	return err;
}

/* The names that count, sorted. */
struct xattr_names {
	char *list;
	const char **names;
	u32 count;
};

static void free_names(struct xattr_names *names)
{
	kvfree(names->names);
	kvfree(names->list);
}

/* Sort the names that count of the @size bytes of @names->list. */
static int sort_names(struct xattr_names *names, ssize_t size)
{
	/* A file system may give any list: a name may be a terminator alone. */
	names->names = kvmalloc_array(size, sizeof(*names->names), GFP_KERNEL_ACCOUNT);
	if (!names->names)
		return -ENOMEM;
	for (char *name = names->list; name < names->list + size; name += strlen(name) + 1)
		if (!is_left_out(name))
			names->names[names->count++] = name;
	sort(names->names, names->count, sizeof(*names->names), compare_names, NULL);
	return 0;
}

/* Fill @names for the file at @path. They are to be freed, also after an error. */
static int read_names(const struct path *path, struct xattr_names *names)
{
	ssize_t size = vfs_listxattr(path->dentry, NULL, 0);

	*names = (struct xattr_names){};
	if (size == -EOPNOTSUPP || !size)
		return 0;
	if (size < 0)
		return size;
	names->list = kvzalloc(size + 1, GFP_KERNEL_ACCOUNT);
	if (!names->list)
		return -ENOMEM;
	size = vfs_listxattr(path->dentry, names->list, size);
	if (size <= 0)
		return size;
	return sort_names(names, size);
}

static int add_xattrs(const struct testbed_walk *walk, struct shash_desc *desc,
		      const struct path *path, const struct xattr_names *names)
{
	int err = 0;

	for (u32 at = 0; !err && at < names->count; at++) {
		err = add_xattr(walk, desc, path, names->names[at]);
		cond_resched();
	}
	return err;
}

int testbed_has_xattrs(const struct path *path)
{
	struct xattr_names names;
	int err = read_names(path, &names);

	if (!err)
		err = !!names.count;
	free_names(&names);
	return err;
}

int testbed_xattrs_digest(const struct testbed_walk *walk, const struct path *path, u8 *digest)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	struct xattr_names names;
	int err = read_names(path, &names);

	desc->tfm = testbed_sha256();
	memset(digest, 0, TESTBED_SHA256_SIZE);
	if (!err && names.count) {
		err = crypto_shash_init(desc);
		if (!err)
			err = add_xattrs(walk, desc, path, &names);
		if (!err)
			err = crypto_shash_final(desc, digest);
	}
	free_names(&names);
	return err;
}

/* ---- nodes ---- */

static int begin_node(const struct testbed_walk *walk, struct shash_desc *desc,
		      const struct path *path, bool is_root, u32 xattrs)
{
	const struct inode *inode = d_inode(path->dentry);
	umode_t mode = inode->i_mode;
	struct node_header header = {
		.magic = cpu_to_le32(NODE_MAGIC),
		.version = cpu_to_le16(TESTBED_TREE_VERSION),
		.type = cpu_to_le16((mode & S_IFMT) >> 12),
		.mode = cpu_to_le32(mode & 07777),
		.uid = cpu_to_le32(testbed_owner(path, walk->userns)),
		.gid = cpu_to_le32(testbed_group(path, walk->userns)),
		.xattrs = cpu_to_le32(xattrs),
	};
	int err;

	/* Linux knows no mode of a link, archives do. */
	if (S_ISLNK(mode))
		header.mode = cpu_to_le32(0777);
	if (S_ISCHR(mode) || S_ISBLK(mode))
		header.rdev = cpu_to_le64((u64)MAJOR(inode->i_rdev) << 32 | MINOR(inode->i_rdev));
	/* The root's own are the storage driver's, unless a layer names it. */
	if (is_root) {
		header.mode = cpu_to_le32(0755);
		header.uid = 0;
		header.gid = 0;
	}
	err = crypto_shash_init(desc);
	return err ? err : crypto_shash_update(desc, (u8 *)&header, sizeof(header));
}

static int end_node(struct shash_desc *desc, const u8 *content, u8 *digest)
{
	int err = crypto_shash_update(desc, content, TESTBED_SHA256_SIZE);

	return err ? err : crypto_shash_final(desc, digest);
}

static int digest_start(const struct testbed_walk *walk, struct shash_desc *desc,
			const struct path *path, bool is_root)
{
	struct xattr_names names = {};
	int err = is_root ? 0 : read_names(path, &names);

	if (!err)
		err = begin_node(walk, desc, path, is_root, names.count);
	if (!err)
		err = add_xattrs(walk, desc, path, &names);
	free_names(&names);
	return err;
}

/* Fill @digest for the file at @path, whose content digest is @content. */
int testbed_node_digest(const struct testbed_walk *walk, const struct path *path, bool is_root,
			const u8 *content, u8 *digest)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	int err;

	desc->tfm = testbed_sha256();
	err = digest_start(walk, desc, path, is_root);
	return err ? err : end_node(desc, content, digest);
}

/* ---- contents ---- */

/* Return the target of a link, or an error. @done is to be called in either case. */
static const char *read_link(struct dentry *dentry, struct delayed_call *done)
{
	/* A magic link (proc) has no target, it jumps: only a path lookup may follow it. */
	if (d_inode(dentry)->i_op->readlink)
		return ERR_PTR(-EOPNOTSUPP);
	return vfs_get_link(dentry, done);
}

int testbed_leads_to_mounts(struct dentry *dentry)
{
	static const char *const targets[] = {
		"/proc/mounts", "/proc/self/mounts", "../proc/mounts", "../proc/self/mounts",
	};
	DEFINE_DELAYED_CALL(done);
	const char *target = read_link(dentry, &done);
	int found = 0;

	if (IS_ERR(target))
		found = PTR_ERR(target);
	else
		for (size_t at = 0; at < ARRAY_SIZE(targets); at++)
			found |= !strcmp(target, targets[at]);
	do_delayed_call(&done);
	return found;
}

static int hash_link(struct dentry *dentry, u8 *digest)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	DEFINE_DELAYED_CALL(done);
	const char *target = read_link(dentry, &done);
	int err = PTR_ERR_OR_ZERO(target);

	desc->tfm = testbed_sha256();
	if (!err)
		err = crypto_shash_digest(desc, target, strlen(target), digest);
	do_delayed_call(&done);
	return err;
}

static int hash_regular(struct testbed_walk *walk, const struct path *path, u8 *digest)
{
	u64 size = i_size_read(d_inode(path->dentry)), left = walk->limits.bytes - walk->bytes;
	struct testbed_content content;
	int err;

	if (size > left)
		return testbed_end_walk(walk, TESTBED_OUTCOME_BYTES);
	walk->bytes += size;
	testbed_begin_content(&content, d_real_inode(path->dentry), walk->payer);
	/* fs-verity has its digest beside the file, which is faster to get than from memory. */
	if (!IS_VERITY(content.inode) && testbed_recall(TESTBED_DIGEST_VERITY, &content, digest))
		return 0;
	err = testbed_verity_digest(walk, path, left, digest);
	/* One that was copied up meanwhile has another inode. */
	if (!testbed_end_content(&content) || d_real_inode(path->dentry) != content.inode)
		walk->unpromised = true;
	else if (!err)
		testbed_memorize(TESTBED_DIGEST_VERITY, &content, digest);
	return err;
}

/* Fill @content for a file that is no directory. */
int testbed_content_digest(struct testbed_walk *walk, const struct path *path, u8 *content)
{
	umode_t mode = d_inode(path->dentry)->i_mode;

	if (S_ISREG(mode))
		return hash_regular(walk, path, content);
	if (S_ISLNK(mode))
		return hash_link(path->dentry, content);
	memset(content, 0, TESTBED_SHA256_SIZE);
	return 0;
}
