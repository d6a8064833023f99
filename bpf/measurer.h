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

/* ---- the bytes of an entry, docs/formats.md, version 3 ---- */

#define TESTBED_LABEL "testbed"
#define TESTBED_MAGIC 0x4d434254u /* "TBCM" */
#define TESTBED_VERSION 3
#define TESTBED_SHA256_SIZE 32
#define TESTBED_TPM_ALG_SHA256 0x000b
#define TESTBED_TREE_VERSION 2
#define TESTBED_TREE_COMPOSEFS 256 /* fs-verity's digest of the EROFS image of the root */
#define TESTBED_TREE_DM_VERITY 257 /* the root hash of the root's device */
#define TESTBED_ARGS_MAX 4096
#define TESTBED_MOUNTS_MAX 16384

enum testbed_kind {
	TESTBED_KIND_FILE = 1,
	TESTBED_KIND_START = 2,
	TESTBED_KIND_IMAGE = 3,
	TESTBED_KIND_LAUNCH = 4,
	TESTBED_KIND_VIOLATION = 5,
	TESTBED_KIND_BEAT = 6,
	TESTBED_KIND_JOIN = 7,
	TESTBED_KIND_LOSS = 8,
	TESTBED_KIND_MOUNTS = 9,
	TESTBED_KIND_PROGRAM = 10,
	TESTBED_KIND_MEASURER = 11,
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
	TESTBED_FILE_NOT_BOUND = 1 << 4,
	TESTBED_FILE_VERITY = 1 << 5, /* the digest is fs-verity's */
};

enum testbed_violation {
	TESTBED_VIOLATION_OPEN_WRITERS = 1,
	TESTBED_VIOLATION_TOMTOU = 2,
	TESTBED_VIOLATION_CHANGED = 3,
	TESTBED_VIOLATION_TAIL = 4,
	TESTBED_VIOLATION_UNSETTLED = 5,
	TESTBED_VIOLATION_LAYER = 6, /* a layer of the image was changed after the launch */
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
	TESTBED_LAUNCH_NO_MOUNTS = 1 << 6,
	TESTBED_LAUNCH_DRIFT = 1 << 7, /* unchanged content of the image has no ctr-file */
};

enum testbed_mounts_flags {
	TESTBED_MOUNTS_CUT = 1 << 0,
	TESTBED_MOUNTS_NONE = 1 << 1,
	TESTBED_MOUNTS_OTHER_ROOT = 1 << 2, /* seen from another root than the container's */
};

/* Why a container got code that the log does not show: a set of bits. */
enum testbed_loss {
	TESTBED_LOSS_UNREAD = 1 << 0,
	TESTBED_LOSS_MEMORY = 1 << 1,
	TESTBED_LOSS_PENDING = 1 << 2,
	TESTBED_LOSS_LOAD = 1 << 3,
	TESTBED_LOSS_VIOLATION = 1 << 4,
	TESTBED_LOSS_FORGOTTEN = 1 << 5,
	TESTBED_LOSS_FLOODED = 1 << 6,
};

enum testbed_program {
	TESTBED_PROGRAM_BPF = 1,     /* BPF_PROG_LOAD: the digest is of its instructions */
	TESTBED_PROGRAM_COMMAND = 2, /* another command of bpf() that can reach programs or maps */
	TESTBED_PROGRAM_MODULE = 3,  /* a kernel module from memory */
};

enum testbed_part {
	TESTBED_PART_MODULE = 1,
	TESTBED_PART_OBJECT = 2,
	TESTBED_PART_LOADER = 3,
};

/* Which hooks a beat has seen at work: a set of bits. */
enum testbed_proof {
	TESTBED_PROOF_FORK = 1 << 0,	  /* task_alloc */
	TESTBED_PROOF_EXEC = 1 << 1,	  /* bprm_check_security */
	TESTBED_PROOF_COMMITTED = 1 << 2, /* bprm_committed_creds */
	TESTBED_PROOF_MMAP = 1 << 3,	  /* mmap_file */
	TESTBED_PROOF_MPROTECT = 1 << 4,  /* file_mprotect */
	TESTBED_PROOF_OPEN = 1 << 5,	  /* file_open */
	TESTBED_PROOF_SIZE = 1 << 6,	  /* inode_setattr */
	TESTBED_PROOF_READ = 1 << 7,	  /* kernel_read_file */
	TESTBED_PROOF_LOAD = 1 << 8,	  /* kernel_load_data */
	TESTBED_PROOF_BPF = 1 << 9,	  /* bpf */
	TESTBED_PROOF_ALL = (1 << 10) - 1,
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
	__u32 root_mode;
	__u8 image[TESTBED_SHA256_SIZE];
	__u8 environment[TESTBED_SHA256_SIZE];
	__u8 runtime[TESTBED_SHA256_SIZE];
	__u8 config[TESTBED_SHA256_SIZE];
	__u64 cap_permitted;
	__u64 cap_bounding;
	__u64 cap_inheritable;
	__u64 cap_ambient;
	__u32 root_user;
	__u32 root_group;
	__u8 root_xattrs[TESTBED_SHA256_SIZE];
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
TESTBED_OFFSET(testbed_launch_entry, root_mode, 84);
TESTBED_OFFSET(testbed_launch_entry, image, 88);
TESTBED_OFFSET(testbed_launch_entry, environment, 120);
TESTBED_OFFSET(testbed_launch_entry, runtime, 152);
TESTBED_OFFSET(testbed_launch_entry, config, 184);
TESTBED_OFFSET(testbed_launch_entry, cap_permitted, 216);
TESTBED_OFFSET(testbed_launch_entry, cap_bounding, 224);
TESTBED_OFFSET(testbed_launch_entry, cap_inheritable, 232);
TESTBED_OFFSET(testbed_launch_entry, cap_ambient, 240);
TESTBED_OFFSET(testbed_launch_entry, root_user, 248);
TESTBED_OFFSET(testbed_launch_entry, root_group, 252);
TESTBED_OFFSET(testbed_launch_entry, root_xattrs, 256);
TESTBED_OFFSET(testbed_launch_entry, variable, 288);
TESTBED_SIZE(testbed_launch_entry, 288);

struct testbed_beat_entry {
	struct testbed_header header;
	__u64 number;
	__u64 time;
	__u32 event;
	__u32 proved; /* enum testbed_proof */
	__u64 interval;
	__u64 lost;
	__u64 containers;
};

TESTBED_OFFSET(testbed_beat_entry, number, 48);
TESTBED_OFFSET(testbed_beat_entry, time, 56);
TESTBED_OFFSET(testbed_beat_entry, event, 64);
TESTBED_OFFSET(testbed_beat_entry, proved, 68);
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

struct testbed_loss_entry {
	struct testbed_header header;
	__u64 lost;
	__u32 reasons; /* enum testbed_loss */
	__u32 reserved;
};

TESTBED_OFFSET(testbed_loss_entry, lost, 48);
TESTBED_OFFSET(testbed_loss_entry, reasons, 56);
TESTBED_OFFSET(testbed_loss_entry, reserved, 60);
TESTBED_SIZE(testbed_loss_entry, 64);

struct testbed_mounts_entry {
	struct testbed_header header;
	__u64 event;
	__u32 mounts;
	__u32 mounts_len;
	char list[];
};

TESTBED_OFFSET(testbed_mounts_entry, event, 48);
TESTBED_OFFSET(testbed_mounts_entry, mounts, 56);
TESTBED_OFFSET(testbed_mounts_entry, mounts_len, 60);
TESTBED_OFFSET(testbed_mounts_entry, list, 64);
TESTBED_SIZE(testbed_mounts_entry, 64);

struct testbed_program_entry {
	struct testbed_header header;
	__u16 what; /* enum testbed_program */
	__u16 hash_alg;
	__u32 command;
	__u64 size;
	__u8 digest[TESTBED_SHA256_SIZE];
};

TESTBED_OFFSET(testbed_program_entry, what, 48);
TESTBED_OFFSET(testbed_program_entry, hash_alg, 50);
TESTBED_OFFSET(testbed_program_entry, command, 52);
TESTBED_OFFSET(testbed_program_entry, size, 56);
TESTBED_OFFSET(testbed_program_entry, digest, 64);
TESTBED_SIZE(testbed_program_entry, 96);

struct testbed_measurer_entry {
	struct testbed_header header;
	__u16 part; /* enum testbed_part */
	__u16 hash_alg;
	__u32 reserved;
	__u64 size;
	__u8 digest[TESTBED_SHA256_SIZE];
};

TESTBED_OFFSET(testbed_measurer_entry, part, 48);
TESTBED_OFFSET(testbed_measurer_entry, hash_alg, 50);
TESTBED_OFFSET(testbed_measurer_entry, reserved, 52);
TESTBED_OFFSET(testbed_measurer_entry, size, 56);
TESTBED_OFFSET(testbed_measurer_entry, digest, 64);
TESTBED_SIZE(testbed_measurer_entry, 96);

/* ---- between the BPF programs and the kfuncs ---- */

enum testbed_mode {
	TESTBED_MODE_HOOKS = 0, /* attached, deciding nothing */
	TESTBED_MODE_FILE = 1,	/* container-file */
	TESTBED_MODE_PROTOTYPE_FILE = 2,
	TESTBED_MODE_PROTOTYPE_IMAGE = 3,
	TESTBED_MODE_IMAGE = 4,	/* container-image */
	TESTBED_MODE_DRIFT = 5,	/* container-drift */
};

/* Who a container is. Filled once, copied to each of its tasks. */
struct testbed_ident {
	__u64 seq;
	__u64 mntns;
	__u64 cgroup;
	__u64 started;
	__u64 parent;
	__u64 outermost; /* seq of the container of the host in which it is, its own if it is that */
	__u32 pidns;
	__u32 utsns;
	__u32 start_logged; /* its ctr-start entry is in the log */
	__u32 flags;	    /* enum testbed_start_flags, of its ctr-start entry */
	__u32 launching;    /* of a task: its launch is to be logged at its next execve */
	__u32 reserved;
};

TESTBED_SIZE(testbed_ident, 72);

/*
 * Which content a file has: equal stamps mean equal bytes, if the stamp was promised
 * (module/stamp.c). It is taken from the inode that is mapped, below an overlay.
 */
struct testbed_stamp {
	__u64 inode; /* its address: compared, never followed */
	__u64 id;    /* of this inode as long as it is in memory; never used again in a boot; 0: none */
	__u64 version;
	__u64 size;
	__u64 ctime_sec;
	__u64 ctime_nsec;
};

TESTBED_SIZE(testbed_stamp, 48);

/*
 * In `version`, which has 63 bits: fs-verity checks what is read of this content. So what was
 * promised before fs-verity was enabled is not any more.
 */
#define TESTBED_STAMP_VERITY (1ull << 63)

/* Where fs-verity keeps a file's digest: offsets in the kernel's fsverity_info. */
struct testbed_verity_layout {
	__u32 known; /* 0: this kernel has it otherwise, and digests are computed */
	__u32 digest_size;
	__u32 block_size;
	__u32 salted;
	__u32 file_digest;
};

TESTBED_SIZE(testbed_verity_layout, 20);

/* Which file systems an overlay is made of: offsets in its ovl_fs and ovl_sb. */
struct testbed_layers_layout {
	__u32 known; /* 0: this kernel has it otherwise, and an overlay's layers cannot be told */
	__u32 count; /* of what is at `list` */
	__u32 list;
	__u32 size; /* of one of the list */
	__u32 sb;
};

TESTBED_SIZE(testbed_layers_layout, 20);

/* What an overlay is made of: offsets in its ovl_fs, and in its ovl_layer. */
struct testbed_overlay_layout {
	__u32 known; /* 0: this kernel has it otherwise, and images are walked at each start */
	__u32 count; /* of the layers, that of the upper one included */
	__u32 data;  /* of these, with data alone; 0: this kernel has none */
	__u32 list;
	__u32 size; /* of one of the list */
	__u32 mnt;  /* in one of the list */
	__u32 redirect; /* how it was mounted */
	__u32 redirect_size;
	__u32 metacopy;
	__u32 userxattr;
};

TESTBED_SIZE(testbed_overlay_layout, 40);

/*
 * Of what a root on composefs or dm-verity is made, beside the layers of an overlay: offsets
 * in ovl_fs, erofs_sb_info, loop_device, mapped_device, dm_table and dm_verity. What is not
 * known (the module was not loaded) is not believed.
 */
struct testbed_sealed_layout {
	__u32 overlay_known;
	__u32 verity_mode;
	__u32 erofs_known;
	__u32 erofs_file;
	__u32 erofs_has_offset; /* 1: the image may begin elsewhere in the file, at the number */
	__u32 erofs_offset;	/* that is here */
	__u32 erofs_devices;
	__u32 erofs_extra; /* in erofs_dev_context */
	__u32 loop_known;
	__u32 loop_state;
	__u32 loop_offset;
	__u32 loop_limit;
	__u32 loop_file;
	__u32 dm_known;
	__u32 dm_table; /* in mapped_device */
	__u32 dm_barrier;
	__u32 dm_count; /* in dm_table */
	__u32 dm_targets;
	__u32 dm_algorithm; /* in dm_verity */
	__u32 dm_digest;
	__u32 dm_digest_size;
	__u32 dm_mode;
	__u32 dm_validated;
};

TESTBED_SIZE(testbed_sealed_layout, 92);

/* What the loader tells the module once: the mode, and where this kernel keeps what no header declares. */
struct testbed_layout {
	struct testbed_verity_layout verity;
	struct testbed_layers_layout layers;
	struct testbed_sealed_layout sealed;
	__u32 overlay_file; /* 1: a file of an overlay has a struct ovl_file, with the real file at */
	__u32 overlay_real; /* this offset; 0: it has the real file itself */
	struct testbed_overlay_layout overlay;
	__u32 mode; /* enum testbed_mode */
	__u32 reserved;
};

TESTBED_SIZE(testbed_layout, 188);

/* What an OCI hook reports about a container that is about to start. */
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
	__u32 event;	/* enum testbed_beat_event; 0: what follows in this process proves the hooks */
	__u32 reserved;
	__u64 interval; /* nanoseconds, with TESTBED_BEAT_ATTACHED */
	__u64 skipped;	/* times that the kernel skipped a program so far */
};

TESTBED_SIZE(testbed_beat_ask, 24);

/* A part of the measurer, which the loader passes as an open file. */
struct testbed_part_file {
	__u32 part; /* enum testbed_part */
	__s32 fd;
};

TESTBED_SIZE(testbed_part_file, 8);

/*
 * Counters: what became of each event. The third column says where the code, or the
 * start, or the violation, is that the log does not show:
 *
 *   KEPT     the log shows it, or there is nothing to show
 *   LOST     in a container: its ctr-loss entry says so (or, if there is no memory
 *            for that, the next beat)
 *   MACHINE  nobody knows in which container: the next beat says so
 */
enum testbed_fate { TESTBED_KEPT, TESTBED_LOST, TESTBED_MACHINE };

#define TESTBED_COUNTERS(X)                                                                    \
	X(FILES, "files", KEPT)             /* ctr-file entries written */                    \
	X(STARTS, "starts", KEPT)           /* ctr-start entries written */                   \
	X(LINES, "lines", KEPT)             /* ima-ng lines of a prototype */                 \
	X(CONTAINERS, "containers", KEPT)   /* containers numbered */                         \
	X(ENDED, "ended", KEPT)             /* containers whose last task has ended */        \
	X(CACHE_HITS, "cache_hits", KEPT)   /* known content: nothing hashed */               \
	X(SLOW_HITS, "slow_hits", KEPT)     /* of these, found by the module only */          \
	X(DUPLICATES, "duplicates", KEPT)   /* hashed; the log already had it */              \
	X(RECALLED, "recalled", KEPT)     /* entries whose content was hashed before */      \
	X(VERITY, "verity", KEPT)           /* entries with the digest of fs-verity */        \
	X(BYTES, "bytes_hashed", KEPT)                                                        \
	X(UNCACHEABLE, "uncacheable", KEPT) /* hashed, and will be again */                   \
	X(NOT_BOUND, "not_bound", KEPT)     /* entries with flag NOT_BOUND */                 \
	X(DROPPED, "dropped", KEPT)         /* files whose pages were dropped to be read */   \
	X(CHANGED, "changed", KEPT)         /* changed while it was hashed */                 \
	X(NO_PATH, "no_path", KEPT)         /* entries without a path */                      \
	X(ANON_EXEC, "anon_exec", KEPT)     /* executable mappings of no file */              \
	X(PRIVATE_EXEC, "private_exec", KEPT) /* of a file's pages that were or can be rewritten */ \
	X(MEMORY_OPENED, "memory_opened", KEPT) /* a task's memory opened for writing */      \
	X(REFUSED, "refused", KEPT)         /* mappings that did not come into being */       \
	X(KILLED, "killed", KEPT)           /* killed before the code could run */            \
	X(BEATS, "beats", KEPT)             /* ctr-beat entries but periodic ones */          \
	X(PARTS, "parts", KEPT)             /* ctr-measurer entries written */                \
	X(JOINS, "joins", KEPT)             /* ctr-join entries written */                    \
	X(LATE, "late", KEPT)               /* measured when others could run it already */   \
	X(VIOLATIONS, "violations", KEPT)   /* ctr-violation entries written */               \
	X(LOSSES, "losses", KEPT)           /* ctr-loss entries written */                    \
	X(IMAGES, "images", KEPT)           /* ctr-image entries written */                   \
	X(IMAGES_KNOWN, "images_known", KEPT) /* of images that the log has */                \
	X(IMAGES_RECALLED, "images_recalled", KEPT) /* starts without a walk */                 \
	X(IMAGE_CODE, "image_code", KEPT) /* code of its image: no entry */                   \
	X(LAUNCHES, "launches", KEPT)       /* ctr-launch entries written */                  \
	X(MOUNTS, "mounts", KEPT)           /* ctr-mounts entries written */                  \
	X(PROGRAMS, "programs", KEPT)       /* ctr-program entries written */                 \
	X(FORGOTTEN, "unmeasured_forgotten", LOST) /* code whose ToMToU would go unseen */    \
	X(FLOODED, "unmeasured_flooded", LOST) /* entries beyond a container's budget */      \
	X(NO_MEMORY, "unmeasured_no_memory", LOST)                                            \
	X(READ_ERROR, "unmeasured_read_error", LOST)                                          \
	X(NOT_REGULAR, "unmeasured_not_regular", LOST)                                        \
	X(PENDING, "unmeasured_pending", LOST) /* too many at once, or not done at a beat */  \
	X(LOAD_DATA, "unmeasured_load_data", LOST) /* kernel code from memory */              \
	X(VIOLATION, "unmeasured_violation", LOST) /* seen, and not in the log */             \
	X(NO_RULE, "unmeasured_no_rule", MACHINE)                                             \
	X(NO_NAME, "unmeasured_no_name", MACHINE) /* prototypes: no line for it */            \
	X(NOT_OVERLAY, "unmeasured_not_overlay", MACHINE) /* prototypes, likewise */          \
	X(IMA_ERROR, "unmeasured_ima_error", MACHINE)                                         \
	X(BEFORE_EXEC, "unmeasured_before_exec", MACHINE)                                     \
	X(NO_IDENTITY, "unmeasured_no_identity", MACHINE)                                     \
	X(PLACES_FULL, "unmeasured_places_full", MACHINE)

enum testbed_counter {
#define TESTBED_COUNTER_ENUM(id, name, fate) TESTBED_COUNT_##id,
	TESTBED_COUNTERS(TESTBED_COUNTER_ENUM)
#undef TESTBED_COUNTER_ENUM
	TESTBED_COUNTER_MAX,
};

#endif
