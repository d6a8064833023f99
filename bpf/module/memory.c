// SPDX-License-Identifier: GPL-2.0
/*
 * What is remembered of inodes as long as they are in memory: a number that no other
 * inode has in this boot, whether its pages are settled, and digests of contents that
 * were read before, by stamp. So an image that is started again is walked again, but
 * not read again.
 *
 * Bounded: when all places are taken, one is drawn for a new inode. Any inode may have
 * any place: where a few belonged to each hash, some of an image's files took turns
 * in one and were read at each start. And not the oldest's: an image of one file more
 * than places would find none, as its files come in the same order each time. An inode
 * that comes again gets another number, so that is a matter of time only: no old stamp
 * is ever equal to a new one. Of some places that are drawn, one is taken of the outermost
 * container with most of them: a container that fills the memory loses its own places.
 */
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "compat.h"
#include "module.h"

#define PLACES_LOG 15
#define PLACES (1u << PLACES_LOG)
/* Who has half of all places has most of so many drawn ones, but for one time in nine, at least. */
#define DRAWN 8

struct remembered {
	struct hlist_node node; /* among those of its hash, or those that are unused */
	unsigned long inode;	/* address: compared, never followed */
	u64 id;
	u64 payer;	/* the outermost container that met it first */
	errseq_t errors; /* of writing pages back, when the digests were computed */
	bool settled; /* `stamp` is of content whose pages were written back and dropped */
	u8 digests;   /* which of them there are */
	struct testbed_stamp stamp;
	u8 digest[TESTBED_DIGEST_KINDS][TESTBED_SHA256_SIZE];
};

struct memory {
	struct hlist_head heads[PLACES];
	struct remembered places[PLACES];
	u32 taken;		  /* places that were ever used */
	struct hlist_head unused; /* of these, now */
	struct rnd_state random;
};

static DEFINE_SPINLOCK(memory_lock); /* of all that follows */
static struct memory *memory;
static u64 memory_last_id;

/* Stamps with an id below this are void. Read by the programs, by its name. */
u64 testbed_oldest_id = 1;

int testbed_init_memory(void)
{
	/* Zeroes are empty lists and nodes that are in none. */
	memory = kvzalloc(sizeof(*memory), GFP_KERNEL);
	if (!memory)
		return -ENOMEM;
	/* Nobody can foresee which place is drawn. */
	prandom_seed_state(&memory->random, get_random_u64());
	return 0;
}

void testbed_exit_memory(void)
{
	kvfree(memory);
	memory = NULL;
}

static struct hlist_head *memory_head(unsigned long inode)
{
	return &memory->heads[hash_64(inode, PLACES_LOG)];
}

static struct remembered *memory_find(unsigned long inode)
{
	struct remembered *found;

	lockdep_assert_held(&memory_lock);
	hlist_for_each_entry(found, memory_head(inode), node)
		if (found->inode == inode)
			return found;
	return NULL;
}

/*
 * What is remembered of just the content of @stamp. Nothing while somebody may be about
 * to switch the hooks off: then no hook would see a writer.
 */
static struct remembered *memory_find_stamp(const struct testbed_stamp *stamp)
{
	struct remembered *found = memory_find(stamp->inode);

	if (!found || !stamp->id || memcmp(&found->stamp, stamp, sizeof(*stamp)))
		return NULL;
	return testbed_is_attached() ? found : NULL;
}

/* A place to be taken from who has it. */
static struct remembered *memory_draw(void)
{
	struct remembered *drawn[DRAWN], *found = NULL;
	u32 most = 0;

	lockdep_assert_held(&memory_lock);
	for (u32 at = 0; at < DRAWN; at++)
		drawn[at] = &memory->places[prandom_u32_state(&memory->random) % PLACES];
	for (u32 at = 0; at < DRAWN; at++) {
		u32 count = 0;

		for (u32 other = 0; other < DRAWN; other++)
			count += drawn[other]->payer == drawn[at]->payer;
		if (count > most) {
			most = count;
			found = drawn[at];
		}
	}
	return found;
}

static struct remembered *memory_place(void)
{
	struct remembered *place;

	lockdep_assert_held(&memory_lock);
	if (hlist_empty(&memory->unused) && memory->taken < PLACES)
		return &memory->places[memory->taken++];
	if (hlist_empty(&memory->unused))
		place = memory_draw();
	else
		place = hlist_entry(memory->unused.first, struct remembered, node);
	hlist_del_init(&place->node);
	return place;
}

u64 testbed_incarnation(const struct inode *inode, u64 payer)
{
	struct remembered *found;
	u64 id;

	spin_lock(&memory_lock);
	found = memory_find((unsigned long)inode);
	if (!found) {
		found = memory_place();
		found->inode = (unsigned long)inode;
		found->id = ++memory_last_id;
		found->payer = payer;
		found->settled = false;
		found->digests = 0;
		memset(&found->stamp, 0, sizeof(found->stamp));
		hlist_add_head(&found->node, memory_head(found->inode));
	}
	id = found->id;
	spin_unlock(&memory_lock);
	return id;
}

bool testbed_is_settled(const struct testbed_stamp *stamp)
{
	struct remembered *found;
	bool settled;

	spin_lock(&memory_lock);
	found = memory_find_stamp(stamp);
	settled = found && found->settled;
	spin_unlock(&memory_lock);
	return settled;
}

void testbed_set_settled(const struct testbed_stamp *stamp)
{
	struct remembered *found;

	spin_lock(&memory_lock);
	found = memory_find(stamp->inode);
	if (found && found->id == stamp->id) {
		if (memcmp(&found->stamp, stamp, sizeof(*stamp)))
			found->digests = 0;
		found->stamp = *stamp;
		found->settled = true;
	}
	spin_unlock(&memory_lock);
}

bool testbed_recall(enum testbed_digest_kind kind, struct testbed_content *content,
		    u8 digest[TESTBED_SHA256_SIZE])
{
	struct remembered *found;
	bool known;

	might_sleep();
	if (!content->promised || content->written || content->tail)
		return false;
	spin_lock(&memory_lock);
	found = memory_find_stamp(&content->stamp);
	known = found && found->settled && (found->digests & BIT(kind)) &&
		found->errors == content->errors;
	if (known)
		memcpy(digest, found->digest[kind], TESTBED_SHA256_SIZE);
	spin_unlock(&memory_lock);
	/* A hit is a promise under the same conditions as a hash. */
	return known && testbed_end_content(content);
}

void testbed_memorize(enum testbed_digest_kind kind, const struct testbed_content *content,
		      const u8 digest[TESTBED_SHA256_SIZE])
{
	struct remembered *found;

	spin_lock(&memory_lock);
	found = memory_find_stamp(&content->stamp);
	if (found && found->settled) {
		if (found->errors != content->errors)
			found->digests = 0;
		found->errors = content->errors;
		found->digests |= BIT(kind);
		memcpy(found->digest[kind], digest, TESTBED_SHA256_SIZE);
	}
	spin_unlock(&memory_lock);
}

/* @inode leaves the memory of the kernel. Does not sleep. */
void testbed_forget_inode_contents(const struct inode *inode)
{
	struct remembered *found;

	spin_lock(&memory_lock);
	found = memory_find((unsigned long)inode);
	if (found) {
		hlist_del(&found->node);
		found->inode = 0;
		found->id = 0;
		hlist_add_head(&found->node, &memory->unused);
	}
	spin_unlock(&memory_lock);
}

void testbed_forget_contents(void)
{
	spin_lock(&memory_lock);
	for (u32 at = 0; at < memory->taken; at++)
		hlist_del_init(&memory->places[at].node);
	INIT_HLIST_HEAD(&memory->unused);
	memory->taken = 0;
	WRITE_ONCE(testbed_oldest_id, memory_last_id + 1);
	spin_unlock(&memory_lock);
}
