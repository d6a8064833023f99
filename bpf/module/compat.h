/* SPDX-License-Identifier: GPL-2.0 */
/* All differences between kernels on the module's side. */
#ifndef TESTBED_COMPAT_H
#define TESTBED_COMPAT_H

#include <crypto/sha2.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/bottom_half.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/fsverity.h>
#include <linux/mm_types.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/version.h>
#include <linux/xattr.h>

/*
 * kfunc flags, one row per kernel.
 *
 *   6.1         A pointer out of the program's context is not trusted yet
 *               ("must be referenced"): KF_TRUSTED_ARGS would refuse it.
 *   6.2 to 6.x  KF_TRUSTED_ARGS takes context pointers since commit
 *               3f00c5239344 ("bpf: Allow trusted pointers to be passed to
 *               KF_TRUSTED_ARGS kfuncs").
 *   7.x         Trusted arguments are the rule and the flag is gone; a pointer
 *               that may be NULL would have to be named ..__nullable.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define TESTBED_KF_ATOMIC 0
#elif defined(KF_TRUSTED_ARGS)
#define TESTBED_KF_ATOMIC KF_TRUSTED_ARGS
#else
#define TESTBED_KF_ATOMIC 0
#endif
#define TESTBED_KF_MEASURE (KF_SLEEPABLE | TESTBED_KF_ATOMIC)

/* The set must be marked as one of kfuncs since commit 6f3189f38a3e (6.9). */
#ifndef BTF_KFUNCS_START
#define BTF_KFUNCS_START BTF_SET8_START
#define BTF_KFUNCS_END BTF_SET8_END
#endif

/* The annotation came in 6.3, the pair that brackets definitions in 6.7. */
#ifndef __bpf_kfunc
#define __bpf_kfunc __used noinline
#endif
#ifndef __bpf_kfunc_start_defs
#define __bpf_kfunc_start_defs()                                               \
	__diag_push();                                                         \
	__diag_ignore_all("-Wmissing-declarations", "kfuncs have no header"); \
	__diag_ignore_all("-Wmissing-prototypes", "kfuncs have no header")
#define __bpf_kfunc_end_defs() __diag_pop()
#endif

/*
 * The program of @mm, or NULL. get_file_rcu() takes the address of the pointer since
 * commit 0ede61d8589c (6.7), as a file may be used again at once.
 */
static inline struct file *testbed_exe_file(struct mm_struct *mm)
{
	struct file *file;

	rcu_read_lock();
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	file = rcu_dereference(mm->exe_file);
	if (file && !get_file_rcu(file))
		file = NULL;
#else
	file = get_file_rcu(&mm->exe_file);
#endif
	rcu_read_unlock();
	return file;
}

/*
 * A reference to the file at @from, which others may exchange or take away, or NULL. The
 * call came in 6.7; before, no root is sealed.
 */
static inline struct file *testbed_get_file(struct file **from)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return NULL;
#else
	return get_file_active(from);
#endif
}

/*
 * The path by which @file was opened. What an overlay maps is the real file, which
 * has that as its own path until commit def3ae83da02 (6.7) and beside it since.
 */
static inline const struct path *testbed_user_path(const struct file *file)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return &file->f_path;
#else
	return file_user_path((struct file *)file);
#endif
}

/*
 * Does a name lead to @path from the current task's root? No reference to that is
 * taken, as to put one may sleep. The lock became a sequence lock in 7.x.
 */
static inline bool testbed_under_own_root(const struct path *path)
{
	struct fs_struct *fs = current->fs;
	bool under;

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	spin_lock(&fs->lock);
	under = path_is_under(path, &fs->root);
	spin_unlock(&fs->lock);
#else
	read_seqlock_excl(&fs->seq);
	under = path_is_under(path, &fs->root);
	read_sequnlock_excl(&fs->seq);
#endif
	return under;
}

/* So many files may wait to be closed by the kernel's own worker. */
#define TESTBED_CLOSING_MAX 1024

/*
 * Close @file in a task's work, without the task's being the one that does it later:
 * fput() adds a work to the task, which is done only when ours has ended, and a walk
 * would hold all files that it reads. The call that closes at once came in 6.6.
 * Before, fput() with bottom halves disabled puts the file on the kernel's delayed
 * list, which the kernel's own worker empties a jiffy later. flush_delayed_fput()
 * must not be called here: it would close the files of other tasks as well, in this
 * task and with its present credentials. So this waits for the worker now and then;
 * @closed counts the files that the caller has closed. May sleep.
 */
static inline void testbed_fput(struct file *file, u32 *closed)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	local_bh_disable();
	fput(file);
	local_bh_enable();
	if (++*closed % TESTBED_CLOSING_MAX == 0)
		schedule_timeout_killable(2);
#else
	__fput_sync(file);
#endif
}

/*
 * Take on the credentials of the kernel, which may read everything. Return those of the
 * task, for testbed_as_before(), or NULL if there is no memory.
 */
static inline const struct cred *testbed_as_kernel(void)
{
	struct cred *all = prepare_kernel_cred(&init_task);

	return all ? override_creds(all) : NULL;
}

static inline void testbed_as_before(const struct cred *own)
{
	const struct cred *all = current_cred();

	revert_creds(own);
	put_cred(all);
}

/* What maps a mount's owners has a type of its own since 6.3. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define testbed_idmap(mnt) mnt_user_ns(mnt)
#else
#define testbed_idmap(mnt) mnt_idmap(mnt)
#endif

/* The owner of the file at @path as the user namespace @ns sees it. */
static inline uid_t testbed_owner(const struct path *path, struct user_namespace *ns)
{
	vfsuid_t owner = i_uid_into_vfsuid(testbed_idmap(path->mnt), d_inode(path->dentry));

	return from_kuid(ns, vfsuid_into_kuid(owner));
}

static inline gid_t testbed_group(const struct path *path, struct user_namespace *ns)
{
	vfsgid_t group = i_gid_into_vfsgid(testbed_idmap(path->mnt), d_inode(path->dentry));

	return from_kgid(ns, vfsgid_into_kgid(group));
}

/* Names are a struct qstr since 6.16. @name needs no terminator. */
static inline struct dentry *testbed_lookup(struct vfsmount *mnt, const char *name, int length,
					    struct dentry *base)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
	return lookup_one_positive_unlocked(testbed_idmap(mnt), name, base, length);
#else
	return lookup_one_positive_unlocked(testbed_idmap(mnt), &QSTR_LEN(name, length), base);
#endif
}

/* The bytes are allocated by the kernel's own function in 7.x. */
static inline ssize_t testbed_acl_to_xattr(const struct posix_acl *acl, void *value, size_t size)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	return posix_acl_to_xattr(&init_user_ns, acl, value, size);
#else
	size_t length;
	void *bytes = posix_acl_to_xattr(&init_user_ns, acl, &length, GFP_KERNEL);

	if (!bytes)
		return -ENOMEM;
	if (value && length <= size)
		memcpy(value, bytes, length);
	kfree(bytes);
	return value && length > size ? -ERANGE : length;
#endif
}

/*
 * As vfs_getxattr(), access control lists included: they have a call of their own
 * since 6.2. Their owners are given as the host sees them.
 */
static inline ssize_t testbed_getxattr(const struct path *path, const char *name, void *value,
				       size_t size)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	if (!strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) ||
	    !strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT)) {
		struct posix_acl *acl = vfs_get_acl(testbed_idmap(path->mnt), path->dentry, name);
		ssize_t err;

		if (IS_ERR_OR_NULL(acl))
			return acl ? PTR_ERR(acl) : -ENODATA;
		err = testbed_acl_to_xattr(acl, value, size);
		posix_acl_release(acl);
		return err;
	}
#endif
	return vfs_getxattr(testbed_idmap(path->mnt), path->dentry, name, value, size);
}

/* One number since 6.3, two halves before. */
static inline u64 testbed_caps(const kernel_cap_t *caps)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return (u64)caps->cap[1] << 32 | caps->cap[0];
#else
	return caps->val;
#endif
}

/* The page at @index if it is there, NULL if not: an error since 6.3. */
static inline struct folio *testbed_get_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	return IS_ERR(folio) ? NULL : folio;
}

/*
 * The dentry below an overlay that has the attributes of @dentry, which is that of a
 * regular file. The second argument became a kind in 6.9. Does not sleep.
 */
static inline struct dentry *testbed_real_dentry(struct dentry *dentry)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	return d_real(dentry, NULL);
#else
	return d_real(dentry, D_REAL_METADATA);
#endif
}

/*
 * Copy the SHA-256 that fs-verity has of @inode. The call is exported since 6.6, in which overlays compare digests.
 * Before, the digest is read from @at, where the kernel's type information says that it is.
 */
static inline bool testbed_copy_verity(struct inode *inode, const u8 *at, u8 *digest)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	memcpy(digest, at, SHA256_DIGEST_SIZE);
	return true;
#else
	u8 whole[FS_VERITY_MAX_DIGEST_SIZE];
	enum hash_algo algorithm;

	if (fsverity_get_digest(inode, whole, NULL, &algorithm) != SHA256_DIGEST_SIZE ||
	    algorithm != HASH_ALGO_SHA256)
		return false;
	memcpy(digest, whole, SHA256_DIGEST_SIZE);
	return true;
#endif
}

/* The field went behind an accessor in 6.6. */
static inline struct timespec64 testbed_ctime(struct inode *inode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	return inode->i_ctime;
#else
	return inode_get_ctime(inode);
#endif
}

#endif
