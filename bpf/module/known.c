// SPDX-License-Identifier: GPL-2.0
/*
 * Digests of contents that were read before, by stamp: an image that is started
 * again is walked again, but not read again. Bounded: a new digest takes the
 * place of an older one of its row.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

#define ROWS_LOG 12
#define ROW 8

struct known {
	struct testbed_stamp stamp;
	u8 digest[TESTBED_SHA256_SIZE];
	u32 kind; /* 0: free */
};

struct row {
	struct known known[ROW];
	u32 next;
};

static DEFINE_SPINLOCK(lock); /* of all that follows */
static struct row *rows;

static struct row *row_of(const struct testbed_stamp *stamp)
{
	return &rows[hash_64(stamp->inode ^ stamp->ino, ROWS_LOG)];
}

static struct known *find(struct row *row, enum testbed_digest_kind kind,
			  const struct testbed_stamp *stamp)
{
	for (u32 at = 0; at < ROW; at++)
		if (row->known[at].kind == kind &&
		    !memcmp(&row->known[at].stamp, stamp, sizeof(*stamp)))
			return &row->known[at];
	return NULL;
}

/*
 * Is the content of @dentry known? Fill @digest then. @memo is for who reads it now
 * and has it memorized afterwards.
 */
bool testbed_recall(enum testbed_digest_kind kind, struct dentry *dentry,
		    struct testbed_memo *memo, u8 digest[TESTBED_SHA256_SIZE])
{
	struct known *known = NULL;

	memo->inode = d_real_inode(dentry);
	memo->promised = !testbed_stamp_inode(memo->inode, &memo->stamp);
	if (!memo->promised)
		return false;
	spin_lock(&lock);
	if (rows)
		known = find(row_of(&memo->stamp), kind, &memo->stamp);
	if (known)
		memcpy(digest, known->digest, TESTBED_SHA256_SIZE);
	spin_unlock(&lock);
	return known;
}

/*
 * @digest is of what was read since @memo. It is kept if that cannot have changed: a
 * file that was copied up meanwhile has another real inode from then on, so an equal
 * one was there when it was opened, too.
 */
void testbed_memorize(enum testbed_digest_kind kind, struct dentry *dentry,
		      const struct testbed_memo *memo, const u8 digest[TESTBED_SHA256_SIZE])
{
	struct testbed_stamp now;
	struct known *known;
	struct row *row;

	if (!memo->promised || d_real_inode(dentry) != memo->inode ||
	    testbed_stamp_inode(memo->inode, &now) || memcmp(&memo->stamp, &now, sizeof(now)))
		return;
	spin_lock(&lock);
	if (rows && !find(row_of(&now), kind, &now)) {
		row = row_of(&now);
		known = &row->known[row->next++ % ROW];
		known->kind = kind;
		known->stamp = now;
		memcpy(known->digest, digest, TESTBED_SHA256_SIZE);
	}
	spin_unlock(&lock);
}

/* Some megabytes, so only where images are measured. Without them all is read each time. */
void testbed_know_digests(void)
{
	struct row *fresh;

	if (READ_ONCE(rows))
		return;
	fresh = kvzalloc(sizeof(*fresh) << ROWS_LOG, GFP_KERNEL);
	spin_lock(&lock);
	if (!rows)
		swap(rows, fresh);
	spin_unlock(&lock);
	kvfree(fresh);
}

void testbed_forget_digests(void)
{
	kvfree(rows);
	rows = NULL;
}
