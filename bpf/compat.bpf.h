/* SPDX-License-Identifier: GPL-2.0 */
/* All differences between kernels on the BPF side. */
#ifndef TESTBED_COMPAT_BPF_H
#define TESTBED_COMPAT_BPF_H

#include "measurer.h"

/* Constants are no types, so vmlinux.h does not have them. */
#define PROT_READ 0x1
#define PROT_WRITE 0x2
#define PROT_EXEC 0x4
#define READ_IMPLIES_EXEC 0x0400000
#define MAP_TYPE 0xf
#define MAP_PRIVATE 0x2
#define VM_EXEC 0x4
#define VM_SHARED 0x8
#define FMODE_WRITE 0x2
#define FMODE_EXEC 0x20
#define SB_KERNMOUNT (1 << 22)
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define ATTR_MODE (1 << 0)
#define ATTR_UID (1 << 1)
#define ATTR_GID (1 << 2)
#define ATTR_SIZE (1 << 3)
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define I_VERSION_QUERIED 1
#define PF_KTHREAD 0x00200000
#define BPF_FS_MAGIC 0xcafe4a11
#define PROC_SUPER_MAGIC 0x9fa0
#define S_IFMT 00170000
#define S_IFREG 0100000
#define S_IFDIR 0040000

/*
 * Is there a file? lsm.s/mmap_file gets NULL for every anonymous mapping, but
 * from 6.2 until December 2025 (6.12.117 included) the verifier takes the
 * argument for trusted, hence not NULL, and deletes a plain test; a kfunc that
 * then reads the pointer oopses. A probe read is beyond its reasoning. The plain
 * test stays for the verifiers that ask for it: on 7.x the argument's name ends in
 * __nullable, and no kfunc takes it untested.
 */
static __always_inline bool have_file(struct file *file)
{
	struct inode *inode = NULL;

	if (!file)
		return false;
	if (bpf_probe_read_kernel(&inode, sizeof(inode), &file->f_inode))
		return false;
	return inode != NULL;
}

/*
 * The arguments of inode_setattr: the mount's idmap comes first since commit
 * 314a53623cd4 (6.9). The barriers keep the compiler from loading one argument of
 * both kernels by a computed address, which the verifier refuses.
 */
extern int LINUX_KERNEL_VERSION __kconfig;

struct setattr_args {
	struct dentry *dentry;
	struct iattr *attr;
};

static __always_inline struct setattr_args setattr_args(__u64 *ctx)
{
	struct setattr_args args;

	if (LINUX_KERNEL_VERSION < 0x060900) {
		args.dentry = (struct dentry *)ctx[0];
		args.attr = (struct iattr *)ctx[1];
		barrier_var(args.dentry);
		barrier_var(args.attr);
	} else {
		args.dentry = (struct dentry *)ctx[1];
		args.attr = (struct iattr *)ctx[2];
		barrier_var(args.dentry);
		barrier_var(args.attr);
	}
	return args;
}

/* A mount namespace's number that is not used again in a boot. */
struct ns_common___with_id {
	__u64 ns_id;
} __attribute__((preserve_access_index));

struct mnt_namespace___with_seq {
	__u64 seq;
} __attribute__((preserve_access_index));

struct mnt_namespace___with_id {
	struct ns_common___with_id ns;
} __attribute__((preserve_access_index));

static __always_inline __u64 mntns_unique(struct mnt_namespace *ns)
{
	struct mnt_namespace___with_seq *with_seq = (void *)ns;
	struct mnt_namespace___with_id *with_id = (void *)ns;

	/* 6.1 to 6.17; later all namespaces have a number, in ns_common. */
	if (bpf_core_field_exists(with_seq->seq))
		return BPF_CORE_READ(with_seq, seq);
	if (bpf_core_field_exists(with_id->ns.ns_id))
		return BPF_CORE_READ(with_id, ns.ns_id);
	return 0;
}

/* Nanoseconds need 30 bits; from 6.13 on the kernel keeps a mark in the highest. */
#define CTIME_NSEC_MASK 0x3fffffff

struct inode___split_ctime {
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;
} __attribute__((preserve_access_index));

struct inode___6_6 {
	struct timespec64 __i_ctime;
} __attribute__((preserve_access_index));

struct inode___6_1 {
	struct timespec64 i_ctime;
} __attribute__((preserve_access_index));

/*
 * A pointer that was not walked to from an argument is a number to the verifier,
 * and each field of it costs a call of a helper. From 6.2 on it can be told what
 * lies there; loads are then guarded by the kernel as those of any walk are.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!(sym))
#endif

/* Of i_flags: include/linux/fs.h. */
#define S_VERITY (1 << 16)

/* What tells whether a file has changed, or could be changed right now. */
struct inode_state {
	__u64 flags;
	__u64 version;
	__u64 size;
	__u64 ctime_sec;
	__u64 ctime_nsec;
	int writers;
	int writable_mappings;
};

#define FILL_INODE_STATE(READ, state, inode, split, later, early)                        \
	do {                                                                              \
		(state)->flags = READ(inode, i_flags);                                    \
		(state)->version = READ(inode, i_version.counter);                        \
		(state)->size = READ(inode, i_size);                                      \
		if (bpf_core_field_exists((split)->i_ctime_sec)) {                        \
			(state)->ctime_sec = READ(split, i_ctime_sec);                    \
			(state)->ctime_nsec = READ(split, i_ctime_nsec) & CTIME_NSEC_MASK; \
		} else if (bpf_core_field_exists((later)->__i_ctime)) {                   \
			(state)->ctime_sec = READ(later, __i_ctime.tv_sec);               \
			(state)->ctime_nsec = READ(later, __i_ctime.tv_nsec);             \
		} else {                                                                  \
			(state)->ctime_sec = READ(early, i_ctime.tv_sec);                 \
			(state)->ctime_nsec = READ(early, i_ctime.tv_nsec);               \
		}                                                                         \
		(state)->writers = READ(inode, i_writecount.counter);                     \
		(state)->writable_mappings = READ(inode, i_mapping, i_mmap_writable.counter); \
	} while (0)

#define WALK1(a, b) ((a)->b)
#define WALK2(a, b, c) ((a)->b->c)
#define WALK(...) ___bpf_apply(WALK_OF, ___bpf_narg(__VA_ARGS__))(__VA_ARGS__)
#define WALK_OF2 WALK1
#define WALK_OF3 WALK2

/* Who writes is read last: a change that came before has changed the version. */
static __always_inline void read_inode_state(struct inode *at, struct inode_state *state)
{
	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		struct inode *inode = bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct inode));

		FILL_INODE_STATE(WALK, state, inode, (struct inode___split_ctime *)inode,
				 (struct inode___6_6 *)inode, (struct inode___6_1 *)inode);
	} else {
		FILL_INODE_STATE(BPF_CORE_READ, state, at, (struct inode___split_ctime *)at,
				 (struct inode___6_6 *)at, (struct inode___6_1 *)at);
	}
}

/* Private to fs-verity. Where one of these is missing or another, digests are computed. */
struct merkle_tree_params___any {
	unsigned int digest_size;
	unsigned int block_size;
	const void *hashstate; /* that of the salt */
} __attribute__((preserve_access_index));

struct fsverity_info___any {
	struct merkle_tree_params___any tree_params;
	__u8 file_digest[64];
} __attribute__((preserve_access_index));

static __always_inline void fill_verity_layout(struct testbed_verity_layout *layout)
{
	struct fsverity_info___any *info = NULL;

	if (!bpf_core_field_exists(info->tree_params.digest_size) ||
	    !bpf_core_field_exists(info->tree_params.block_size) ||
	    !bpf_core_field_exists(info->tree_params.hashstate) ||
	    !bpf_core_field_exists(info->file_digest) ||
	    bpf_core_field_size(info->tree_params.digest_size) != sizeof(__u32) ||
	    bpf_core_field_size(info->tree_params.block_size) != sizeof(__u32) ||
	    bpf_core_field_size(info->tree_params.hashstate) != sizeof(void *))
		return;
	layout->digest_size = bpf_core_field_offset(info->tree_params.digest_size);
	layout->block_size = bpf_core_field_offset(info->tree_params.block_size);
	layout->salted = bpf_core_field_offset(info->tree_params.hashstate);
	layout->file_digest = bpf_core_field_offset(info->file_digest);
	layout->known = 1;
}

/*
 * The overlay file system is a module: its types are not in vmlinux.h, and libbpf finds
 * them in the module's BTF if that is loaded. A file of an overlay holds the real file
 * that it was opened with, which is what it maps: itself until 6.12, in a struct ovl_file
 * since commit 18e48d0e2c7b (6.13).
 */
struct ovl_file___any {
	struct file *realfile;
} __attribute__((preserve_access_index));

static __always_inline struct file *ovl_real_file(struct file *file)
{
	void *private = file->private_data;

	if (bpf_core_type_exists(struct ovl_file___any))
		return BPF_CORE_READ((struct ovl_file___any *)private, realfile);
	return private;
}

/* The inode that is mapped where @file is. On a second overlay the module must say. */
static __always_inline struct inode *real_inode(struct file *file)
{
	struct inode *inode = file->f_inode;

	if (inode->i_sb->s_magic != OVERLAYFS_SUPER_MAGIC)
		return inode;
	/* A directory has something else there. */
	if ((inode->i_mode & S_IFMT) != S_IFREG)
		return NULL;
	return BPF_CORE_READ(ovl_real_file(file), f_inode);
}

/* The file systems below an overlay; where there is no upper one the first has no `sb`. */
struct ovl_sb___any {
	struct super_block *sb;
} __attribute__((preserve_access_index));

struct ovl_fs___any {
	unsigned int numfs;
	struct ovl_sb___any *fs;
} __attribute__((preserve_access_index));

static __always_inline void fill_layers_layout(struct testbed_layers_layout *layout)
{
	struct ovl_fs___any *fs = NULL;
	struct ovl_sb___any *one = NULL;

	if (!bpf_core_field_exists(fs->numfs) || !bpf_core_field_exists(fs->fs) ||
	    !bpf_core_field_exists(one->sb) || bpf_core_field_size(fs->numfs) != sizeof(__u32))
		return;
	layout->count = bpf_core_field_offset(fs->numfs);
	layout->list = bpf_core_field_offset(fs->fs);
	layout->size = bpf_core_type_size(struct ovl_sb___any);
	layout->sb = bpf_core_field_offset(one->sb);
	layout->known = 1;
}

/* The layers of an overlay. Before 6.5 there were two marks for redirects, and no layers of data alone. */
struct ovl_layer___any {
	struct vfsmount *mnt;
} __attribute__((preserve_access_index));

struct ovl_config___any {
	bool redirect_dir;
	bool redirect_follow;
	int redirect_mode;
	bool metacopy;
	bool userxattr;
} __attribute__((preserve_access_index));

struct ovl_fs___layers {
	unsigned int numlayer;
	unsigned int numdatalayer;
	struct ovl_layer___any *layers;
	struct ovl_config___any config;
} __attribute__((preserve_access_index));

static __always_inline void fill_overlay_layout(struct testbed_overlay_layout *layout)
{
	struct ovl_fs___layers *fs = NULL;
	struct ovl_layer___any *one = NULL;

	if (!bpf_core_field_exists(fs->numlayer) || !bpf_core_field_exists(fs->layers) ||
	    !bpf_core_field_exists(one->mnt) || !bpf_core_field_exists(fs->config.metacopy) ||
	    !bpf_core_field_exists(fs->config.userxattr) ||
	    bpf_core_field_size(fs->numlayer) != sizeof(__u32) ||
	    bpf_core_field_size(fs->config.metacopy) != sizeof(bool) ||
	    bpf_core_field_size(fs->config.userxattr) != sizeof(bool))
		return;
	if (bpf_core_field_exists(fs->config.redirect_follow)) {
		/* One after the other. */
		if (bpf_core_field_offset(fs->config.redirect_follow) !=
		    bpf_core_field_offset(fs->config.redirect_dir) + sizeof(bool))
			return;
		layout->redirect = bpf_core_field_offset(fs->config.redirect_dir);
		layout->redirect_size = 2 * sizeof(bool);
	} else if (bpf_core_field_exists(fs->config.redirect_mode) &&
		   bpf_core_field_size(fs->config.redirect_mode) == sizeof(__u32)) {
		layout->redirect = bpf_core_field_offset(fs->config.redirect_mode);
		layout->redirect_size = sizeof(__u32);
	} else {
		return;
	}
	if (bpf_core_field_exists(fs->numdatalayer))
		layout->data = bpf_core_field_offset(fs->numdatalayer);
	layout->count = bpf_core_field_offset(fs->numlayer);
	layout->list = bpf_core_field_offset(fs->layers);
	layout->size = bpf_core_type_size(struct ovl_layer___any);
	layout->mnt = bpf_core_field_offset(one->mnt);
	layout->metacopy = bpf_core_field_offset(fs->config.metacopy);
	layout->userxattr = bpf_core_field_offset(fs->config.userxattr);
	layout->known = 1;
}

/* Whether an overlay takes data without the digest that the names have: since 6.6. */
struct ovl_config___verity {
	int verity_mode;
} __attribute__((preserve_access_index));

struct ovl_fs___verity {
	unsigned int numdatalayer;
	struct ovl_config___verity config;
} __attribute__((preserve_access_index));

static __always_inline void fill_sealed_overlay(struct testbed_sealed_layout *layout)
{
	struct ovl_fs___verity *fs = NULL;

	if (!bpf_core_field_exists(fs->numdatalayer) || !bpf_core_field_exists(fs->config.verity_mode) ||
	    bpf_core_field_size(fs->numdatalayer) != sizeof(__u32) ||
	    bpf_core_field_size(fs->config.verity_mode) != sizeof(__u32))
		return;
	layout->verity_mode = bpf_core_field_offset(fs->config.verity_mode);
	layout->overlay_known = 1;
}

/* EROFS in a file, without a block device, since 6.12; `fsoff` since 6.16. */
struct erofs_device_info___sealed {
	struct file *file;
	__u64 fsoff;
} __attribute__((preserve_access_index));

struct erofs_dev_context___sealed {
	unsigned int extra_devices;
} __attribute__((preserve_access_index));

struct erofs_sb_info___sealed {
	struct erofs_device_info___sealed dif0;
	struct erofs_dev_context___sealed *devs;
} __attribute__((preserve_access_index));

static __always_inline void fill_sealed_erofs(struct testbed_sealed_layout *layout)
{
	struct erofs_sb_info___sealed *erofs = NULL;
	struct erofs_dev_context___sealed *devices = NULL;

	if (!bpf_core_field_exists(erofs->dif0.file) || !bpf_core_field_exists(erofs->devs) ||
	    !bpf_core_field_exists(devices->extra_devices) ||
	    bpf_core_field_size(devices->extra_devices) != sizeof(__u32))
		return;
	layout->erofs_devices = bpf_core_field_offset(erofs->devs);
	layout->erofs_extra = bpf_core_field_offset(devices->extra_devices);
	layout->erofs_file = bpf_core_field_offset(erofs->dif0.file);
	if (bpf_core_field_exists(erofs->dif0.fsoff)) {
		layout->erofs_offset = bpf_core_field_offset(erofs->dif0.fsoff);
		layout->erofs_has_offset = 1;
	}
	layout->erofs_known = 1;
}

struct loop_device___sealed {
	__s64 lo_offset;
	__s64 lo_sizelimit;
	struct file *lo_backing_file;
	int lo_state;
} __attribute__((preserve_access_index));

static __always_inline void fill_sealed_loop(struct testbed_sealed_layout *layout)
{
	struct loop_device___sealed *loop = NULL;

	if (!bpf_core_field_exists(loop->lo_offset) || !bpf_core_field_exists(loop->lo_sizelimit) ||
	    !bpf_core_field_exists(loop->lo_backing_file) || !bpf_core_field_exists(loop->lo_state) ||
	    bpf_core_field_size(loop->lo_offset) != sizeof(__u64) ||
	    bpf_core_field_size(loop->lo_sizelimit) != sizeof(__u64) ||
	    bpf_core_field_size(loop->lo_state) != sizeof(__u32))
		return;
	layout->loop_offset = bpf_core_field_offset(loop->lo_offset);
	layout->loop_limit = bpf_core_field_offset(loop->lo_sizelimit);
	layout->loop_file = bpf_core_field_offset(loop->lo_backing_file);
	layout->loop_state = bpf_core_field_offset(loop->lo_state);
	layout->loop_known = 1;
}

struct mapped_device___sealed {
	void *map;
	struct srcu_struct io_barrier;
} __attribute__((preserve_access_index));

struct dm_table___sealed {
	unsigned int num_targets;
	struct dm_target *targets;
} __attribute__((preserve_access_index));

/* An enum is compatible with one of its name only. */
enum verity_mode___sealed {
	DM_VERITY_MODE_EIO___sealed,
};

struct dm_verity___sealed {
	char *alg_name;
	__u8 *root_digest;
	unsigned int digest_size;
	enum verity_mode___sealed mode;
	unsigned long *validated_blocks;
} __attribute__((preserve_access_index));

static __always_inline void fill_sealed_device(struct testbed_sealed_layout *layout)
{
	struct mapped_device___sealed *mapped = NULL;
	struct dm_table___sealed *table = NULL;
	struct dm_verity___sealed *verity = NULL;

	if (!bpf_core_field_exists(mapped->map) || !bpf_core_field_exists(mapped->io_barrier) ||
	    !bpf_core_field_exists(table->num_targets) || !bpf_core_field_exists(table->targets) ||
	    !bpf_core_field_exists(verity->alg_name) || !bpf_core_field_exists(verity->root_digest) ||
	    !bpf_core_field_exists(verity->digest_size) || !bpf_core_field_exists(verity->mode) ||
	    !bpf_core_field_exists(verity->validated_blocks) ||
	    bpf_core_field_size(table->num_targets) != sizeof(__u32) ||
	    bpf_core_field_size(verity->digest_size) != sizeof(__u32) ||
	    bpf_core_field_size(verity->mode) != sizeof(__u32))
		return;
	layout->dm_table = bpf_core_field_offset(mapped->map);
	layout->dm_barrier = bpf_core_field_offset(mapped->io_barrier);
	layout->dm_count = bpf_core_field_offset(table->num_targets);
	layout->dm_targets = bpf_core_field_offset(table->targets);
	layout->dm_algorithm = bpf_core_field_offset(verity->alg_name);
	layout->dm_digest = bpf_core_field_offset(verity->root_digest);
	layout->dm_digest_size = bpf_core_field_offset(verity->digest_size);
	layout->dm_mode = bpf_core_field_offset(verity->mode);
	layout->dm_validated = bpf_core_field_offset(verity->validated_blocks);
	layout->dm_known = 1;
}

static __always_inline void fill_layout(struct testbed_layout *layout)
{
	fill_verity_layout(&layout->verity);
	fill_layers_layout(&layout->layers);
	fill_overlay_layout(&layout->overlay);
	fill_sealed_overlay(&layout->sealed);
	fill_sealed_erofs(&layout->sealed);
	fill_sealed_loop(&layout->sealed);
	fill_sealed_device(&layout->sealed);
	if (!bpf_core_type_exists(struct ovl_file___any))
		return;
	layout->overlay_file = 1;
	layout->overlay_real = bpf_core_field_offset(((struct ovl_file___any *)0)->realfile);
}

/* How often the mounts of a namespace have changed. */
struct mnt_namespace___with_event {
	__u64 event;
} __attribute__((preserve_access_index));

static __always_inline __u64 mntns_event(struct mnt_namespace *ns)
{
	return BPF_CORE_READ((struct mnt_namespace___with_event *)ns, event);
}

/* execveat(AT_EXECVE_CHECK) came in 6.14. */
struct linux_binprm___with_check {
	unsigned int is_check : 1;
} __attribute__((preserve_access_index));

static __always_inline bool is_only_check(struct linux_binprm *bprm)
{
	struct linux_binprm___with_check *with = (void *)bprm;

	return bpf_core_field_exists(with->is_check) && BPF_CORE_READ_BITFIELD_PROBED(with, is_check);
}

#endif
