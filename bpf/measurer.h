/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the kernel module, the BPF programs and the loader.
 *
 * The first part is the bytes of an entry, written from docs/formats.md: fixed
 * widths, little-endian, no implicit padding, every offset asserted. The second
 * part never leaves the kernel: it is what the BPF programs and the kfuncs say
 * to each other, so both sides must be built from the same copy of this file.
 */
#ifndef TESTBED_MEASURER_H
#define TESTBED_MEASURER_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define TESTBED_OFFSET(type, member, offset) \
	_Static_assert(__builtin_offsetof(struct type, member) == (offset), \
		       #type "." #member " is misplaced: see docs/formats.md")
#define TESTBED_SIZE(type, size) \
	_Static_assert(sizeof(struct type) == (size), \
		       #type " has a wrong size: see docs/formats.md")

/* ---- the bytes of an entry, docs/formats.md, version 1 ---- */

#define TESTBED_LABEL "testbed"
#define TESTBED_MAGIC 0x4d434254u /* "TBCM" */
#define TESTBED_VERSION 1
#define TESTBED_SHA256_SIZE 32
#define TESTBED_TPM_ALG_SHA256 0x000b
#define TESTBED_TREE_VERSION 1
#define TESTBED_ARGS_MAX 4096
/* Of a mount, what whoever mounts may choose (MNT_*, include/linux/mount.h). */
#define TESTBED_MOUNT_FLAGS 0xff

enum testbed_kind {
	TESTBED_KIND_FILE = 1,
	TESTBED_KIND_START = 2,
	TESTBED_KIND_IMAGE = 3,
	TESTBED_KIND_LAUNCH = 4,
	TESTBED_KIND_VIOLATION = 5,
	TESTBED_KIND_BEAT = 6,
	TESTBED_KIND_JOIN = 7,
};

enum testbed_route {
	TESTBED_ROUTE_EXEC = 1,
	TESTBED_ROUTE_MMAP = 2,
	TESTBED_ROUTE_KERNEL = 3,
	TESTBED_ROUTE_MPROTECT = 4,
	TESTBED_ROUTE_BEFORE = 5,
};

enum testbed_file_flags {
	TESTBED_FILE_NO_PATH = 1 << 0,
	TESTBED_FILE_UNLINKED = 1 << 1,
	TESTBED_FILE_ANON = 1 << 2,
	TESTBED_FILE_LATE = 1 << 3,
};

enum testbed_violation {
	TESTBED_VIOLATION_OPEN_WRITERS = 1,
	TESTBED_VIOLATION_TOMTOU = 2,
};

enum testbed_start_flags {
	TESTBED_START_NO_CGROUP_PATH = 1 << 0,
	TESTBED_START_BEFORE = 1 << 1,
};

/* How the digest of an image ended. */
enum testbed_outcome {
	TESTBED_OUTCOME_COMPLETE = 0,
	TESTBED_OUTCOME_FILES = 1,
	TESTBED_OUTCOME_DEPTH = 2,
	TESTBED_OUTCOME_BYTES = 3,
	TESTBED_OUTCOME_UNREADABLE = 4,
	TESTBED_OUTCOME_KILLED = 5,
	TESTBED_OUTCOME_MEMORY = 6,
};

enum testbed_launch_flags {
	TESTBED_LAUNCH_ARGS_CUT = 1 << 0,
	TESTBED_LAUNCH_MOUNTS_CUT = 1 << 1,
	TESTBED_LAUNCH_NO_RUNTIME = 1 << 2,
	TESTBED_LAUNCH_CONFIG = 1 << 3,
	TESTBED_LAUNCH_MAPS_CUT = 1 << 4,
	TESTBED_LAUNCH_NO_ENVIRONMENT = 1 << 5,
};

enum testbed_beat_event {
	TESTBED_BEAT_ATTACHED = 1,
	TESTBED_BEAT_PERIODIC = 2,
	TESTBED_BEAT_ASKED = 3,
	TESTBED_BEAT_DETACHED = 4,
};

struct testbed_header {
	__u32 magic;
	__u16 version;
	__u16 kind;
	__u32 length;
	__u32 flags;
	__u64 seq;
	__u64 mntns;
	__u64 cgroup;
	__u64 started;
};

TESTBED_OFFSET(testbed_header, magic, 0);
TESTBED_OFFSET(testbed_header, version, 4);
TESTBED_OFFSET(testbed_header, kind, 6);
TESTBED_OFFSET(testbed_header, length, 8);
TESTBED_OFFSET(testbed_header, flags, 12);
TESTBED_OFFSET(testbed_header, seq, 16);
TESTBED_OFFSET(testbed_header, mntns, 24);
TESTBED_OFFSET(testbed_header, cgroup, 32);
TESTBED_OFFSET(testbed_header, started, 40);
TESTBED_SIZE(testbed_header, 48);

struct testbed_file_entry {
	struct testbed_header header;
	__u16 route;
	__u16 hash_alg;
	__u32 path_len;
	__u64 size;
	__u8 digest[TESTBED_SHA256_SIZE];
	char path[];
};

TESTBED_OFFSET(testbed_file_entry, route, 48);
TESTBED_OFFSET(testbed_file_entry, hash_alg, 50);
TESTBED_OFFSET(testbed_file_entry, path_len, 52);
TESTBED_OFFSET(testbed_file_entry, size, 56);
TESTBED_OFFSET(testbed_file_entry, digest, 64);
TESTBED_OFFSET(testbed_file_entry, path, 96);
TESTBED_SIZE(testbed_file_entry, 96);

struct testbed_start_entry {
	struct testbed_header header;
	__u64 parent;
	__u32 pidns;
	__u32 utsns;
	__u32 cgroup_len;
	__u32 reserved;
	char cgroup_path[];
};

TESTBED_OFFSET(testbed_start_entry, parent, 48);
TESTBED_OFFSET(testbed_start_entry, pidns, 56);
TESTBED_OFFSET(testbed_start_entry, utsns, 60);
TESTBED_OFFSET(testbed_start_entry, cgroup_len, 64);
TESTBED_OFFSET(testbed_start_entry, reserved, 68);
TESTBED_OFFSET(testbed_start_entry, cgroup_path, 72);
TESTBED_SIZE(testbed_start_entry, 72);

struct testbed_violation_entry {
	struct testbed_header header;
	__u16 violation;
	__u16 reserved;
	__u32 path_len;
	__u64 device;
	__u64 inode;
	char path[];
};

TESTBED_OFFSET(testbed_violation_entry, violation, 48);
TESTBED_OFFSET(testbed_violation_entry, reserved, 50);
TESTBED_OFFSET(testbed_violation_entry, path_len, 52);
TESTBED_OFFSET(testbed_violation_entry, device, 56);
TESTBED_OFFSET(testbed_violation_entry, inode, 64);
TESTBED_OFFSET(testbed_violation_entry, path, 72);
TESTBED_SIZE(testbed_violation_entry, 72);

struct testbed_image_entry {
	struct testbed_header header;
	__u16 tree_version;
	__u16 hash_alg;
	__u32 outcome;
	__u64 files;
	__u64 bytes;
	__u8 digest[TESTBED_SHA256_SIZE];
};

TESTBED_OFFSET(testbed_image_entry, tree_version, 48);
TESTBED_OFFSET(testbed_image_entry, hash_alg, 50);
TESTBED_OFFSET(testbed_image_entry, outcome, 52);
TESTBED_OFFSET(testbed_image_entry, files, 56);
TESTBED_OFFSET(testbed_image_entry, bytes, 64);
TESTBED_OFFSET(testbed_image_entry, digest, 72);
TESTBED_SIZE(testbed_image_entry, 104);

struct testbed_id_range {
	__u32 inside;
	__u32 outside;
	__u32 count;
};

TESTBED_SIZE(testbed_id_range, 12);

struct testbed_launch_entry {
	struct testbed_header header;
	__u16 hash_alg;
	__u16 outcome;
	__u32 user;
	__u32 group;
	__u32 args;
	__u32 args_len;
	__u32 uid_maps;
	__u32 gid_maps;
	__u32 mounts;
	__u32 mounts_len;
	__u32 reserved;
	__u8 image[TESTBED_SHA256_SIZE];
	__u8 environment[TESTBED_SHA256_SIZE];
	__u8 runtime[TESTBED_SHA256_SIZE];
	__u8 config[TESTBED_SHA256_SIZE];
	__u64 cap_permitted;
	__u64 cap_bounding;
	__u64 cap_inheritable;
	__u64 cap_ambient;
	__u8 variable[]; /* arguments, uid map, gid map, mounts */
};

TESTBED_OFFSET(testbed_launch_entry, hash_alg, 48);
TESTBED_OFFSET(testbed_launch_entry, outcome, 50);
TESTBED_OFFSET(testbed_launch_entry, user, 52);
TESTBED_OFFSET(testbed_launch_entry, group, 56);
TESTBED_OFFSET(testbed_launch_entry, args, 60);
TESTBED_OFFSET(testbed_launch_entry, args_len, 64);
TESTBED_OFFSET(testbed_launch_entry, uid_maps, 68);
TESTBED_OFFSET(testbed_launch_entry, gid_maps, 72);
TESTBED_OFFSET(testbed_launch_entry, mounts, 76);
TESTBED_OFFSET(testbed_launch_entry, mounts_len, 80);
TESTBED_OFFSET(testbed_launch_entry, reserved, 84);
TESTBED_OFFSET(testbed_launch_entry, image, 88);
TESTBED_OFFSET(testbed_launch_entry, environment, 120);
TESTBED_OFFSET(testbed_launch_entry, runtime, 152);
TESTBED_OFFSET(testbed_launch_entry, config, 184);
TESTBED_OFFSET(testbed_launch_entry, cap_permitted, 216);
TESTBED_OFFSET(testbed_launch_entry, cap_bounding, 224);
TESTBED_OFFSET(testbed_launch_entry, cap_inheritable, 232);
TESTBED_OFFSET(testbed_launch_entry, cap_ambient, 240);
TESTBED_OFFSET(testbed_launch_entry, variable, 248);
TESTBED_SIZE(testbed_launch_entry, 248);

struct testbed_beat_entry {
	struct testbed_header header;
	__u64 number;
	__u64 time;
	__u32 event;
	__u32 reserved;
	__u64 interval;
	__u64 lost;
	__u64 containers;
};

TESTBED_OFFSET(testbed_beat_entry, number, 48);
TESTBED_OFFSET(testbed_beat_entry, time, 56);
TESTBED_OFFSET(testbed_beat_entry, event, 64);
TESTBED_OFFSET(testbed_beat_entry, reserved, 68);
TESTBED_OFFSET(testbed_beat_entry, interval, 72);
TESTBED_OFFSET(testbed_beat_entry, lost, 80);
TESTBED_OFFSET(testbed_beat_entry, containers, 88);
TESTBED_SIZE(testbed_beat_entry, 96);

struct testbed_join_entry {
	struct testbed_header header;
	__u64 joined;
	__u64 from;
};

TESTBED_OFFSET(testbed_join_entry, joined, 48);
TESTBED_OFFSET(testbed_join_entry, from, 56);
TESTBED_SIZE(testbed_join_entry, 64);

/* ---- between the BPF programs and the kfuncs ---- */

enum testbed_mode {
	TESTBED_MODE_HOOKS = 0, /* attached, deciding nothing */
	TESTBED_MODE_FILE = 1,	/* container-file */
	TESTBED_MODE_PROTOTYPE_FILE = 2,
	TESTBED_MODE_PROTOTYPE_IMAGE = 3,
	TESTBED_MODE_IMAGE = 4,	/* container-image */
};

/* Who a container is. Filled once, copied to each of its tasks. */
struct testbed_ident {
	__u64 seq;
	__u64 mntns;
	__u64 cgroup;
	__u64 started;
	__u64 parent;
	__u32 pidns;
	__u32 utsns;
	__u32 start_logged; /* its ctr-start entry is in the log */
	__u32 flags;	    /* enum testbed_start_flags, of its ctr-start entry */
	__u32 launching;    /* of a task: its launch is to be logged at its next execve */
	__u32 reserved;
};

TESTBED_SIZE(testbed_ident, 64);

/*
 * Which content a file has: equal stamps mean equal bytes. It is taken from the
 * real inode below an overlay, and there is none for a file whose changes the
 * kernel does not count.
 */
struct testbed_stamp {
	__u64 inode; /* address of the real inode: compared, never followed */
	__u64 sb;    /* likewise, of its file system */
	__u64 ino;
	__u64 generation;
	__u64 iversion;
	__u64 size;
	__u64 ctime_sec;
	__u64 ctime_nsec;
};

TESTBED_SIZE(testbed_stamp, 64);

/*
 * What a measurement is told and what it tells beside its result. A file whose content
 * is that of an entry already, by whatever route, is no entry again.
 */
struct testbed_work {
	__u32 route;	 /* in: enum testbed_route */
	__u32 no_path;	 /* out: the entry carries no path */
	__u64 bytes;	 /* out: bytes hashed, also when it failed later */
	__u32 known;	 /* in: the digest is that of this file's last entry */
	__u32 reserved;
	__u8 digest[TESTBED_SHA256_SIZE]; /* in and out */
};

TESTBED_SIZE(testbed_work, 56);

/* Where fs-verity keeps a file's digest: offsets in the kernel's fsverity_info. */
struct testbed_verity_layout {
	__u32 known; /* 0: this kernel has it otherwise, and digests are computed */
	__u32 digest_size;
	__u32 block_size;
	__u32 salted;
	__u32 file_digest;
};

TESTBED_SIZE(testbed_verity_layout, 20);

/* What an OCI hook tells of a container that is about to start. */
struct testbed_claim {
	__u32 pid; /* of its first process, where the hook runs */
	__s32 fd;  /* of its config.json */
};

TESTBED_SIZE(testbed_claim, 8);

/* Which inode a pin is: as the kernel numbers devices, not as stat does. */
struct testbed_pin {
	__u64 dev;
	__u64 ino;
};

TESTBED_SIZE(testbed_pin, 16);

/* What the loader tells the program that logs a beat. */
struct testbed_beat_ask {
	__u32 event;	/* enum testbed_beat_event */
	__u32 reserved;
	__u64 interval; /* nanoseconds, with TESTBED_BEAT_ATTACHED */
	__u64 skipped;	/* times that the kernel skipped a program so far */
};

TESTBED_SIZE(testbed_beat_ask, 24);

/*
 * Counters. A kfunc that measures returns the counter of what became of it, so
 * that no outcome can be left uncounted. Names that start with "unmeasured_"
 * are code that a container got and that the log does not show (or a start that
 * it does not show): when one of them is not 0, a missing entry proves nothing.
 */
#define TESTBED_COUNTERS(X)                                                    \
	X(FILES, "files")             /* ctr-file entries written */           \
	X(STARTS, "starts")           /* ctr-start entries written */          \
	X(LINES, "lines")             /* ima-ng lines of a prototype */        \
	X(CONTAINERS, "containers")   /* containers numbered */                \
	X(CACHE_HITS, "cache_hits")   /* known content: nothing hashed */      \
	X(SLOW_HITS, "slow_hits")     /* of these, found by the kfunc only */  \
	X(DUPLICATES, "duplicates")   /* hashed; the log already had it */     \
	X(BYTES, "bytes_hashed")                                               \
	X(UNCACHEABLE, "uncacheable") /* hashed, and will be again */          \
	X(CHANGED, "changed")         /* changed while it was hashed */        \
	X(NO_PATH, "no_path")         /* entries without a path */             \
	X(ANON_EXEC, "anon_exec")     /* executable mappings of no file */     \
	X(BEATS, "beats")             /* ctr-beat entries but periodic ones */ \
	X(JOINS, "joins")             /* ctr-join entries written */           \
	X(LATE, "late")               /* mprotect: measured on return from it */ \
	X(VIOLATIONS, "violations")   /* ctr-violation entries written */      \
	X(FORGOTTEN, "forgotten")     /* code whose ToMToU would go unseen */  \
	X(IMAGES, "images")           /* ctr-image entries written */          \
	X(IMAGES_KNOWN, "images_known") /* of images that the log has */       \
	X(LAUNCHES, "launches")       /* ctr-launch entries written */         \
	X(NO_RULE, "unmeasured_no_rule")                                       \
	X(NO_MEMORY, "unmeasured_no_memory")                                   \
	X(READ_ERROR, "unmeasured_read_error")                                 \
	X(NOT_REGULAR, "unmeasured_not_regular")                               \
	X(NO_FILE, "unmeasured_no_file")                                       \
	X(NO_NAME, "unmeasured_no_name") /* prototypes: no line for it */      \
	X(NOT_OVERLAY, "unmeasured_not_overlay") /* prototypes, likewise */    \
	X(IMA_ERROR, "unmeasured_ima_error")                                   \
	X(MPROTECT, "unmeasured_mprotect") /* too many of them at once */      \
	X(LOAD_DATA, "unmeasured_load_data") /* kernel code from memory */     \
	X(VIOLATION, "unmeasured_violation") /* seen, and not in the log */    \
	X(BEFORE_EXEC, "unmeasured_before_exec")                               \
	X(NO_IDENTITY, "unmeasured_no_identity")                               \
	X(PLACES_FULL, "unmeasured_places_full")

enum testbed_counter {
#define TESTBED_COUNTER_ENUM(id, name) TESTBED_COUNT_##id,
	TESTBED_COUNTERS(TESTBED_COUNTER_ENUM)
#undef TESTBED_COUNTER_ENUM
	TESTBED_COUNTER_MAX,
};

#endif
