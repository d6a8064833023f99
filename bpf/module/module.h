/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the module. */
#ifndef TESTBED_MODULE_H
#define TESTBED_MODULE_H

#include <linux/errseq.h>
#include <linux/fs.h>
#include <linux/types.h>

#include "measurer.h"

struct crypto_shash;
struct linux_binprm;
struct path;

/* ---- init.c ---- */

/* What the loader reported about this kernel; all zero until then. */
const struct testbed_layout *testbed_layout(void);

/* ---- hash.c ---- */

int testbed_init_hash(void);
void testbed_exit_hash(void);
struct crypto_shash *testbed_sha256(void);

/* Hash a file afresh, and tell how many bytes that were, also when it fails. May sleep. */
int testbed_hash_file(struct file *file, u8 digest[TESTBED_SHA256_SIZE], u64 *bytes);

/* ---- path.c ---- */

/*
 * Put the path of @file from @root (NULL: the current task's) into @buf of PATH_MAX
 * bytes, set the flags of the entry, return its length. With @root NULL it does not
 * sleep.
 */
u32 testbed_fill_path(struct file *file, const struct path *root, char *buf, u32 *flags);

/* ---- entry.c ---- */

/* Highest number of a container whose start is in the log. */
u64 testbed_last_start(void);
void testbed_note_start(u64 seq);

void testbed_fill_header(struct testbed_header *header, enum testbed_kind kind, u32 length,
			 u32 flags, const struct testbed_ident *ident);

/* Hand an entry to IMA. Return the counter of the outcome: @written if it is new. May sleep. */
enum testbed_counter testbed_log_entry(const char *event, const void *entry, u32 length,
				       enum testbed_counter written);

/* ---- container.c ---- */

/* What a container may have of the log: its entries, or its violations. */
enum testbed_budget { TESTBED_BUDGET_ENTRIES, TESTBED_BUDGET_VIOLATIONS };

/* As testbed_log_entry(), if @ident may have one more; else it is a loss of @ident. */
enum testbed_counter testbed_log_charged(const struct testbed_ident *ident,
					 enum testbed_budget budget, const char *event,
					 const void *entry, u32 length,
					 enum testbed_counter written);

/* Count an outcome that concerns @ident (NULL: no container). Does not sleep. */
void testbed_count_for(const struct testbed_ident *ident, enum testbed_counter counter, u64 n);

/* Container @seq has ended: forget what nobody needs any more. Does not sleep. */
void testbed_forget_container(u64 seq);

/* Log the losses that are not in the log yet. May sleep. */
void testbed_log_losses(void);

void testbed_forget_containers(void);

/* ---- stamp.c ---- */

/* The file that is mapped where @file is: below an overlay the real one. */
struct file *testbed_real_file(struct file *file);

/* Will the file system give the same bytes again, unless they are changed on this host? */
bool testbed_binds_content(const struct inode *inode);
/* Is that true of @inode as it is now: not of memory that can be written to? */
bool testbed_is_bound(const struct inode *inode);

/* Is it a memfd that is not sealed, or memory of SysV? */
bool testbed_is_open_memory(struct inode *inode);

/* Is it open for writing, mapped shared and writable, or a memfd that is not sealed? */
bool testbed_has_writers(struct inode *inode);

/*
 * Fill @stamp. Return true if an equal one will mean equal content. @payer: the outermost container for which @inode is
 * remembered, if it is not yet. Does not sleep.
 */
bool testbed_stamp_inode(struct inode *inode, u64 payer, struct testbed_stamp *stamp);

/* A content that is about to be read, or to be recalled. */
struct testbed_content {
	struct inode *inode;
	u64 payer; /* the outermost container for which it is remembered */
	struct testbed_stamp stamp;
	errseq_t errors; /* of writing pages back */
	bool promised;	 /* an equal stamp will mean equal content */
	bool written;	 /* there was a writer */
	bool unsettled;	 /* its pages could not be written back and dropped */
	bool tail;	 /* there are bytes behind the end of the file, in its last page */
};

/* Drop the pages of a program before the kernel reads how it is laid out. May sleep. */
void testbed_settle(struct inode *inode, u64 payer);

/* Have what is read from now on be what is stored. May sleep. */
void testbed_begin_content(struct testbed_content *content, struct inode *inode, u64 payer);
/* It has been read. Return true if its stamp is a promise. */
bool testbed_end_content(struct testbed_content *content);

/* ---- verity.c ---- */

/*
 * Fill @digest with the one that fs-verity has of the file that @content is about. Call it in place of hashing, between
 * testbed_begin_content() and testbed_end_content(). Return false if there is none that binds what is read from now on.
 * Does not sleep.
 */
bool testbed_verity_of(const struct testbed_content *content, u8 digest[TESTBED_SHA256_SIZE]);

/* ---- memory.c ---- */

enum testbed_digest_kind { TESTBED_DIGEST_SHA256, TESTBED_DIGEST_VERITY, TESTBED_DIGEST_KINDS };

extern u64 testbed_oldest_id;

int testbed_init_memory(void);
void testbed_exit_memory(void);

/* The number of @inode as long as it is in memory. It takes a place for @payer if it has none. */
u64 testbed_incarnation(const struct inode *inode, u64 payer);

/* Were the pages of what has @stamp written back and dropped? */
bool testbed_is_settled(const struct testbed_stamp *stamp);
void testbed_set_settled(const struct testbed_stamp *stamp);

/*
 * Fill @digest if just this content was hashed before, for any container, and ends as it began: unchanged, and without
 * a writer. Call it in place of hashing, between testbed_begin_content() and testbed_end_content(), which it calls
 * itself if it returns true. May sleep.
 */
bool testbed_recall(enum testbed_digest_kind kind, struct testbed_content *content,
		    u8 digest[TESTBED_SHA256_SIZE]);
/* After testbed_end_content() returned true. */
void testbed_memorize(enum testbed_digest_kind kind, const struct testbed_content *content,
		      const u8 digest[TESTBED_SHA256_SIZE]);
void testbed_forget_inode_contents(const struct inode *inode);
void testbed_forget_contents(void);

/* ---- code.c ---- */

/*
 * @inode is code of @ident from now on. Does not sleep if @gfp does not. What
 * cannot be remembered is a loss of the container.
 */
void testbed_note_code(struct inode *inode, const struct testbed_ident *ident, u32 flags,
		       const char *path, u32 path_len, gfp_t gfp);
/* Content @digest of @inode is in the log for container @seq; @stamp: NULL without a promise. */
void testbed_learn_code(struct inode *inode, u64 seq, const struct testbed_stamp *stamp,
			const u8 digest[TESTBED_SHA256_SIZE], u32 flags);
/* Has container @seq got just the content of @stamp? Does not sleep. */
bool testbed_knows_code(struct inode *inode, u64 seq, const struct testbed_stamp *stamp);
/* Is @digest that of the last entry of @inode for container @seq? Does not sleep. */
/* Is this content in the log, and also that it is not bound, if @flags say so? */
bool testbed_knows_digest(struct inode *inode, u64 seq, const u8 digest[TESTBED_SHA256_SIZE],
			  u32 flags);
bool testbed_is_first_violation(struct inode *inode, u64 seq, enum testbed_violation violation);
void testbed_forget_code(u64 seq);
void testbed_forget_inode_code(const struct inode *inode);
void testbed_forget_all_code(void);

/* A layer of its image changed: what, on @device and by number, with its path from the layer's root. May sleep. */
void testbed_log_layer_violation(const struct testbed_ident *ident, u64 device, u64 number,
				 const char *path, u32 path_len);
void testbed_log_violation(enum testbed_violation violation, struct inode *inode,
			   const struct testbed_ident *ident, u32 flags, const char *path,
			   u32 path_len);

/* ---- measure.c ---- */

/* Code that a container got, or is about to get. */
struct testbed_code {
	struct file *file; /* as the container has it: of its path */
	struct file *real; /* whose content is mapped */
	struct testbed_ident ident;
	u32 route;
	u32 flags;
	bool written; /* there was a writer when it was noted */
	bool changed; /* it is known to be another content than what was begun with */
	bool begun;   /* testbed_begin_content() was called for `content` */
	bool unreached; /* nobody can have run it before it is hashed */
	struct testbed_content content;
	u32 path_len;
	char *path;
};

/* Hash it and log it. Return true, and a stamp, if that is a promise. May sleep. */
bool testbed_measure_code(struct testbed_code *code, struct testbed_stamp *stamp);

/* ---- work.c ---- */

/* How a mapping or an execve is measured when the task returns to user mode. */
struct testbed_later {
	bool late;   /* others can run it before: only if it can be stamped is it bound */
	bool doubt;  /* whether it comes into being is not known yet */
	gfp_t gfp;
};

/* Have @code measured when the current task returns to user mode. Takes what it needs of @code. */
void testbed_measure_later(const struct testbed_code *code, const struct testbed_later *how);

/*
 * Is there something of the current task, which ends, still to be measured? Then
 * container @seq ends when that is done. Does not sleep.
 */
bool testbed_end_later(u64 seq);

/* Wait until what others can run already is in the log, or is a loss of its container. */
void testbed_wait_for_late(void);

/* ---- tally.c ---- */

void testbed_tally(enum testbed_counter counter, u64 n);
enum testbed_fate testbed_fate_of(enum testbed_counter counter);

/* ---- beat.c ---- */

/* Code, or an identity, of an unknown container. Does not sleep. */
void testbed_lose(u64 n);

/* The hook for opening has seen the current task. */
void testbed_see_canary(void);

/* Are all programs attached, as far as anybody has said? */
bool testbed_is_attached(void);

/* No beat comes after this. */
void testbed_stop_beats(void);

/* ---- claim.c ---- */

/* Move the claim about the current process into @digest. Return false if there is none. */
bool testbed_take_claim(u8 digest[TESTBED_SHA256_SIZE]);

/* ---- mounts.c ---- */

/* The mount table of a task as the lines of docs/formats.md, "ctr-launch". */
struct testbed_mount_table {
	char *text; /* TESTBED_MOUNTS_MAX bytes */
	u32 length;
	u32 count;
	bool cut;
	bool none; /* it could not be read */
};

int testbed_init_mounts(void);
void testbed_exit_mounts(void);

/* @task: NULL is the current one. May sleep. */
void testbed_read_mounts(struct task_struct *task, struct testbed_mount_table *table);

/* ---- kfuncs, which are listed in init.c ---- */

u64 testbed_new_seq(void);
int testbed_settle_program(struct file *file, const struct testbed_ident *ident);
int testbed_measure_exec(struct linux_binprm *bprm, const struct testbed_ident *ident,
			 struct testbed_stamp *stamp);
int testbed_measure_file(struct file *file, const struct testbed_ident *ident, u32 route,
			 struct testbed_stamp *stamp);
int testbed_measure_mprotect(struct vm_area_struct *vma, const struct testbed_ident *ident);
int testbed_measure_exe(struct task_struct *task, const struct testbed_ident *ident);
int testbed_measure_start(const struct testbed_ident *ident, struct task_struct *task);
int testbed_measure_join(const struct testbed_ident *ident, u64 joined, u64 from);
int testbed_measure_launch(const struct testbed_ident *ident);
int testbed_commit_launch(const struct testbed_ident *ident);
int testbed_measure_mounts(struct task_struct *task, const struct testbed_ident *ident, u64 event,
			   u32 flags);
int testbed_measure_module(const struct testbed_ident *ident, u64 data, u64 size);
int testbed_measure_program(const struct testbed_ident *ident, u32 command, u64 instructions,
			    u32 count);
void testbed_watch_writer(struct file *file);
void testbed_watch_size(struct dentry *dentry);
void testbed_watch_inode(struct inode *inode);
void testbed_watch_overlay(struct super_block *sb);
void testbed_watch_super(struct super_block *sb);
void testbed_watch_name(struct dentry *dentry);
void testbed_watch_node(struct dentry *dentry);
void testbed_watch_alias(struct inode *inode);
int testbed_is_code_of_image(struct file *file, const struct testbed_ident *ident);
void testbed_end_container(u64 seq);
void testbed_count_lost(u32 n);
void testbed_count_of(const struct testbed_ident *ident, u32 counter);
int testbed_beat(u32 event, u64 interval, u64 skipped, u32 proved);
int testbed_set_layout(const struct testbed_layout *layout);
int testbed_measure_part(const struct testbed_part_file *part);
int testbed_claim(const struct testbed_claim *claim);
u64 testbed_take_tally(u32 counter);
int testbed_prototype_file(struct file *file, u32 utsns);
int testbed_prototype_image(u32 utsns);

#endif
