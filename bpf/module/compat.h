/* SPDX-License-Identifier: GPL-2.0 */
/* All differences between kernels on the module's side. */
#ifndef TESTBED_COMPAT_H
#define TESTBED_COMPAT_H

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/version.h>

/*
 * kfunc flags, one row per kernel.
 *
 *   6.1         A pointer out of the program's context is not trusted yet
 *               ("must be referenced"): KF_TRUSTED_ARGS would refuse it.
 *   6.2 to 6.x  KF_TRUSTED_ARGS takes context pointers since commit
 *               3f00c5239344 ("bpf: Allow trusted pointers to be passed to
 *               KF_TRUSTED_ARGS kfuncs").
 *   7.x         Trusted arguments are the rule and the flag is gone.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define TESTBED_KF_ATOMIC 0
#elif LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
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
 * The program of @mm, or NULL. get_file_rcu() takes the place of the pointer since
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
