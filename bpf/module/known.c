// SPDX-License-Identifier: GPL-2.0
/*
 * Digests of contents that were read before, by stamp: an image that is started
 * again is walked again, but not read again. Bounded: when all places are taken, one
 * is drawn for a new digest. Any content may have any place: where a few belonged to
 * each hash, some of an image's files took turns in one and were read at each start.
 * And not the oldest's: an image of one file more than places would find none, as
 * its files come in the same order each time.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

#define PLACES_LOG 15
#define PLACES (1u << PLACES_LOG)

struct known {
	struct hlist_node node; /* unhashed: free */
	struct testbed_stamp stamp;
	u8 digest[TESTBED_SHA256_SIZE];
	enum testbed_digest_kind kind;
};

struct table {
	struct hlist_head heads[PLACES];
	struct known places[PLACES];
	u32 taken;
	struct rnd_state random;
};

static DEFINE_SPINLOCK(lock); /* of all that follows */
static struct table *table;

static struct hlist_head *head_of(const struct testbed_stamp *stamp)
{
	return &table->heads[hash_64(stamp->inode ^ stamp->ino, PLACES_LOG)];
}

static struct known *find(enum testbed_digest_kind kind, const struct testbed_stamp *stamp)
{
	struct known *known;

	hlist_for_each_entry(known, head_of(stamp), node)
		if (known->kind == kind && !memcmp(&known->stamp, stamp, sizeof(*stamp)))
			return known;
	return NULL;
}

static struct known *place(void)
{
	if (table->taken < PLACES)
		return &table->places[table->taken++];
	return &table->places[prandom_u32_state(&table->random) % PLACES];
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
	if (table)
		known = find(kind, &memo->stamp);
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

	if (!memo->promised || d_real_inode(dentry) != memo->inode ||
	    testbed_stamp_inode(memo->inode, &now) || memcmp(&memo->stamp, &now, sizeof(now)))
		return;
	spin_lock(&lock);
	if (table && !find(kind, &now)) {
		known = place();
		hlist_del_init(&known->node);
		known->kind = kind;
		known->stamp = now;
		memcpy(known->digest, digest, TESTBED_SHA256_SIZE);
		hlist_add_head(&known->node, head_of(&now));
	}
	spin_unlock(&lock);
}

/* Some megabytes, so only where images are measured. Without them all is read each time. */
void testbed_know_digests(void)
{
	struct table *fresh;

	if (READ_ONCE(table))
		return;
	/* Zeroes are empty lists and nodes that are in none. */
	fresh = kvzalloc(sizeof(*fresh), GFP_KERNEL);
	if (fresh)
		prandom_seed_state(&fresh->random, 1);
	spin_lock(&lock);
	if (!table)
		swap(table, fresh);
	spin_unlock(&lock);
	kvfree(fresh);
}

void testbed_forget_digests(void)
{
	kvfree(table);
	table = NULL;
}
