// SPDX-License-Identifier: GPL-2.0
/*
 * Digests of contents that were read before, by stamp: an image that is started
 * again is walked again, but not read again. Bounded: a new digest takes the
 * place of an older one of its row.
 */
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

bool testbed_known_digest(enum testbed_digest_kind kind, const struct testbed_stamp *stamp,
			  u8 digest[TESTBED_SHA256_SIZE])
{
	struct known *known = NULL;

	spin_lock(&lock);
	if (rows)
		known = find(row_of(stamp), kind, stamp);
	if (known)
		memcpy(digest, known->digest, TESTBED_SHA256_SIZE);
	spin_unlock(&lock);
	return known;
}

void testbed_learn_digest(enum testbed_digest_kind kind, const struct testbed_stamp *stamp,
			  const u8 digest[TESTBED_SHA256_SIZE])
{
	struct known *known;
	struct row *row;

	spin_lock(&lock);
	if (rows && !find(row_of(stamp), kind, stamp)) {
		row = row_of(stamp);
		known = &row->known[row->next++ % ROW];
		known->kind = kind;
		known->stamp = *stamp;
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
