/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the files of the module. */
#ifndef TESTBED_MODULE_H
#define TESTBED_MODULE_H

#include <linux/fs.h>
#include <linux/types.h>

#include "measurer.h"

struct crypto_shash;
struct dentry;
struct file;
struct path;

/* ---- main.c ---- */

struct crypto_shash *testbed_sha256(void);

/* Hash a file afresh, and tell how many bytes that were, also when it fails. */
int testbed_hash_file(struct file *file, u8 digest[TESTBED_SHA256_SIZE], u64 *bytes);

/* Highest number of a container so far. */
u64 testbed_last_seq(void);

void testbed_fill_header(struct testbed_header *header, enum testbed_kind kind, u32 length,
			 u32 flags, const struct testbed_ident *ident);

/* Hand an entry to IMA. Return the counter of the outcome: @written if it is new. */
enum testbed_counter testbed_log_entry(const char *event, const void *entry, u32 length,
				       enum testbed_counter written);

/*
 * Put the path of @file from @root (NULL: the current task's) into @buf of PATH_MAX
 * bytes, set the flags of the entry, return its length.
 */
u32 testbed_fill_path(struct file *file, const struct path *root, char *buf, u32 *flags);

/* Hash @file, log it for @ident with the path in @entry. Return the counter of the outcome. */
int testbed_log_file(struct file *file, struct testbed_file_entry *entry, u32 flags,
		     const struct testbed_ident *ident, struct testbed_work *work);

/* As testbed_stamp_file(). Does not sleep. */
int testbed_stamp_inode(struct inode *inode, struct testbed_stamp *stamp);

/* ---- code.c ---- */

void testbed_note_code(struct inode *inode, const struct testbed_ident *ident, u32 flags,
		       const struct testbed_file_entry *entry);
void testbed_learn_code(struct inode *inode, u64 seq, const struct testbed_stamp *stamp);
bool testbed_knows_code(struct inode *inode, u64 seq);

/* Is it open for writing, or mapped shared by somebody who may write? */
bool testbed_has_writers(struct inode *inode);
void testbed_log_violation(enum testbed_violation violation, struct inode *inode,
			   const struct testbed_ident *ident, u32 flags, const char *path,
			   u32 path_len);

void testbed_watch_writer(struct file *file);
void testbed_watch_size(struct dentry *dentry);

/* ---- late.c ---- */

void testbed_wait_for_late(void);

int testbed_measure_later(struct vm_area_struct *vma, const struct testbed_ident *ident);

/* ---- tally.c ---- */

/* Count what no program waits for; what is lost is said by the next beat. */
void testbed_tally(enum testbed_counter counter, u64 n);

u64 testbed_take_tally(u32 counter);

/* ---- beat.c ---- */

/* kfuncs, which have no header elsewhere: they are listed in main.c. */
int testbed_beat(u32 event, u64 interval, u64 skipped);
void testbed_count_lost(u64 n);

/* No beat comes after this. */
void testbed_stop_beats(void);

/* ---- known.c ---- */

enum testbed_digest_kind { TESTBED_DIGEST_SHA256 = 1, TESTBED_DIGEST_VERITY };

/* Begin to remember digests. */
void testbed_know_digests(void);
void testbed_forget_digests(void);

/* Which content is about to be read. */
struct testbed_memo {
	struct inode *inode; /* compared, and valid while the dentry is */
	struct testbed_stamp stamp;
	bool promised; /* an equal stamp will mean equal content */
};

bool testbed_recall(enum testbed_digest_kind kind, struct dentry *dentry,
		    struct testbed_memo *memo, u8 digest[TESTBED_SHA256_SIZE]);
void testbed_memorize(enum testbed_digest_kind kind, struct dentry *dentry,
		      const struct testbed_memo *memo, const u8 digest[TESTBED_SHA256_SIZE]);

/* ---- verity.c ---- */

struct testbed_verity;

/* Room to compute digests in, NULL if there is none. */
struct testbed_verity *testbed_new_verity(void);
void testbed_free_verity(struct testbed_verity *verity);

int testbed_verity_digest(struct testbed_verity *verity, const struct path *path,
			  const struct testbed_verity_layout *layout, u64 limit,
			  u8 digest[TESTBED_SHA256_SIZE], u64 *bytes);

/* ---- launch.c, claim.c ---- */

int testbed_measure_launch(const struct testbed_ident *ident,
			   const struct testbed_verity_layout *layout);
int testbed_commit_launch(const struct testbed_ident *ident,
			  const struct testbed_verity_layout *layout);
int testbed_claim(const struct testbed_claim *claim);

/* Move the claim about the current process into @digest. Return false if there is none. */
bool testbed_take_claim(u8 digest[TESTBED_SHA256_SIZE]);

#endif
