// SPDX-License-Identifier: GPL-2.0
/*
 * Which code is measured, and for which container.
 *
 * Hooks, in the order in which a container meets them:
 *
 *   lsm/task_alloc             fork, clone: the child gets its parent's identity;
 *                              marks the children of process 1
 *   tp_btf/sched_process_fork  counts the tasks of a container
 *   lsm/bprm_creds_for_exec    execve: has memory ready for an identity (kernel 6.1)
 *   lsm.s/bprm_creds_for_exec  execveat(AT_EXECVE_CHECK): measures the file (6.14)
 *   lsm.s/bprm_check_security  execve: gives an identity to the first program of
 *                              a container; measures the file, and with #! the
 *                              script and then its interpreter
 *   lsm/bprm_committed_creds   execve again, when it can fail no more: the first
 *                              program of a container has been launched
 *   lsm.s/mmap_file            mmap: measures what is mapped with PROT_EXEC, also
 *                              when READ_IMPLIES_EXEC asks for it; this is how
 *                              the dynamic linker and libraries are seen
 *   lsm/file_mprotect          has a file that becomes executable only here
 *                              measured when the task leaves the kernel
 *   lsm.s/kernel_read_file     measures what the kernel reads for a container:
 *                              modules, firmware, kernels, policies, keys
 *   lsm/kernel_load_data       says that it is lost if it takes it from memory and
 *                              does not show it
 *   lsm/kernel_post_load_data  logs a module that it took from memory
 *   lsm.s/bpf                  logs what a container does with BPF
 *   lsm.s/file_open            voids what is promised of a file that is opened for
 *                              writing, by anybody, and says so in the log when it
 *                              is code in use; says that the programs are detached
 *                              when somebody is about to switch them off; drops the
 *                              pages of what a container is about to execute
 *   lsm.s/inode_setattr        likewise when it is truncated by its name; says that a
 *                              layer of an image changes
 *   lsm.s/sb_set_mnt_opts      has the layers of a new overlay watched
 *   lsm/inode_create, _link, _unlink, _symlink, _mkdir, _rmdir, _mknod, _rename,
 *   _setxattr, _removexattr, _set_acl, _remove_acl, d_instantiate, sb_remount
 *                              say that a layer of an image changes
 *   lsm/sb_free_security       forgets an overlay
 *   lsm.s/inode_free_security  forgets what is known of an inode; says in the log
 *                              that a pin of these programs goes
 *   tp_btf/sched_process_exit  the last task of a container ends
 *
 * and, run by the loader, not attached:
 *
 *   iter.s/task                gives an identity to the containers that run
 *                              already, and measures their running programs;
 *                              lists the mounts of containers that changed them
 *   syscall                    logs a beat; passes to the module what it must know;
 *                              fetches the module's counters
 *
 * The hooks are attached in every mode; in mode "hooks" they decide nothing.
 * Nothing is ever denied: these programs watch.
 *
 * In mode image the first execve of a container also has its image and its launch
 * logged: not here, but by the module, when the process returns to user mode.
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
 *   - Of a container that ran when the programs were attached, neither the parent is
 *     known nor the libraries that it has mapped, and its start says BEFORE. Services
 *     with RootDirectory= that ran already cannot be told from containers by
 *     then: they are listed as containers. If the programs are attached again, they
 *     know no container, and list all of them again.
 *   - Code that is not a file (JIT, anonymous memory), and pages of a private mapping
 *     that are rewritten, are counted, not measured.
 *   - A kernel without commit 271de525e1d7 ("bpf: Remove prog->active check for
 *     bpf_lsm and bpf_iter", 6.2, also in Debian's 6.1) skips a program that
 *     sleeps on the same CPU already. The kernel counts that, and the loader
 *     shows it as unmeasured_skipped. Any kernel skips count_fork and count_exit
 *     in this way (uncounted_tasks): they measure nothing.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "compat.bpf.h"
#include "counters.bpf.h"
#include "measurer.h"

char LICENSE[] SEC("license") = "GPL";

extern __u64 testbed_new_seq(void) __ksym;
extern int testbed_settle_program(struct file *file,
				  const struct testbed_ident *ident) __ksym;
extern int testbed_measure_exec(struct linux_binprm *bprm, const struct testbed_ident *ident,
				struct testbed_stamp *stamp) __ksym;
extern int testbed_measure_file(struct file *file, const struct testbed_ident *ident, __u32 route,
				struct testbed_stamp *stamp) __ksym;
extern int testbed_measure_mprotect(struct vm_area_struct *vma,
				    const struct testbed_ident *ident) __ksym;
extern int testbed_measure_exe(struct task_struct *task,
			       const struct testbed_ident *ident) __ksym;
extern int testbed_measure_start(const struct testbed_ident *ident,
				 struct task_struct *task) __ksym;
extern int testbed_measure_join(const struct testbed_ident *ident, __u64 joined,
				__u64 from) __ksym;
extern int testbed_measure_launch(const struct testbed_ident *ident) __ksym;
extern int testbed_commit_launch(const struct testbed_ident *ident) __ksym;
extern int testbed_measure_mounts(struct task_struct *task, const struct testbed_ident *ident,
				  __u64 event, __u32 flags) __ksym;
extern int testbed_measure_module(const struct testbed_ident *ident, __u64 data,
				  __u64 size) __ksym;
extern int testbed_measure_program(const struct testbed_ident *ident, __u32 command,
				   __u64 instructions, __u32 count) __ksym;
extern void testbed_watch_writer(struct file *file) __ksym;
extern void testbed_watch_size(struct dentry *dentry) __ksym;
extern void testbed_watch_inode(struct inode *inode) __ksym;
extern void testbed_watch_overlay(struct super_block *sb) __ksym;
extern void testbed_watch_super(struct super_block *sb) __ksym;
extern void testbed_watch_name(struct dentry *dentry) __ksym;
extern void testbed_watch_node(struct dentry *dentry) __ksym;
extern void testbed_watch_alias(struct inode *inode) __ksym;
extern int testbed_is_code_of_image(struct file *file, const struct testbed_ident *ident) __ksym;
extern void testbed_end_container(__u64 seq) __ksym;
extern void testbed_count_lost(__u32 n) __ksym;
extern void testbed_count_of(const struct testbed_ident *ident, __u32 counter) __ksym;
extern int testbed_beat(__u32 event, __u64 interval, __u64 skipped, __u32 proved) __ksym;
extern int testbed_set_layout(const struct testbed_layout *layout) __ksym;
extern int testbed_measure_part(const struct testbed_part_file *part) __ksym;
extern int testbed_claim(const struct testbed_claim *claim) __ksym;

/* A variable of the module: stamps with an id below it are void. Its address is known by its name. */
extern const void testbed_oldest_id __ksym;

/* Set by the loader before the programs are verified. */
const volatile __u32 mode = TESTBED_MODE_HOOKS;
const volatile __u32 host_mntns = 0;

/* All that ran before is listed. */
__u32 listed;
/* Tasks to which a pass over all tasks gave an identity. */
__u32 found;
/* The process whose acts prove the hooks, and which of them have seen it. */
int canary;
__u32 proved;

/* ---- maps ---- */

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
	__u64 counted; /* the container among whose tasks it is counted */
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

/* The tasks of a container, and where it lives. One that is not here never ends. */
struct population {
	__u64 tasks;
	struct place home;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct population);
} populations SEC(".maps");

/* The inodes of our pinned links, filled by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct testbed_pin);
	__type(value, __u8);
} pins SEC(".maps");

/* What a container is known to have got, by the address of the inode that is mapped. */
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

/*
 * Which inode is at an address: the id of the stamps that are true of it. It goes with
 * the inode (forget_inode), so a stamp of the one that was there before is equal to
 * none.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, __u64);
} ids SEC(".maps");

/* Containers whose launch is committed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} launched SEC(".maps");

/* From which root mounts are seen: nothing is listed of what cannot be reached from there. */
struct view {
	__u64 mntns;
	__u64 root;  /* address of the root's dentry */
	__u64 inode; /* its number: addresses come again */
	__u64 mount; /* address of its mount */
};

/* How often the mounts of a mount namespace had changed when they were listed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct view);
	__type(value, __u64);
} mount_events SEC(".maps");

/* ---- modes ---- */

static __always_inline bool is_measuring(void)
{
	return mode != TESTBED_MODE_HOOKS;
}

/* Are images measured, and layers watched? */
static __always_inline bool is_launching(void)
{
	return mode == TESTBED_MODE_IMAGE || mode == TESTBED_MODE_DRIFT;
}

/* ---- counting ---- */

static __always_inline void count(__u32 counter)
{
	add(counter, 1);
}

/* Nobody knows of which container. */
static __always_inline void count_lost(__u32 counter)
{
	add(counter, 1);
	testbed_count_lost(1);
}

/* ---- proofs ---- */

/* The loader, or its child, does what @hook watches, to see whether it is seen. */
static __always_inline void prove(__u32 hook)
{
	struct task_struct *task;

	if (!canary)
		return;
	task = bpf_get_current_task_btf();
	if (task->tgid == canary || BPF_CORE_READ(task, real_parent, tgid) == canary)
		__sync_fetch_and_or(&proved, hook);
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
	if (outcome == TESTBED_COUNT_STARTS || outcome == TESTBED_COUNT_DUPLICATES)
		ident->start_logged = 1;
}

/* Log the start of the container at @place, and remember there that it is logged. */
static __always_inline void log_start_at(struct place *place, struct testbed_ident *ident,
					 struct task_struct *task)
{
	struct testbed_ident *known;

	log_start(ident, task);
	known = bpf_map_lookup_elem(&places, place);
	if (known && ident->start_logged)
		known->start_logged = 1;
}

/* Begin to count the tasks of the container that begins at @place. */
static __always_inline void populate(__u64 seq, const struct place *place)
{
	struct population none = { .home = *place };

	bpf_map_update_elem(&populations, &seq, &none, BPF_NOEXIST);
}

static __always_inline void count_task(__u64 seq)
{
	struct population *population = bpf_map_lookup_elem(&populations, &seq);

	if (population)
		__sync_fetch_and_add(&population->tasks, 1);
}

/*
 * A task of container @seq ends, or is of another one from now on. With the last one
 * the place goes, too: a task that enters it later, by a namespace that was kept, begins a new
 * container.
 */
static __always_inline void leave(__u64 seq)
{
	struct population *population = bpf_map_lookup_elem(&populations, &seq);
	struct place home;

	if (!population || __sync_fetch_and_add(&population->tasks, -1) != 1)
		return;
	home = population->home;
	bpf_map_delete_elem(&places, &home);
	bpf_map_delete_elem(&populations, &seq);
	bpf_map_delete_elem(&launched, &seq);
	testbed_end_container(seq);
}

/*
 * Begin a container at @place, started from container @parent (NULL: the host). Two
 * tasks may come here at once: the one that loses takes the winner's identity. It may
 * log the same start again, which IMA drops as a duplicate.
 */
static __always_inline void begin(struct task_struct *task, struct place *place,
				  struct testbed_ident *ident, const struct testbed_ident *parent)
{
	struct testbed_ident *known;

	describe(task, ident);
	ident->seq = testbed_new_seq();
	ident->parent = parent ? parent->seq : 0;
	ident->outermost = parent ? parent->outermost : ident->seq;
	if (bpf_map_update_elem(&places, place, ident, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&places, place);
		if (known)
			*ident = *known;
		else
			count_lost(TESTBED_COUNT_PLACES_FULL);
	} else {
		populate(ident->seq, place);
		count(TESTBED_COUNT_CONTAINERS);
	}
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
	const struct testbed_ident *from = member && member->ident.seq ? &member->ident : NULL;

	if (known && known->seq) {
		fresh->ident = *known;
		log_start_at(&fresh->home, &fresh->ident, task);
		if (!from || known->seq != from->seq)
			testbed_measure_join(&fresh->ident,
					     BPF_CORE_READ(task, group_leader, start_boottime),
					     from ? from->seq : 0);
		return true;
	}
	if (from) {
		if (known || cgroup_of(task) == from->cgroup)
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
	__u64 before;

	member = bpf_task_storage_get(&members, task, fresh, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!member) {
		count_lost(TESTBED_COUNT_NO_IDENTITY);
		return NULL;
	}
	before = member->counted;
	*member = *fresh;
	member->counted = fresh->ident.seq;
	if (before != fresh->ident.seq) {
		if (fresh->ident.seq)
			count_task(fresh->ident.seq);
		if (before)
			leave(before);
	}
	return member;
}

/* The identity of a member, NULL for the host. */
static __always_inline struct testbed_ident *ident_of(struct member *member)
{
	return member && member->ident.seq ? &member->ident : NULL;
}

static __always_inline struct testbed_ident *own_ident(void)
{
	return ident_of(member_of(bpf_get_current_task_btf()));
}

/* Count a task among those of its container, unless it is counted already. */
static __always_inline void count_member(struct member *member)
{
	if (!member || !member->ident.seq || member->counted)
		return;
	member->counted = member->ident.seq;
	count_task(member->ident.seq);
}

/* What is known of a task that executes a program, after it may have moved. */
static __always_inline struct member *moved_member(struct task_struct *task)
{
	struct member *member = member_of(task);
	struct member fresh = {};

	/* Most have not moved: ask what is cheap to know first. */
	if (member && has_home(member) &&
	    mntns_unique(task->nsproxy->mnt_ns) == member->home.mntns)
		return member;
	if (!outside_host(task, &fresh.home))
		return member;
	if (member && has_home(member) && same_root(&member->home, &fresh.home))
		return member;
	if (settle(task, member, &fresh))
		member = enlist(task, &fresh);
	return member;
}

/* The identity of the task that executes a program, NULL for the host. */
static __always_inline struct testbed_ident *identify(struct task_struct *task)
{
	struct member *member = moved_member(task);

	/* Its fork may have been skipped: see count_fork. */
	count_member(member);
	return ident_of(member);
}

/* ---- known content ---- */

/*
 * Is what the module promised of @stamp's content still true of the inode? It has
 * queried the version, and the kernel marks that in the counter: a change, or an open
 * for writing, clears the mark and raises the number. Who could change the content
 * without raising it once more (who has it open for writing, or mapped so) is looked
 * for last.
 */
static __always_inline bool unchanged(struct inode *inode, const struct testbed_stamp *stamp)
{
	struct inode_state now;
	__u64 version;

	read_inode_state(inode, &now);
	version = now.version >> 1 | (now.flags & S_VERITY ? TESTBED_STAMP_VERITY : 0);
	return (now.version & I_VERSION_QUERIED) && version == stamp->version &&
	       now.size == stamp->size && now.ctime_sec == stamp->ctime_sec &&
	       now.ctime_nsec == stamp->ctime_nsec &&
	       now.writers <= 0 && now.writable_mappings <= 0;
}

static __always_inline __u64 oldest_id(void)
{
	__u64 id = ~0ull;

	bpf_probe_read_kernel(&id, sizeof(id), &testbed_oldest_id);
	return id;
}

/* The hot path: this container has got this content already. */
static __always_inline bool is_known(struct inode *inode, const struct testbed_ident *ident)
{
	struct cache_key key = { .seq = ident->seq, .inode = (__u64)inode };
	struct testbed_stamp *known = bpf_map_lookup_elem(&cache, &key);
	__u64 *id;

	if (!known || !inode)
		return false;
	id = bpf_map_lookup_elem(&ids, &key.inode);
	return id && *id == known->id && known->id >= oldest_id() && unchanged(inode, known);
}

static __always_inline void remember(const struct testbed_ident *ident, struct testbed_stamp *stamp)
{
	struct cache_key key = { .seq = ident->seq, .inode = stamp->inode };

	bpf_map_update_elem(&ids, &stamp->inode, &stamp->id, BPF_ANY);
	bpf_map_update_elem(&cache, &key, stamp, BPF_ANY);
}

/* ---- measuring ---- */

/* Has the container got just this already, by an entry or with its image? */
static __always_inline bool is_logged(struct file *file, struct inode *inode,
				      const struct testbed_ident *ident)
{
	if (is_known(inode, ident)) {
		count(TESTBED_COUNT_CACHE_HITS);
		return true;
	}
	return mode == TESTBED_MODE_DRIFT && testbed_is_code_of_image(file, ident);
}

static __always_inline void measure(struct file *file, struct testbed_ident *ident, __u32 route)
{
	struct testbed_stamp stamp = {};

	if (is_logged(file, real_inode(file), ident))
		return;
	log_start(ident, bpf_get_current_task_btf());
	if (testbed_measure_file(file, ident, route, &stamp))
		remember(ident, &stamp);
}

/* Before the kernel goes by what it has read of the file. */
static __always_inline void measure_program(struct linux_binprm *bprm, struct testbed_ident *ident)
{
	struct testbed_stamp stamp = {};

	if (is_logged(bprm->file, real_inode(bprm->file), ident))
		return;
	log_start(ident, bpf_get_current_task_btf());
	if (testbed_measure_exec(bprm, ident, &stamp))
		remember(ident, &stamp);
}

static __always_inline void fill_view(struct task_struct *task, struct mnt_namespace *ns,
				      struct view *view)
{
	view->mntns = mntns_unique(ns);
	view->root = (__u64)BPF_CORE_READ(task, fs, root.dentry);
	view->inode = BPF_CORE_READ(task, fs, root.dentry, d_inode, i_ino);
	view->mount = (__u64)BPF_CORE_READ(task, fs, root.mnt);
}

/* The namespace of the mount in which the task's root is. */
static __always_inline struct mnt_namespace *mount_namespace(struct task_struct *task)
{
	void *mnt = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *mount = mnt - bpf_core_field_offset(struct mount, mnt);

	return BPF_CORE_READ(mount, mnt_ns);
}

/* List the mounts that @task sees, if they have changed since they were listed. */
static __always_inline void measure_mounts(struct task_struct *task,
					   const struct testbed_ident *ident,
					   const struct place *home)
{
	struct mnt_namespace *ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	__u64 event, *known;
	struct view key;
	__u32 flags = 0;

	if (!ns)
		return;
	fill_view(task, ns, &key);
	event = mntns_event(ns);
	known = bpf_map_lookup_elem(&mount_events, &key);
	if (known && *known == event)
		return;
	bpf_map_update_elem(&mount_events, &key, &event, BPF_ANY);
	if (mount_namespace(task) != ns)
		flags |= TESTBED_MOUNTS_NONE;
	if (home->root_dentry != (struct dentry *)key.root)
		flags |= TESTBED_MOUNTS_OTHER_ROOT;
	testbed_measure_mounts(task, ident, event, flags);
}

static __always_inline void measure_own_mounts(struct task_struct *task,
					       const struct testbed_ident *ident)
{
	struct member *member = member_of(task);

	if (member)
		measure_mounts(task, ident, &member->home);
}

/* What is mapped now the launch tells. */
static __always_inline void note_mounts(struct task_struct *task)
{
	struct mnt_namespace *ns = BPF_CORE_READ(task, nsproxy, mnt_ns);
	struct view key;
	__u64 event;

	if (!ns)
		return;
	fill_view(task, ns, &key);
	event = mntns_event(ns);
	bpf_map_update_elem(&mount_events, &key, &event, BPF_ANY);
}

/* ---- programs ---- */

/*
 * What process 1 forks is marked, so that a service in a root of its own is known
 * by it. The mark itself is not inherited: the rest of the host descends from it.
 */
SEC("lsm/task_alloc")
int BPF_PROG(inherit, struct task_struct *task, unsigned long clone_flags)
{
	struct task_struct *parent;
	struct member *member, child = {};

	if (!is_measuring())
		return 0;
	prove(TESTBED_PROOF_FORK);
	parent = bpf_get_current_task_btf();
	member = member_of(parent);
	if (member && has_home(member)) {
		child = *member;
		child.counted = 0;
	} else if (parent->tgid != 1) {
		return 0;
	}
	if (bpf_task_storage_get(&members, task, &child, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return 0;
	if (member && member->ident.seq)
		testbed_count_of(&member->ident, TESTBED_COUNT_NO_MEMORY);
	else
		count_lost(TESTBED_COUNT_NO_IDENTITY);
	return 0;
}

/*
 * A fork can fail after task_alloc: a task is counted when it is there.
 *
 * Where the kernel is preemptible it skips this program and the next one, if another
 * task was preempted in the same one on this processor. If a fork is not counted, its
 * container can end while the task lives: the task keeps its identity, and a task that
 * enters the place later begins a new container. If an exit is not counted, the record
 * of a container that has ended is kept.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(count_fork, struct task_struct *parent, struct task_struct *child)
{
	if (is_measuring())
		count_member(bpf_task_storage_get(&members, child, NULL, 0));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(count_exit, struct task_struct *task)
{
	struct member *member;
	__u64 seq;

	if (!is_measuring())
		return 0;
	member = bpf_task_storage_get(&members, task, NULL, 0);
	if (!member)
		return 0;
	/* Threads of the kernel that work for the task were never counted. */
	seq = member->counted;
	member->counted = 0;
	if (seq)
		leave(seq);
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

	if (!is_measuring() || member_of(task))
		return 0;
	if (outside_host(task, &place))
		bpf_task_storage_get(&members, task, &room, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

/* An interpreter asks whether it may run a script: nothing is executed, no identity given. */
SEC("lsm.s/bprm_creds_for_exec")
int BPF_PROG(measure_check, struct linux_binprm *bprm)
{
	struct testbed_ident *ident;

	if (!is_measuring() || !is_only_check(bprm))
		return 0;
	ident = own_ident();
	if (ident)
		measure_program(bprm, ident);
	return 0;
}

SEC("lsm.s/bprm_check_security")
int BPF_PROG(measure_exec, struct linux_binprm *bprm)
{
	struct testbed_ident *ident;
	struct task_struct *task;

	if (!is_measuring())
		return 0;
	prove(TESTBED_PROOF_EXEC);
	task = bpf_get_current_task_btf();
	ident = identify(task);
	if (!ident)
		return 0;
	measure_program(bprm, ident);
	if (!is_launching())
		return 0;
	if (ident->launching)
		testbed_measure_launch(ident);
	else
		measure_own_mounts(task, ident);
	return 0;
}

/* A container has one launch: that of the first of its processes that comes here. */
SEC("lsm/bprm_committed_creds")
int BPF_PROG(note_launch, struct linux_binprm *bprm)
{
	struct testbed_ident *ident;
	struct task_struct *task;
	__u8 one = 1;

	if (is_measuring())
		prove(TESTBED_PROOF_COMMITTED);
	if (!is_launching())
		return 0;
	task = bpf_get_current_task_btf();
	ident = ident_of(member_of(task));
	if (!ident || !ident->launching)
		return 0;
	ident->launching = 0;
	if (bpf_map_update_elem(&launched, &ident->seq, &one, BPF_NOEXIST))
		return 0;
	note_mounts(task);
	testbed_commit_launch(ident);
	return 0;
}

/*
 * With READ_IMPLIES_EXEC what can be read is code, unless its mount forbids that; and the
 * kernel asks the mount again when it holds the lock of the mappings.
 */
static __always_inline bool may_become_code(struct task_struct *task, struct file *file,
					    unsigned long reqprot)
{
	return (reqprot & PROT_READ) && (task->personality & READ_IMPLIES_EXEC) && have_file(file);
}

static __always_inline bool has_name(struct dentry *dentry, const char *name, __u32 size)
{
	const unsigned char *at = BPF_CORE_READ(dentry, d_name.name);
	char found[16] = {};

	return !bpf_probe_read_kernel(found, size, at) && !bpf_strncmp(found, size, name);
}

/*
 * Anonymous memory that is shared, or of huge pages, is a file of the kernel's. A
 * memfd's name begins with "memfd:", so no file of a user has these names there.
 */
static __always_inline bool is_anonymous(struct file *file)
{
	struct super_block *sb = file->f_inode->i_sb;

	if (!(sb->s_flags & SB_KERNMOUNT) ||
	    (sb->s_magic != TMPFS_MAGIC && sb->s_magic != HUGETLBFS_MAGIC))
		return false;
	return has_name(file->f_path.dentry, "dev/zero", sizeof("dev/zero")) ||
	       has_name(file->f_path.dentry, "anon_hugepage", sizeof("anon_hugepage"));
}

SEC("lsm.s/mmap_file")
int BPF_PROG(measure_mmap, struct file *file, unsigned long reqprot, unsigned long prot,
	     unsigned long flags)
{
	struct testbed_ident *ident;
	struct task_struct *task;
	struct place place = {};
	struct member *member;

	if (!is_measuring())
		return 0;
	task = bpf_get_current_task_btf();
	if (!(prot & PROT_EXEC) && !may_become_code(task, file, reqprot))
		return 0;
	prove(TESTBED_PROOF_MMAP);
	member = member_of(task);
	ident = ident_of(member);
	if (!ident) {
		if (!member && outside_host(task, &place))
			count_lost(TESTBED_COUNT_BEFORE_EXEC);
		return 0;
	}
	if (!have_file(file) || is_anonymous(file)) {
		count(TESTBED_COUNT_ANON_EXEC);
		return 0;
	}
	if ((prot & PROT_WRITE) && (flags & MAP_TYPE) == MAP_PRIVATE)
		count(TESTBED_COUNT_PRIVATE_EXEC);
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
	bool was;

	if (!is_measuring() || !(prot & PROT_EXEC))
		return 0;
	prove(TESTBED_PROOF_MPROTECT);
	was = vma->vm_flags & VM_EXEC;
	if (was && !(prot & PROT_WRITE))
		return 0;
	ident = own_ident();
	if (!ident)
		return 0;
	file = vma->vm_file;
	if (!file || is_anonymous(file)) {
		if (!was)
			count(TESTBED_COUNT_ANON_EXEC);
		return 0;
	}
	/* Pages of its own, that were written or can be. */
	if (!(vma->vm_flags & VM_SHARED) && ((prot & PROT_WRITE) || vma->anon_vma))
		count(TESTBED_COUNT_PRIVATE_EXEC);
	if (was)
		return 0;
	/* The module asks whether it is the image's: the file of a mapping is no trusted pointer. */
	if (is_known(file->f_inode, ident))
		count(TESTBED_COUNT_CACHE_HITS);
	else
		testbed_measure_mprotect(vma, ident);
	return 0;
}

/* The reading task is a container's: what a kernel thread loads is the host's. */
SEC("lsm.s/kernel_read_file")
int BPF_PROG(measure_kernel_read, struct file *file, enum kernel_read_file_id id, bool contents)
{
	struct testbed_ident *ident;

	if (!is_measuring())
		return 0;
	prove(TESTBED_PROOF_READ);
	ident = own_ident();
	if (ident)
		measure(file, ident, TESTBED_ROUTE_KERNEL);
	return 0;
}

SEC("lsm/kernel_load_data")
int BPF_PROG(count_load_data, enum kernel_load_data_id id, bool contents)
{
	struct testbed_ident *ident;

	if (!is_measuring())
		return 0;
	prove(TESTBED_PROOF_LOAD);
	/* The next hook has the bytes of a module. */
	if (contents && id == LOADING_MODULE)
		return 0;
	ident = own_ident();
	if (ident)
		testbed_count_of(ident, TESTBED_COUNT_LOAD_DATA);
	return 0;
}

SEC("lsm/kernel_post_load_data")
int BPF_PROG(measure_module, char *data, loff_t size, enum kernel_load_data_id id)
{
	struct testbed_ident *ident;

	if (!is_measuring() || id != LOADING_MODULE)
		return 0;
	ident = own_ident();
	if (ident)
		testbed_measure_module(ident, (__u64)data, size);
	return 0;
}

/* Commands that only ask, by a descriptor that the caller has. */
static __always_inline bool only_asks(int cmd)
{
	return cmd == BPF_MAP_LOOKUP_ELEM || cmd == BPF_MAP_GET_NEXT_KEY ||
	       cmd == BPF_OBJ_GET_INFO_BY_FD || cmd == BPF_BTF_LOAD;
}

SEC("lsm.s/bpf")
int BPF_PROG(measure_bpf, int cmd, union bpf_attr *attr, unsigned int size)
{
	struct testbed_ident *ident;
	__u64 instructions = 0;
	__u32 count = 0;

	if (!is_measuring())
		return 0;
	prove(TESTBED_PROOF_BPF);
	ident = own_ident();
	if (!ident || only_asks(cmd))
		return 0;
	if (cmd == BPF_PROG_LOAD) {
		bpf_probe_read_kernel(&instructions, sizeof(instructions), &attr->insns);
		bpf_probe_read_kernel(&count, sizeof(count), &attr->insn_cnt);
	}
	testbed_measure_program(ident, cmd, instructions, count);
	return 0;
}

/* Is it /proc/sys/kernel/ftrace_enabled? Other files of proc can have any name. */
static __always_inline bool is_switch(struct dentry *dentry)
{
	struct dentry *kernel = BPF_CORE_READ(dentry, d_parent);
	struct dentry *sys = BPF_CORE_READ(kernel, d_parent);
	struct dentry *top = BPF_CORE_READ(sys, d_parent);

	return has_name(dentry, "ftrace_enabled", sizeof("ftrace_enabled")) &&
	       has_name(kernel, "kernel", sizeof("kernel")) &&
	       has_name(sys, "sys", sizeof("sys")) && BPF_CORE_READ(top, d_parent) == top;
}

/* Files of proc by which code can be changed, or these programs be switched off. */
static __always_inline void watch_proc(struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;
	struct testbed_ident *ident;

	if (is_switch(dentry)) {
		testbed_beat(TESTBED_BEAT_DETACHED, 0, 0, 0);
	} else if (has_name(dentry, "mem", sizeof("mem"))) {
		ident = own_ident();
		if (ident)
			count(TESTBED_COUNT_MEMORY_OPENED);
	}
}

SEC("lsm.s/file_open")
int BPF_PROG(watch_writer, struct file *file)
{
	struct testbed_ident *ident;

	if (!is_measuring())
		return 0;
	if (file->f_flags & FMODE_EXEC) {
		ident = own_ident();
		if (ident)
			testbed_settle_program(file, ident);
		return 0;
	}
	if (!(file->f_mode & FMODE_WRITE))
		return 0;
	prove(TESTBED_PROOF_OPEN);
	if (file->f_inode->i_sb->s_magic == PROC_SUPER_MAGIC)
		watch_proc(file);
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
	if (args.attr->ia_valid & ATTR_SIZE) {
		prove(TESTBED_PROOF_SIZE);
		testbed_watch_size(args.dentry);
	} else if (is_launching() && (args.attr->ia_valid & (ATTR_MODE | ATTR_UID | ATTR_GID))) {
		testbed_watch_node(args.dentry);
	}
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
static __always_inline void watch_pin(struct inode *inode)
{
	struct testbed_pin pin = { .dev = inode->i_sb->s_dev, .ino = inode->i_ino };

	if (bpf_map_lookup_elem(&pins, &pin))
		testbed_beat(TESTBED_BEAT_DETACHED, 0, 0, 0);
}

SEC("lsm.s/inode_free_security")
int BPF_PROG(forget_inode, struct inode *inode)
{
	__u64 address = (__u64)inode;

	if (!is_measuring())
		return 0;
	if (inode->i_sb->s_magic == BPF_FS_MAGIC)
		watch_pin(inode);
	if ((inode->i_mode & S_IFMT) == S_IFREG)
		bpf_map_delete_elem(&ids, &address);
	else if (!is_launching() || (inode->i_mode & S_IFMT) != S_IFDIR)
		return 0;
	testbed_watch_inode(inode);
	return 0;
}

/* ---- layers of images ---- */

/*
 * What is below an overlay is watched from the moment at which that is made. These hooks
 * come before the change that they are about (module/layers.c).
 */
SEC("lsm.s/sb_set_mnt_opts")
int BPF_PROG(watch_overlay, struct super_block *sb)
{
	if (is_launching() && sb->s_magic == OVERLAYFS_SUPER_MAGIC)
		testbed_watch_overlay(sb);
	return 0;
}

SEC("lsm/sb_remount")
int BPF_PROG(watch_remount, struct super_block *sb)
{
	if (is_launching())
		testbed_watch_super(sb);
	return 0;
}

SEC("lsm/sb_free_security")
int BPF_PROG(forget_super, struct super_block *sb)
{
	if (is_launching())
		testbed_watch_super(sb);
	return 0;
}

SEC("lsm/inode_create")
int BPF_PROG(watch_create, struct inode *dir, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_name(dentry);
	return 0;
}

SEC("lsm/inode_link")
int BPF_PROG(watch_link, struct dentry *old_dentry, struct inode *dir, struct dentry *new_dentry)
{
	if (!is_launching())
		return 0;
	testbed_watch_node(old_dentry);
	testbed_watch_name(new_dentry);
	return 0;
}

SEC("lsm/inode_unlink")
int BPF_PROG(watch_unlink, struct inode *dir, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_name(dentry);
	return 0;
}

SEC("lsm/inode_symlink")
int BPF_PROG(watch_symlink, struct inode *dir, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_name(dentry);
	return 0;
}

SEC("lsm/inode_mkdir")
int BPF_PROG(watch_mkdir, struct inode *dir, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_name(dentry);
	return 0;
}

SEC("lsm/inode_rmdir")
int BPF_PROG(watch_rmdir, struct inode *dir, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_name(dentry);
	return 0;
}

SEC("lsm/inode_mknod")
int BPF_PROG(watch_mknod, struct inode *dir, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_name(dentry);
	return 0;
}

SEC("lsm/inode_rename")
int BPF_PROG(watch_rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir,
	     struct dentry *new_dentry)
{
	if (!is_launching())
		return 0;
	testbed_watch_name(old_dentry);
	testbed_watch_name(new_dentry);
	return 0;
}

/* The mount's idmap comes first, under one name or another. */
SEC("lsm/inode_setxattr")
int BPF_PROG(watch_setxattr, void *idmap, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_node(dentry);
	return 0;
}

SEC("lsm/inode_removexattr")
int BPF_PROG(watch_removexattr, void *idmap, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_node(dentry);
	return 0;
}

/* Access control lists have hooks of their own since 6.2; before they are extended attributes. */
SEC("lsm/inode_set_acl")
int BPF_PROG(watch_set_acl, void *idmap, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_node(dentry);
	return 0;
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(watch_remove_acl, void *idmap, struct dentry *dentry)
{
	if (is_launching())
		testbed_watch_node(dentry);
	return 0;
}

/* A name of a file that has several is there. The kernel passes no inode for a name that nothing has. */
SEC("lsm/d_instantiate")
int BPF_PROG(watch_alias, struct dentry *dentry, struct inode *inode)
{
	unsigned int links = 0;
	umode_t kind = 0;

	if (!is_launching() || !inode || bpf_probe_read_kernel(&links, sizeof(links), &inode->i_nlink) ||
	    bpf_probe_read_kernel(&kind, sizeof(kind), &inode->i_mode))
		return 0;
	if (links > 1 && (kind & S_IFMT) != S_IFDIR)
		testbed_watch_alias(inode);
	return 0;
}

/* ---- run by the loader ---- */

/* One task of all. The loader repeats the pass until one finds nobody new. */
SEC("iter.s/task")
int list_running(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct testbed_ident *known;
	struct member fresh = {};

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
		begin(task, &fresh.home, &fresh.ident, NULL);
		/* It runs already. */
		fresh.ident.launching = 0;
	}
	if (!enlist(task, &fresh))
		return 0;
	found++;
	/* Threads have one program together, also when the first one has ended. */
	if (task->pid != task->tgid && task->group_leader->mm)
		return 0;
	testbed_measure_exe(task, &fresh.ident);
	return 0;
}

/* One task of all, before a beat that is asked for. */
SEC("iter.s/task")
int list_mounts(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct member *member, copy;

	if (!task || !is_launching())
		return 0;
	member = member_of(task);
	if (!ident_of(member) || member->ident.launching)
		return 0;
	copy = *member;
	measure_mounts(task, &copy.ident, &copy.home);
	return 0;
}

/* Return how many tasks the last pass has found, and begin another. */
SEC("syscall")
int take_found(void *ctx)
{
	int n = found;

	found = 0;
	return n;
}

SEC("syscall")
int end_listing(void *ctx)
{
	listed = 1;
	return 0;
}

SEC("syscall")
int set_layout(void *ctx)
{
	struct testbed_layout layout = {};

	fill_layout(&layout);
	layout.mode = mode;
	return testbed_set_layout(&layout);
}

/* With event 0: what this process does from now on proves the hooks, until a beat is asked for. */
SEC("syscall")
int beat(struct testbed_beat_ask *ask)
{
	__u32 seen;

	if (!ask->event) {
		proved = 0;
		canary = bpf_get_current_pid_tgid() >> 32;
		return 0;
	}
	canary = 0;
	seen = proved;
	proved = 0;
	return testbed_beat(ask->event, ask->interval, ask->skipped, seen);
}

SEC("syscall")
int part(struct testbed_part_file *file)
{
	struct testbed_part_file copy = *file;

	return testbed_measure_part(&copy);
}

SEC("syscall")
int claim(struct testbed_claim *claim)
{
	struct testbed_claim copy = *claim;

	return testbed_claim(&copy);
}
