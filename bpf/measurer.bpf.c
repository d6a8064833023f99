// SPDX-License-Identifier: GPL-2.0
/*
 * Which code is measured, and for which container.
 *
 * Hooks, in the order in which a container meets them:
 *
 *   lsm/task_alloc             fork, clone: the child gets its parent's identity;
 *                              marks the children of process 1
 *   lsm/bprm_creds_for_exec    execve: has memory ready for an identity
 *   lsm.s/bprm_check_security  execve: gives an identity to the first program of
 *                              a container; measures the file, and with #! the
 *                              script and then its interpreter
 *   lsm.s/mmap_file            mmap: measures what is mapped with PROT_EXEC, also
 *                              when READ_IMPLIES_EXEC asks for it; this is how
 *                              the dynamic linker and libraries are seen
 *   lsm/file_mprotect          has a file that becomes executable only here
 *                              measured when the task leaves the kernel
 *   lsm.s/kernel_read_file     measures what the kernel reads for a container:
 *                              modules, firmware, kernels, policies, keys
 *   lsm/kernel_load_data       counts what it takes from memory instead
 *   lsm.s/file_open            says so in the log when code of a container that is
 *                              in use is opened for writing, by anybody
 *   lsm.s/inode_setattr        likewise when it is truncated by its name
 *   lsm/bprm_committed_creds   execve again, when it can fail no more: the first
 *                              program of a container has been launched
 *   lsm.s/inode_free_security  says so in the log when a pin of these programs goes
 *
 * and, run by the loader, not attached:
 *
 *   iter.s/task                gives an identity to the containers that run
 *                              already, and measures their running programs
 *   syscall                    logs a beat; fetches the module's counters
 *
 * The hooks are attached in every mode; in mode "hooks" they decide nothing.
 * Nothing is ever denied: these programs watch.
 *
 * In mode image the first execve of a container also has its image and its launch
 * logged: not here, but by the module, when the process returns to user mode.
 *
 * In the modes prototype-file and prototype-image the two rules of the public
 * prototypes are followed instead, with their identity: a container is a task in
 * another UTS namespace than process 1. Nothing is cached there. Their logs tell
 * neither contents nor containers apart; see docs/semantics.md.
 *
 * Identity. A container is a task whose root directory is not that of process 1
 * (superblock or dentry differ) and whose mount namespace is not either: its
 * place is that pair. It is asked when a task executes a program, so:
 *
 *   - a runtime that prepares the namespaces (crun, runc init) is host until its
 *     first execve after pivot_root, which is the container's own program;
 *   - a service with PrivateMounts=, PrivateTmp=, ProtectSystem=,
 *     ProtectHostname= is host: its namespaces are its own, its root the host's;
 *   - a service with RootDirectory= or RootImage= is host, too, and so is all that
 *     it starts in its place: the process that first executed a program there was
 *     forked by process 1 itself, as no container's first process is;
 *   - a chroot alone is host: its namespace is the host's.
 *
 * UTS, network, PID and user namespaces decide nothing: --uts=host,
 * --network=host, --pid=host and rootless containers are containers.
 *
 * Once given, an identity is inherited by fork. What changes it:
 *
 *   - Nothing that leaves either the root or the mount namespace as it was:
 *     unshare of any kind, chroot, a new root in the old namespace.
 *   - Nothing that ends in the host's mount namespace, or in a service's place: who
 *     gets there from a container is that container still.
 *   - A place that is known to be another container's: the task joins that one, and
 *     the entry ctr-join says where it came from. A task of the host which executes
 *     a program in a known place joins likewise (podman exec, nsenter).
 *   - A place that nobody knows, in another cgroup than the one in which the
 *     container began: a container in the container, whose ctr-start has the outer
 *     one as `parent`. The cgroup is asked for because a process can make mount
 *     namespaces and roots as it likes (a browser's sandbox, bwrap, an attacker),
 *     but moves to another cgroup only if it was handed the right to manage some,
 *     as a container engine must be. Without it the sandbox is the container.
 *
 * So whatever a container does, its code is logged for it, for a container that
 * names it as its parent (or parent's parent), or after a ctr-join that names it.
 *
 * Deferred, and what it means:
 *
 *   - A container whose root is the very root of the host (podman run
 *     --rootfs /) cannot be told from a service: it is host.
 *   - A container in a container without a cgroup of its own is the outer one.
 *   - Of a container that ran when the programs were attached neither the parent is
 *     known nor which libraries it has mapped, and its start says BEFORE. Services
 *     with RootDirectory= that ran already cannot be told from containers by
 *     then: they are listed as such. Attached again, the programs know nobody and
 *     list all anew.
 *   - mprotect runs under mmap_lock, where reading the file can deadlock: it is
 *     measured on the way back to user mode, when other threads can run it
 *     already. What is counted as lost there is in module/late.c.
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
extern int testbed_measure_start(const struct testbed_ident *ident,
				 struct task_struct *task) __ksym;
extern int testbed_measure_exe(struct task_struct *task, const struct testbed_ident *ident,
			       struct testbed_work *work) __ksym;
extern int testbed_measure_join(const struct testbed_ident *ident, __u64 joined,
				__u64 from) __ksym;
extern int testbed_measure_launch(const struct testbed_ident *ident,
				  const struct testbed_verity_layout *layout) __ksym;
extern int testbed_commit_launch(const struct testbed_ident *ident,
				 const struct testbed_verity_layout *layout) __ksym;
extern int testbed_claim(const struct testbed_claim *claim) __ksym;
extern int testbed_beat(__u32 event, __u64 interval, __u64 skipped) __ksym;
extern void testbed_count_lost(__u64 n) __ksym;
extern int testbed_measure_later(struct vm_area_struct *vma,
				 const struct testbed_ident *ident) __ksym;
extern void testbed_watch_writer(struct file *file) __ksym;
extern void testbed_watch_size(struct dentry *dentry) __ksym;
extern __u64 testbed_take_tally(__u32 counter) __ksym;
extern int testbed_prototype_file(struct file *file, __u32 utsns) __ksym;
extern int testbed_prototype_image(__u32 utsns) __ksym;

/* Set by the loader before the programs are verified. */
const volatile __u32 mode = TESTBED_MODE_HOOKS;
const volatile __u32 host_mntns = 0;
const volatile __u32 host_utsns = 0;
/* Set by the loader when all that ran before is listed. */
volatile __u32 listed = 0;
/* Tasks to which a pass over all tasks gave an identity; read by the loader. */
volatile __u32 found = 0;

/* ---- maps ---- */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TESTBED_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

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

/*
 * What a task is:
 *
 *   no member            host
 *   seq 0, no home       host: process 1 forked it
 *   seq 0, home          host: of a service in a root of its own
 *   seq                  of that container
 *
 * A room is memory for who may become a member, and is one of nobody until then.
 */
struct member {
	struct testbed_ident ident;
	struct place home;
	__u64 room;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct member);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct place);
	__type(value, struct testbed_ident);
} places SEC(".maps");

/* The inodes of our pinned links, filled by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct testbed_pin);
	__type(value, __u8);
} pins SEC(".maps");

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

/* What a container got of a file that is hashed each time: its last entry's content. */
struct content {
	__u64 sb;
	__u64 ino;
	__u64 generation;
	__u8 digest[TESTBED_SHA256_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct cache_key);
	__type(value, struct content);
} contents SEC(".maps");

/* Containers whose launch is committed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} launched SEC(".maps");

/* ---- counting ---- */

/* Folded to a constant, or to a few comparisons, by the compiler. */
static __always_inline bool is_unmeasured(__u32 counter)
{
	switch (counter) {
#define CASE(id, name)                  \
	case TESTBED_COUNT_##id:        \
		return !__builtin_memcmp(name "           ", "unmeasured_", 11);
		TESTBED_COUNTERS(CASE)
#undef CASE
	}
	return true;
}

static __always_inline void add(__u32 counter, __u64 n)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		__sync_fetch_and_add(value, n);
}

/*
 * The module must know how much was lost whenever a beat is due, but cannot read
 * these counters. So what is lost is counted there, too: that is never the hot
 * path, so it may cost a call.
 */
static __always_inline void count_many(__u32 counter, __u64 n)
{
	add(counter, n);
	if (is_unmeasured(counter))
		testbed_count_lost(n);
}

static __always_inline void count(__u32 counter)
{
	count_many(counter, 1);
}

/* ---- identity ---- */

static __always_inline bool has_home(const struct member *member)
{
	return member->home.root_sb != NULL;
}

static __always_inline bool same_root(const struct place *a, const struct place *b)
{
	return a->root_sb == b->root_sb && a->root_dentry == b->root_dentry;
}

/* Fill @place and return true if the task's root is not that of process 1. */
static __always_inline bool outside_host(struct task_struct *task, struct place *place)
{
	struct mnt_namespace *mntns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	struct task_struct *init;

	/* No namespace: the task is exiting. */
	if (!mntns || BPF_CORE_READ(mntns, ns.inum) == host_mntns)
		return false;
	init = BPF_CORE_READ(task, thread_pid, numbers[0].ns, child_reaper);
	place->mntns = mntns_unique(mntns);
	place->root_sb = BPF_CORE_READ(task, fs, root.mnt, mnt_sb);
	place->root_dentry = BPF_CORE_READ(task, fs, root.dentry);
	if (!place->root_sb)
		return false;
	return place->root_sb != BPF_CORE_READ(init, fs, root.mnt, mnt_sb) ||
	       place->root_dentry != BPF_CORE_READ(init, fs, root.dentry);
}

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

static __always_inline void describe(struct task_struct *task, struct testbed_ident *ident)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	struct pid_namespace *pidns = NULL;

	__builtin_memset(ident, 0, sizeof(*ident));
	ident->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	ident->utsns = BPF_CORE_READ(task, nsproxy, uts_ns, ns.inum);
	ident->cgroup = cgroup_of(task);
	ident->started = BPF_CORE_READ(task, group_leader, start_boottime);
	/* The innermost of the namespaces in which the task has a number. */
	bpf_core_read(&pidns, sizeof(pidns), &pid->numbers[level].ns);
	ident->pidns = BPF_CORE_READ(pidns, ns.inum);
	/* Until all that ran before is listed, a start may be of what ran before. */
	if (!listed)
		ident->flags |= TESTBED_START_BEFORE;
}

/* The start entry precedes all others, so it is tried again until it is there. */
static __always_inline void log_start(struct testbed_ident *ident, struct task_struct *task)
{
	int outcome;

	if (ident->start_logged)
		return;
	outcome = testbed_measure_start(ident, task);
	count(outcome);
	if (outcome == TESTBED_COUNT_STARTS || outcome == TESTBED_COUNT_DUPLICATES)
		ident->start_logged = 1;
}

/* Log the start of who lives at @place, and remember there that it is logged. */
static __always_inline void log_start_at(struct place *place, struct testbed_ident *ident,
					 struct task_struct *task)
{
	struct testbed_ident *known;

	log_start(ident, task);
	known = bpf_map_lookup_elem(&places, place);
	if (known && ident->start_logged)
		known->start_logged = 1;
}

/*
 * Begin a container at @place, started from container @parent. Two tasks may come
 * here at once: the one that loses takes the winner's identity. It may log the
 * same start again, which IMA drops as a duplicate.
 */
static __always_inline void begin(struct task_struct *task, struct place *place,
				  struct testbed_ident *ident, __u64 parent)
{
	struct testbed_ident *known;

	describe(task, ident);
	ident->parent = parent;
	ident->seq = testbed_new_seq();
	if (bpf_map_update_elem(&places, place, ident, BPF_NOEXIST) == 0)
		count(TESTBED_COUNT_CONTAINERS);
	known = bpf_map_lookup_elem(&places, place);
	if (!known)
		count(TESTBED_COUNT_PLACES_FULL);
	else if (known->seq)
		*ident = *known;
	log_start_at(place, ident, task);
	ident->launching = 1;
}

/*
 * What the task becomes that executes a program at @fresh->home, where it has not
 * done so before. Return false if it stays what it is.
 */
static __always_inline bool settle(struct task_struct *task, struct member *member,
				   struct member *fresh)
{
	struct testbed_ident *known = bpf_map_lookup_elem(&places, &fresh->home);
	__u64 from = member ? member->ident.seq : 0;

	if (known && known->seq) {
		fresh->ident = *known;
		log_start_at(&fresh->home, &fresh->ident, task);
		if (known->seq != from)
			count(testbed_measure_join(&fresh->ident,
						   BPF_CORE_READ(task, group_leader, start_boottime),
						   from));
		return true;
	}
	if (from) {
		if (known || cgroup_of(task) == member->ident.cgroup)
			return false;
	} else if (known || (member && !has_home(member))) {
		/* `ident` is all zero, in the map as well: of the host. */
		bpf_map_update_elem(&places, &fresh->home, &fresh->ident, BPF_NOEXIST);
		return true;
	}
	begin(task, &fresh->home, &fresh->ident, from);
	return true;
}

static __always_inline struct member *member_of(struct task_struct *task)
{
	struct member *member = bpf_task_storage_get(&members, task, NULL, 0);

	return member && !member->room ? member : NULL;
}

static __always_inline struct member *enlist(struct task_struct *task, struct member *fresh)
{
	struct member *member;

	member = bpf_task_storage_get(&members, task, fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!member)
		count(TESTBED_COUNT_NO_IDENTITY);
	else
		*member = *fresh;
	return member;
}

/* The identity of a member, NULL for the host. */
static __always_inline struct testbed_ident *ident_of(struct member *member)
{
	return member && member->ident.seq ? &member->ident : NULL;
}

/* The identity of the task that executes a program, NULL for the host. */
static __always_inline struct testbed_ident *identify(struct task_struct *task)
{
	struct member *member = member_of(task);
	struct member fresh = {};

	/* Most have not moved: ask what is cheap to know first. */
	if (member && has_home(member) &&
	    mntns_unique(task->nsproxy->mnt_ns) == member->home.mntns)
		return ident_of(member);
	if (!outside_host(task, &fresh.home))
		return ident_of(member);
	if (member && has_home(member) && same_root(&member->home, &fresh.home))
		return ident_of(member);
	if (settle(task, member, &fresh))
		member = enlist(task, &fresh);
	return ident_of(member);
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
static __always_inline bool is_known(struct inode *inode, struct testbed_ident *ident)
{
	struct cache_key key = { .seq = ident->seq, .inode = (__u64)inode };
	struct testbed_stamp *known = bpf_map_lookup_elem(&cache, &key);

	return inode && known && unchanged(inode, known);
}

/* Without this the same content would be an entry for each route to it. */
static __always_inline void recall(struct cache_key *key, struct testbed_stamp *stamp,
				   struct testbed_work *work)
{
	struct content *last = bpf_map_lookup_elem(&contents, key);

	if (!last || last->sb != stamp->sb || last->ino != stamp->ino ||
	    last->generation != stamp->generation)
		return;
	__builtin_memcpy(work->digest, last->digest, sizeof(work->digest));
	work->known = 1;
}

static __always_inline void remember(struct cache_key *key, struct testbed_stamp *stamp,
				     struct testbed_work *work)
{
	struct content last = {
		.sb = stamp->sb,
		.ino = stamp->ino,
		.generation = stamp->generation,
	};

	__builtin_memcpy(last.digest, work->digest, sizeof(last.digest));
	bpf_map_update_elem(&contents, key, &last, BPF_ANY);
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

	if (is_known(real_inode(file), ident)) {
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
		recall(&key, &stamp, &work);
	}

	log_start(ident, bpf_get_current_task_btf());
	outcome = testbed_measure_file(file, ident, &work);
	count(outcome);
	count_many(TESTBED_COUNT_BYTES, work.bytes);
	if (work.no_path)
		count(TESTBED_COUNT_NO_PATH);
	if (outcome != TESTBED_COUNT_FILES && outcome != TESTBED_COUNT_DUPLICATES)
		return;
	if (!can_cache) {
		remember(&key, &stamp, &work);
		return;
	}
	if (testbed_stamp_file(file, &after) == 0 && same_stamp(&stamp, &after))
		bpf_map_update_elem(&cache, &key, &stamp, BPF_ANY);
	else
		count(TESTBED_COUNT_CHANGED);
}

static __always_inline void launch(struct testbed_ident *ident)
{
	struct testbed_verity_layout layout = {};
	int outcome;

	fill_verity_layout(&layout);
	outcome = testbed_measure_launch(ident, &layout);
	if (outcome)
		count(outcome);
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

static __always_inline bool is_measuring(void)
{
	return mode != TESTBED_MODE_HOOKS && !is_prototype();
}

/*
 * What process 1 forks is marked, so that a service in a root of its own is known
 * by it. The mark itself is not inherited: the rest of the host descends from it.
 */
SEC("lsm/task_alloc")
int BPF_PROG(inherit, struct task_struct *task, unsigned long clone_flags)
{
	struct task_struct *parent;
	struct member *member;

	if (!is_measuring())
		return 0;
	parent = bpf_get_current_task_btf();
	member = member_of(parent);
	if (member && !has_home(member))
		member = NULL;
	if (!member && parent->tgid != 1)
		return 0;
	if (!bpf_task_storage_get(&members, task, member, BPF_LOCAL_STORAGE_GET_F_CREATE))
		count(TESTBED_COUNT_NO_IDENTITY);
	return 0;
}

/*
 * Have memory ready for who may get an identity next. Until 6.1 a task's storage is
 * refused to all others on that CPU while one asks for it, looking included, and a
 * program that may sleep can sleep for memory right then: starts at the same time
 * lost identities. This one may not sleep, and who comes after it need not.
 */
SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(make_room, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct member room = { .room = 1 };
	struct place place = {};

	if (mode == TESTBED_MODE_HOOKS || is_prototype() || member_of(task))
		return 0;
	if (outside_host(task, &place))
		bpf_task_storage_get(&members, task, &room, BPF_LOCAL_STORAGE_GET_F_CREATE);
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
	if (!ident)
		return 0;
	measure(bprm->file, ident, TESTBED_ROUTE_EXEC);
	if (mode == TESTBED_MODE_IMAGE && ident->launching)
		launch(ident);
	return 0;
}

/* A container has one launch, whoever of its first processes comes here first. */
SEC("lsm/bprm_committed_creds")
int BPF_PROG(note_launch, struct linux_binprm *bprm)
{
	struct testbed_verity_layout layout = {};
	struct testbed_ident *ident;
	int outcome;
	__u8 one = 1;

	if (mode != TESTBED_MODE_IMAGE)
		return 0;
	ident = ident_of(member_of(bpf_get_current_task_btf()));
	if (!ident || !ident->launching)
		return 0;
	ident->launching = 0;
	if (bpf_map_update_elem(&launched, &ident->seq, &one, BPF_NOEXIST))
		return 0;
	fill_verity_layout(&layout);
	outcome = testbed_commit_launch(ident, &layout);
	if (outcome)
		count(outcome);
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
	struct member *member;

	if (mode == TESTBED_MODE_HOOKS || !(prot & PROT_EXEC))
		return 0;
	task = bpf_get_current_task_btf();
	if (is_prototype()) {
		ns = prototype_ns(task);
		if (ns && mode == TESTBED_MODE_PROTOTYPE_FILE && have_file(file))
			count(testbed_prototype_file(file, ns));
		return 0;
	}
	member = member_of(task);
	ident = ident_of(member);
	if (!ident) {
		if (!member && outside_host(task, &place))
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

/* What an overlay has mapped is the real file, so its inode is the one to ask for. */
SEC("lsm/file_mprotect")
int BPF_PROG(measure_mprotect, struct vm_area_struct *vma, unsigned long reqprot,
	     unsigned long prot)
{
	struct testbed_ident *ident;
	struct file *file;

	if (!is_measuring() || !(prot & PROT_EXEC) || (vma->vm_flags & VM_EXEC))
		return 0;
	ident = ident_of(member_of(bpf_get_current_task_btf()));
	if (!ident)
		return 0;
	file = vma->vm_file;
	if (!file)
		count(TESTBED_COUNT_ANON_EXEC);
	else if (is_known(file->f_inode, ident))
		count(TESTBED_COUNT_CACHE_HITS);
	else
		count(testbed_measure_later(vma, ident));
	return 0;
}

/* The reading task is a container's: what a kernel thread loads is the host's. */
SEC("lsm.s/kernel_read_file")
int BPF_PROG(measure_kernel_read, struct file *file, enum kernel_read_file_id id, bool contents)
{
	struct testbed_ident *ident;

	if (!is_measuring())
		return 0;
	ident = ident_of(member_of(bpf_get_current_task_btf()));
	if (ident)
		measure(file, ident, TESTBED_ROUTE_KERNEL);
	return 0;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(count_load_data, enum kernel_load_data_id id, bool contents)
{
	if (is_measuring() && ident_of(member_of(bpf_get_current_task_btf())))
		count(TESTBED_COUNT_LOAD_DATA);
	return 0;
}

SEC("lsm.s/file_open")
int BPF_PROG(watch_writer, struct file *file)
{
	if (is_measuring() && (file->f_mode & FMODE_WRITE))
		testbed_watch_writer(file);
	return 0;
}

SEC("lsm.s/inode_setattr")
int watch_size(__u64 *ctx)
{
	struct setattr_args args;

	if (!is_measuring())
		return 0;
	args = setattr_args(ctx);
	if (args.attr->ia_valid & ATTR_SIZE)
		testbed_watch_size(args.dentry);
	return 0;
}

/*
 * The last name of a pinned link goes: unlinked, or with its file system, however
 * that ends (umount, umount -l of what is above it, the end of its mount
 * namespace). The hooks for unlink and umount would see only some of these, and
 * would see an unlink that fails or whose file is held open. This comes before the
 * link is put, so that this program is there to say so. LSM links know neither
 * BPF_LINK_DETACH nor BPF_LINK_UPDATE, so there is no other way to take one away.
 */
SEC("lsm.s/inode_free_security")
int BPF_PROG(watch_pins, struct inode *inode)
{
	struct testbed_pin pin = {};
	int outcome;

	if (mode == TESTBED_MODE_HOOKS || inode->i_sb->s_magic != BPF_FS_MAGIC)
		return 0;
	pin.dev = inode->i_sb->s_dev;
	pin.ino = inode->i_ino;
	if (!bpf_map_lookup_elem(&pins, &pin))
		return 0;
	outcome = testbed_beat(TESTBED_BEAT_DETACHED, 0, 0);
	if (outcome >= 0)
		count(outcome);
	return 0;
}

/* ---- run by the loader ---- */

/* One task of all. The loader repeats the pass until one finds nobody new. */
SEC("iter.s/task")
int list_running(struct bpf_iter__task *ctx)
{
	struct testbed_work work = { .route = TESTBED_ROUTE_BEFORE };
	struct task_struct *task = ctx->task;
	struct testbed_ident *known;
	struct member fresh = {};
	int outcome;

	/* A kernel thread may have a namespace of its own (kdevtmpfs). */
	if (!task || (task->flags & PF_KTHREAD) || member_of(task))
		return 0;
	if (!outside_host(task, &fresh.home))
		return 0;
	known = bpf_map_lookup_elem(&places, &fresh.home);
	if (known) {
		fresh.ident = *known;
		log_start_at(&fresh.home, &fresh.ident, task);
	} else {
		begin(task, &fresh.home, &fresh.ident, 0);
		/* It runs already. */
		fresh.ident.launching = 0;
	}
	if (!enlist(task, &fresh))
		return 0;
	found++;
	/* Threads have one program together, also when the first one has ended. */
	if (task->pid != task->tgid && task->group_leader->mm)
		return 0;
	outcome = testbed_measure_exe(task, &fresh.ident, &work);
	if (outcome < 0)
		return 0;
	count(outcome);
	count_many(TESTBED_COUNT_BYTES, work.bytes);
	if (work.no_path)
		count(TESTBED_COUNT_NO_PATH);
	return 0;
}

SEC("syscall")
int beat(struct testbed_beat_ask *ask)
{
	int outcome = testbed_beat(ask->event, ask->interval, ask->skipped);

	if (outcome >= 0)
		count(outcome);
	return outcome;
}

/* The module cannot write our map: add what it has counted since this ran last. */
SEC("syscall")
int collect(void *ctx)
{
	for (__u32 id = 0; id < TESTBED_COUNTER_MAX; id++)
		add(id, testbed_take_tally(id));
	return 0;
}

SEC("syscall")
int claim(struct testbed_claim *claim)
{
	struct testbed_claim copy = *claim;

	return testbed_claim(&copy);
}
