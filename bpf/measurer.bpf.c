// SPDX-License-Identifier: GPL-2.0
/*
 * Which code is measured, and for which container.
 *
 * Hooks, in the order in which a container meets them:
 *
 *   lsm/task_alloc             fork, clone: the child gets its parent's identity
 *   lsm.s/bprm_check_security  execve: gives an identity to the first program of
 *                              a container; measures the file, and with #! the
 *                              script and then its interpreter
 *   lsm.s/mmap_file            mmap: measures what is mapped with PROT_EXEC, also
 *                              when READ_IMPLIES_EXEC asks for it; this is how
 *                              the dynamic linker and libraries are seen
 *   lsm/file_mprotect          counts files that become executable only here
 *
 * All are attached in every mode; in mode "hooks" they decide nothing.
 * Nothing is ever denied: these programs watch.
 *
 * In the modes prototype-file and prototype-image the two rules of the public
 * prototypes are followed instead, with their identity: a container is a task in
 * another UTS namespace than process 1. Nothing is cached there. Their logs tell
 * neither contents nor containers apart; see docs/semantics.md.
 *
 * Identity. A container is a task whose root directory is not that of process 1
 * (superblock or dentry differ) and whose mount namespace is not either. That is
 * asked when a task without identity executes a program, so:
 *
 *   - a runtime that prepares the namespaces (crun, runc init) is host until its
 *     first execve after pivot_root, which is the container's own program;
 *   - a service with PrivateMounts=, PrivateTmp=, ProtectSystem= is host: its
 *     namespace is its own, but its root is the host's;
 *   - a chroot alone is host: its namespace is the host's.
 *
 * Once given, an identity is inherited by fork and never changes: no unshare,
 * setns or chroot sheds it. A task without one that executes a program inside a
 * place already known (podman exec, nsenter) joins the container of that place.
 * Host tasks are never measured.
 *
 * Deferred, and what it means:
 *
 *   - A container in a container has the outer one's identity: `parent` is 0.
 *   - A container whose root is the very root of the host (podman run
 *     --rootfs /) cannot be told from a service: it is host.
 *   - Containers that run when the programs are attached get their identity at
 *     the next execve of each process tree; until then their mappings count as
 *     unmeasured_before_exec. Attached again, the programs know nobody.
 *   - mprotect runs under mmap_lock, where reading the file can deadlock: it is
 *     counted, not measured.
 *   - Code that is not a file (JIT, anonymous memory) is counted, not measured.
 *   - A kernel without commit 271de525e1d7 ("bpf: Remove prog->active check for
 *     bpf_lsm and bpf_iter", 6.2, also in Debian's 6.1) skips a program that
 *     sleeps on the same CPU already. The kernel counts that, and the loader
 *     shows it as unmeasured_skipped.
 *   - A descriptor opened on an overlay before its file was copied up maps the
 *     lower file, while reading it gives the upper one: the entry then tells of
 *     the upper one. IMA has the same limit.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "compat.bpf.h"
#include "measurer.h"

char LICENSE[] SEC("license") = "GPL";

extern __u64 testbed_new_seq(void) __ksym;
extern int testbed_stamp_file(struct file *file, struct testbed_stamp *stamp) __ksym;
extern int testbed_measure_file(struct file *file, const struct testbed_ident *ident,
				struct testbed_work *work) __ksym;
extern int testbed_measure_start(const struct testbed_ident *ident) __ksym;
extern int testbed_prototype_file(struct file *file, __u32 utsns) __ksym;
extern int testbed_prototype_image(__u32 utsns) __ksym;

/* Set by the loader before the programs are verified. */
const volatile __u32 mode = TESTBED_MODE_HOOKS;
const volatile __u32 host_mntns = 0;
const volatile __u32 host_utsns = 0;

/* ---- maps ---- */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TESTBED_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct testbed_ident);
} idents SEC(".maps");

/*
 * Where a container lives. `mntns` is never used again in a boot, so a key of a
 * container that has ended can match nobody; the pointers are only compared. The
 * oldest give way when the map is full: an unused container is forgotten, and
 * who enters it later begins a new one.
 */
struct place {
	__u64 mntns;
	struct super_block *root_sb;
	struct dentry *root_dentry;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct place);
	__type(value, struct testbed_ident);
} places SEC(".maps");

/*
 * What a container is known to have got, by the address of the real inode, and
 * the content it had then. Another inode may have come to that address: it has
 * another stamp.
 */
struct cache_key {
	__u64 seq;
	__u64 inode;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct cache_key);
	__type(value, struct testbed_stamp);
} cache SEC(".maps");

/* ---- counting ---- */

static __always_inline void count_many(__u32 counter, __u64 n)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, n);
}

static __always_inline void count(__u32 counter)
{
	count_many(counter, 1);
}

/* ---- identity ---- */

static __always_inline bool in_host_mntns(struct task_struct *task)
{
	return task->nsproxy->mnt_ns->ns.inum == host_mntns;
}

/* Fill @place and return true if the task's root is not that of process 1. */
static __always_inline bool outside_host(struct task_struct *task, struct place *place)
{
	struct task_struct *init;

	if (in_host_mntns(task))
		return false;
	init = BPF_CORE_READ(task, thread_pid, numbers[0].ns, child_reaper);
	place->mntns = mntns_unique(BPF_CORE_READ(task, nsproxy, mnt_ns));
	place->root_sb = BPF_CORE_READ(task, fs, root.mnt, mnt_sb);
	place->root_dentry = BPF_CORE_READ(task, fs, root.dentry);
	return place->root_sb != BPF_CORE_READ(init, fs, root.mnt, mnt_sb) ||
	       place->root_dentry != BPF_CORE_READ(init, fs, root.dentry);
}

static __always_inline void describe(struct task_struct *task, struct testbed_ident *ident)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	struct pid_namespace *pidns = NULL;

	__builtin_memset(ident, 0, sizeof(*ident));
	ident->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	ident->utsns = BPF_CORE_READ(task, nsproxy, uts_ns, ns.inum);
	ident->cgroup = bpf_get_current_cgroup_id();
	ident->started = BPF_CORE_READ(task, group_leader, start_boottime);
	/* The innermost of the namespaces in which the task has a number. */
	bpf_core_read(&pidns, sizeof(pidns), &pid->numbers[level].ns);
	ident->pidns = BPF_CORE_READ(pidns, ns.inum);
}

/* The start entry precedes all others, so it is tried again until it is there. */
static __always_inline void log_start(struct testbed_ident *ident)
{
	int outcome;

	if (ident->start_logged)
		return;
	outcome = testbed_measure_start(ident);
	count(outcome);
	if (outcome == TESTBED_COUNT_STARTS || outcome == TESTBED_COUNT_DUPLICATES)
		ident->start_logged = 1;
}

/*
 * Find or make the identity of the container at @place. Two tasks may come here
 * at once: the one that loses takes the winner's identity. It may log the same
 * start again, which IMA drops as a duplicate.
 */
static __always_inline void join_or_begin(struct task_struct *task, struct place *place,
					  struct testbed_ident *ident)
{
	struct testbed_ident *known = bpf_map_lookup_elem(&places, place);

	if (!known) {
		describe(task, ident);
		ident->seq = testbed_new_seq();
		if (bpf_map_update_elem(&places, place, ident, BPF_NOEXIST) == 0)
			count(TESTBED_COUNT_CONTAINERS);
		known = bpf_map_lookup_elem(&places, place);
	}
	if (!known) {
		count(TESTBED_COUNT_PLACES_FULL);
		log_start(ident);
		return;
	}
	*ident = *known;
	log_start(ident);
	known = bpf_map_lookup_elem(&places, place);
	if (known && ident->start_logged)
		known->start_logged = 1;
}

/* The identity of the task that executes a program, NULL for the host. */
static __always_inline struct testbed_ident *identify(struct task_struct *task)
{
	struct testbed_ident *ident = bpf_task_storage_get(&idents, task, NULL, 0);
	struct testbed_ident fresh;
	struct place place = {};

	if (ident || !outside_host(task, &place))
		return ident;
	join_or_begin(task, &place, &fresh);
	ident = bpf_task_storage_get(&idents, task, &fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!ident)
		count(TESTBED_COUNT_NO_IDENTITY);
	return ident;
}

/* ---- measuring ---- */

static __always_inline bool same_stamp(const struct testbed_stamp *a,
				       const struct testbed_stamp *b)
{
	return a->inode == b->inode && a->sb == b->sb && a->ino == b->ino &&
	       a->generation == b->generation && a->iversion == b->iversion &&
	       a->size == b->size && a->ctime_sec == b->ctime_sec &&
	       a->ctime_nsec == b->ctime_nsec;
}

/* The inode that has the content, NULL if the kfunc must say. */
static __always_inline struct inode *real_inode(struct file *file)
{
	struct inode *inode = file->f_path.dentry->d_inode;

	return inode->i_sb->s_magic == OVERLAYFS_SUPER_MAGIC ? ovl_real(inode) : inode;
}

/*
 * Does the real inode still have the stamp that the kfunc took? The kfunc has
 * queried the version, and the kernel marks that in the counter: a change clears
 * the mark and raises the number. Who could change the content without raising
 * it once more (who has it open for writing, or mapped so) is looked for last.
 */
static __always_inline bool unchanged(struct inode *inode, const struct testbed_stamp *stamp)
{
	struct inode_state now;

	read_inode_state(inode, &now);
	return (now.version & I_VERSION_QUERIED) && now.version >> 1 == stamp->iversion &&
	       now.sb == stamp->sb && (now.sb_flags & SB_I_VERSION) &&
	       now.ino == stamp->ino && now.generation == stamp->generation &&
	       now.size == stamp->size && now.ctime_sec == stamp->ctime_sec &&
	       now.ctime_nsec == stamp->ctime_nsec &&
	       now.writers <= 0 && now.writable_mappings <= 0;
}

/* The hot path: this container has got this content already. */
static __always_inline bool is_known(struct file *file, struct testbed_ident *ident)
{
	struct inode *inode = real_inode(file);
	struct cache_key key = { .seq = ident->seq, .inode = (__u64)inode };
	struct testbed_stamp *known = bpf_map_lookup_elem(&cache, &key);

	return inode && known && unchanged(inode, known);
}

/*
 * The stamp is taken before and after the content is read, and only one that
 * did not change is remembered: what is in the cache was true of all the bytes.
 */
static __always_inline void measure(struct file *file, struct testbed_ident *ident,
				    __u32 route)
{
	struct testbed_work work = { .route = route };
	struct testbed_stamp stamp = {}, after = {};
	struct testbed_stamp *known;
	struct cache_key key = {};
	bool can_cache;
	int outcome;

	if (is_known(file, ident)) {
		count(TESTBED_COUNT_CACHE_HITS);
		return;
	}
	can_cache = testbed_stamp_file(file, &stamp) == 0;
	key.seq = ident->seq;
	key.inode = stamp.inode;
	if (can_cache) {
		/* A real inode that the programs do not find: metacopy, an overlay on another. */
		known = bpf_map_lookup_elem(&cache, &key);
		if (known && same_stamp(known, &stamp)) {
			count(TESTBED_COUNT_CACHE_HITS);
			count(TESTBED_COUNT_SLOW_HITS);
			return;
		}
	} else {
		count(TESTBED_COUNT_UNCACHEABLE);
	}

	log_start(ident);
	outcome = testbed_measure_file(file, ident, &work);
	count(outcome);
	count_many(TESTBED_COUNT_BYTES, work.bytes);
	if (work.no_path)
		count(TESTBED_COUNT_NO_PATH);
	if (outcome != TESTBED_COUNT_FILES && outcome != TESTBED_COUNT_DUPLICATES)
		return;
	if (!can_cache)
		return;
	if (testbed_stamp_file(file, &after) == 0 && same_stamp(&stamp, &after))
		bpf_map_update_elem(&cache, &key, &stamp, BPF_ANY);
	else
		count(TESTBED_COUNT_CHANGED);
}

/* ---- the prototypes' rules ---- */

static __always_inline bool is_prototype(void)
{
	return mode == TESTBED_MODE_PROTOTYPE_FILE || mode == TESTBED_MODE_PROTOTYPE_IMAGE;
}

/* The number by which the prototypes know a container, 0 for the host. */
static __always_inline __u32 prototype_ns(struct task_struct *task)
{
	__u32 ns = BPF_CORE_READ(task, nsproxy, uts_ns, ns.inum);

	return ns == host_utsns ? 0 : ns;
}

/* ---- programs ---- */

SEC("lsm/task_alloc")
int BPF_PROG(inherit, struct task_struct *task, unsigned long clone_flags)
{
	struct testbed_ident *ident;

	if (mode == TESTBED_MODE_HOOKS || is_prototype())
		return 0;
	ident = bpf_task_storage_get(&idents, bpf_get_current_task_btf(), NULL, 0);
	if (!ident)
		return 0;
	if (!bpf_task_storage_get(&idents, task, ident, BPF_LOCAL_STORAGE_GET_F_CREATE))
		count(TESTBED_COUNT_NO_IDENTITY);
	return 0;
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(measure_exec, struct linux_binprm *bprm)
{
	struct testbed_ident *ident;
	__u32 ns;

	if (mode == TESTBED_MODE_HOOKS)
		return 0;
	if (is_prototype()) {
		ns = prototype_ns(bpf_get_current_task_btf());
		if (ns && mode == TESTBED_MODE_PROTOTYPE_IMAGE)
			count(testbed_prototype_image(ns));
		return 0;
	}
	ident = identify(bpf_get_current_task_btf());
	if (ident)
		measure(bprm->file, ident, TESTBED_ROUTE_EXEC);
	return 0;
}

SEC("lsm.s/mmap_file")
int BPF_PROG(measure_mmap, struct file *file, unsigned long reqprot, unsigned long prot,
	     unsigned long flags)
{
	struct testbed_ident *ident;
	struct task_struct *task;
	struct place place = {};
	__u32 ns;

	if (mode == TESTBED_MODE_HOOKS || !(prot & PROT_EXEC))
		return 0;
	task = bpf_get_current_task_btf();
	if (is_prototype()) {
		ns = prototype_ns(task);
		if (ns && mode == TESTBED_MODE_PROTOTYPE_FILE && have_file(file))
			count(testbed_prototype_file(file, ns));
		return 0;
	}
	ident = bpf_task_storage_get(&idents, task, NULL, 0);
	if (!ident) {
		if (outside_host(task, &place))
			count(TESTBED_COUNT_BEFORE_EXEC);
		return 0;
	}
	if (!have_file(file)) {
		count(TESTBED_COUNT_ANON_EXEC);
		return 0;
	}
	measure(file, ident, TESTBED_ROUTE_MMAP);
	return 0;
}

SEC("lsm/file_mprotect")
int BPF_PROG(count_mprotect, struct vm_area_struct *vma, unsigned long reqprot,
	     unsigned long prot)
{
	if (mode == TESTBED_MODE_HOOKS || is_prototype() || !(prot & PROT_EXEC))
		return 0;
	if ((vma->vm_flags & VM_EXEC) || !vma->vm_file)
		return 0;
	if (bpf_task_storage_get(&idents, bpf_get_current_task_btf(), NULL, 0))
		count(TESTBED_COUNT_MPROTECT);
	return 0;
}
