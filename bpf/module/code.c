// SPDX-License-Identifier: GPL-2.0
/*
 * Which files are code of which containers, by the inode that is mapped: asked when
 * somebody, in a container or on the host, is about to change one, and when a
 * container gets a file again.
 *
 * ToMToU: code that was measured is opened for writing, or truncated by its name,
 * while it is in use: mapped, or open for reading. "In use" is what the kernel counts
 * for each inode. It does not tell a mapping of code from one of data, nor who has
 * it: IMA's rule has the same limit.
 *
 * A task that opens the file becomes a writer and then looks here
 * (testbed_watch_writer). A task that measures puts the file here before reading it and
 * looks for writers afterwards. So one of the two sees the other in either order.
 *
 * The table is bounded. The container that fills it pays: its oldest entries go first,
 * then those of the containers that share an outermost one with it, then those of the
 * container with the most. What goes is a loss of its container, as its ToMToU would go unseen.
 */
#include <linux/btf.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/iversion.h>
#include <linux/kdev_t.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "compat.h"
#include "layers.h"
#include "measurer.h"
#include "module.h"

#define BUCKET_BITS 12
/* What an entry of a violation says of its file: the rest is about a digest. */
#define VIOLATION_FLAGS \
	(TESTBED_FILE_NO_PATH | TESTBED_FILE_UNLINKED | TESTBED_FILE_ANON)
/* What is remembered is charged to the container's memory, and bounded for all. */
#define MAX_CODE 32768
#define MAX_CODE_BYTES (16u << 20)
/* Containers that are in one of the host's may have half of it together. */
#define MAX_SHARED (MAX_CODE / 2)
#define MAX_SHARED_BYTES (MAX_CODE_BYTES / 2)

/* All containers that are in one of the host's, with that one. */
struct code_share {
	struct hlist_node node;
	u64 outermost;
	struct list_head by_age;
	u32 count;
	size_t bytes;
};

/* One container. */
struct code_owner {
	struct hlist_node node;
	u64 seq;
	struct code_share *share;
	struct list_head codes; /* the oldest first */
};

struct code {
	struct hlist_node node;
	struct list_head of_owner;
	struct list_head of_share;
	struct code_owner *owner;
	struct rcu_head rcu;
	refcount_t refs;
	unsigned long inode; /* address: compared, never followed; the entry goes when the inode does */
	bool told;	     /* its ToMToU is in the log: the same entry again would be dropped */
	u8 violations;	     /* which of its other violations are in the log, by their number */
	bool logged;	     /* `digest` is in the log */
	u32 logged_flags;    /* of its entries */
	struct testbed_stamp stamp; /* of that content, if one was promised */
	u8 digest[TESTBED_SHA256_SIZE];
	struct testbed_ident ident;
	u32 flags;
	u32 path_len;
	char path[];
};

static DEFINE_HASHTABLE(codes, BUCKET_BITS);
static DEFINE_HASHTABLE(code_owners, 8);
static DEFINE_HASHTABLE(code_shares, 8);
/* Of all that is above; the buckets of `codes` are read under RCU, too. */
static DEFINE_SPINLOCK(code_lock);
static unsigned int code_count;
static size_t code_bytes;

/* ---- the table ---- */

static void code_put(struct code *code)
{
	if (refcount_dec_and_test(&code->refs))
		kfree_rcu(code, rcu);
}

static size_t code_size(const struct code *code)
{
	return struct_size(code, path, code->path_len);
}

static struct code_share *code_find_share(u64 outermost)
{
	struct code_share *share;

	hash_for_each_possible(code_shares, share, node, outermost)
		if (share->outermost == outermost)
			return share;
	return NULL;
}

static struct code_owner *code_find_owner(u64 seq)
{
	struct code_owner *owner;

	hash_for_each_possible(code_owners, owner, node, seq)
		if (owner->seq == seq)
			return owner;
	return NULL;
}

static void code_drop(struct code *code)
{
	struct code_owner *owner = code->owner;
	struct code_share *share = owner->share;

	lockdep_assert_held(&code_lock);
	hash_del_rcu(&code->node);
	list_del(&code->of_owner);
	list_del(&code->of_share);
	code_count--;
	code_bytes -= code_size(code);
	share->count--;
	share->bytes -= code_size(code);
	if (list_empty(&owner->codes)) {
		hash_del(&owner->node);
		kfree(owner);
	}
	if (list_empty(&share->by_age)) {
		hash_del(&share->node);
		kfree(share);
	}
	code_put(code);
}

static struct code *code_find(const struct inode *inode, u64 seq)
{
	struct code *code;

	lockdep_assert_held(&code_lock);
	hash_for_each_possible(codes, code, node, (unsigned long)inode)
		if (code->ident.seq == seq && code->inode == (unsigned long)inode)
			return code;
	return NULL;
}

static bool code_same_path(const struct code *a, const struct code *b)
{
	return a->flags == b->flags && a->path_len == b->path_len &&
	       !memcmp(a->path, b->path, a->path_len);
}

/* How much of the table a share has: of its entries or of its bytes, whichever is more. */
static size_t code_weight(const struct code_share *share)
{
	return max_t(size_t, share->count * (MAX_CODE_BYTES / MAX_CODE), share->bytes);
}

/* Who has most: asked only if the table is full. */
static struct code_share *code_largest_share(void)
{
	struct code_share *share, *largest = NULL;
	int bucket;

	lockdep_assert_held(&code_lock);
	hash_for_each(code_shares, bucket, share, node)
		if (!largest || code_weight(share) > code_weight(largest))
			largest = share;
	return largest;
}

/*
 * Which entry is removed for @fresh, NULL if there is room. If the whole table is full,
 * it is one of the container with the most: a container with few files loses none.
 */
static struct code *code_victim(const struct code *fresh, const struct code_owner *owner,
				struct code_share *share)
{
	bool full = code_count >= MAX_CODE || code_bytes + code_size(fresh) > MAX_CODE_BYTES;
	bool shared = share->count >= MAX_SHARED ||
		      share->bytes + code_size(fresh) > MAX_SHARED_BYTES;

	lockdep_assert_held(&code_lock);
	if (!full && !shared)
		return NULL;
	if (!shared) {
		struct code_share *largest = code_largest_share();

		/* Of two that have as much it is the one that comes. */
		if (largest && code_weight(largest) > code_weight(share))
			return list_first_entry_or_null(&largest->by_age, struct code, of_share);
	}
	if (!list_empty(&owner->codes))
		return list_first_entry(&owner->codes, struct code, of_owner);
	return list_first_entry_or_null(&share->by_age, struct code, of_share);
}

struct code_room {
	struct code_owner *owner;
	struct code_share *share;
};

/* Take the owner and the share of @ident from the table, or @room's for it. */
static struct code_owner *code_owner_of(const struct testbed_ident *ident, struct code_room *room)
{
	struct code_owner *owner = code_find_owner(ident->seq);
	struct code_share *share;

	lockdep_assert_held(&code_lock);
	if (owner)
		return owner;
	share = code_find_share(ident->outermost);
	if (!share) {
		share = room->share;
		room->share = NULL;
		share->outermost = ident->outermost;
		INIT_LIST_HEAD(&share->by_age);
		hash_add(code_shares, &share->node, share->outermost);
	}
	owner = room->owner;
	room->owner = NULL;
	owner->seq = ident->seq;
	owner->share = share;
	INIT_LIST_HEAD(&owner->codes);
	hash_add(code_owners, &owner->node, owner->seq);
	return owner;
}

static void code_link(struct code *fresh, struct code_owner *owner)
{
	lockdep_assert_held(&code_lock);
	fresh->owner = owner;
	hash_add_rcu(codes, &fresh->node, fresh->inode);
	list_add_tail(&fresh->of_owner, &owner->codes);
	list_add_tail(&fresh->of_share, &owner->share->by_age);
	code_count++;
	code_bytes += code_size(fresh);
	owner->share->count++;
	owner->share->bytes += code_size(fresh);
}

/*
 * @fresh comes in, unless it is there already: then that is the youngest now. Return
 * what had to give way, with a reference, or NULL; call again until it is NULL.
 */
static struct code *code_insert(struct inode *inode, struct code *fresh, struct code_room *room)
{
	struct code *old, *victim;
	struct code_owner *owner;

	spin_lock(&code_lock);
	old = code_find(inode, fresh->ident.seq);
	if (old && code_same_path(old, fresh)) {
		list_move_tail(&old->of_owner, &old->owner->codes);
		list_move_tail(&old->of_share, &old->owner->share->by_age);
		spin_unlock(&code_lock);
		code_put(fresh);
		return NULL;
	}
	owner = code_owner_of(&fresh->ident, room);
	victim = code_victim(fresh, owner, owner->share);
	if (victim) {
		refcount_inc(&victim->refs);
		/* An owner or a share without entries must not stay: it comes again with @fresh. */
		if (list_empty(&owner->codes)) {
			hash_del(&owner->node);
			room->owner = owner;
			if (list_empty(&owner->share->by_age)) {
				hash_del(&owner->share->node);
				room->share = owner->share;
			}
		}
		code_drop(victim);
	} else {
		/* Under another path it is another entry. */
		code_link(fresh, owner);
		if (old)
			code_drop(old);
	}
	spin_unlock(&code_lock);
	return victim;
}

void testbed_note_code(struct inode *inode, const struct testbed_ident *ident, u32 flags,
		       const char *path, u32 path_len, gfp_t gfp)
{
	struct code_room room = {
		.owner = kzalloc(sizeof(*room.owner), gfp),
		.share = kzalloc(sizeof(*room.share), gfp),
	};
	struct code *code = kzalloc(struct_size(code, path, path_len), gfp), *victim;

	if (!code || !room.owner || !room.share) {
		testbed_count_for(ident, TESTBED_COUNT_FORGOTTEN, 1);
		kfree(code);
		goto out;
	}
	refcount_set(&code->refs, 1);
	code->ident = *ident;
	code->inode = (unsigned long)inode;
	code->flags = flags & ~(TESTBED_FILE_LATE | TESTBED_FILE_NOT_BOUND);
	code->path_len = path_len;
	memcpy(code->path, path, path_len);
	while ((victim = code_insert(inode, code, &room))) {
		testbed_count_for(&victim->ident, TESTBED_COUNT_FORGOTTEN, 1);
		code_put(victim);
	}
out:
	kfree(room.owner);
	kfree(room.share);
}

/* Is @digest that of @code's last entry, and of the same kind? */
static bool code_has_digest(const struct code *code, const u8 digest[TESTBED_SHA256_SIZE], u32 flags)
{
	return !((flags ^ code->logged_flags) & TESTBED_FILE_VERITY) &&
	       !memcmp(code->digest, digest, sizeof(code->digest));
}

void testbed_learn_code(struct inode *inode, u64 seq, const struct testbed_stamp *stamp,
			const u8 digest[TESTBED_SHA256_SIZE], u32 flags)
{
	struct code *code;

	spin_lock(&code_lock);
	code = code_find(inode, seq);
	if (code) {
		if (!code->logged || !code_has_digest(code, digest, flags))
			code->logged_flags = 0;
		code->logged_flags |= flags;
		code->stamp = stamp ? *stamp : (struct testbed_stamp){};
		memcpy(code->digest, digest, sizeof(code->digest));
		code->logged = true;
	}
	spin_unlock(&code_lock);
}

bool testbed_knows_code(struct inode *inode, u64 seq, const struct testbed_stamp *stamp)
{
	struct code *code;
	bool known;

	spin_lock(&code_lock);
	code = code_find(inode, seq);
	known = code && code->logged && stamp->id && !memcmp(&code->stamp, stamp, sizeof(*stamp));
	spin_unlock(&code_lock);
	return known;
}

bool testbed_knows_digest(struct inode *inode, u64 seq, const u8 digest[TESTBED_SHA256_SIZE],
			  u32 flags)
{
	struct code *code;
	bool known;

	spin_lock(&code_lock);
	code = code_find(inode, seq);
	known = code && code->logged && code_has_digest(code, digest, flags) &&
		!(flags & ~code->logged_flags & TESTBED_FILE_NOT_BOUND);
	spin_unlock(&code_lock);
	return known;
}

/* Is this the first @violation of @inode for container @seq? IMA would drop the same entry again. */
bool testbed_is_first_violation(struct inode *inode, u64 seq, enum testbed_violation violation)
{
	struct code *code;
	bool first = true;

	spin_lock(&code_lock);
	code = code_find(inode, seq);
	if (code) {
		first = !(code->violations & BIT(violation));
		code->violations |= BIT(violation);
	}
	spin_unlock(&code_lock);
	return first;
}

/* Container @seq has ended. Does not sleep. */
void testbed_forget_code(u64 seq)
{
	struct code_owner *owner;

	spin_lock(&code_lock);
	/* The owner goes with its last entry. */
	while ((owner = code_find_owner(seq)))
		code_drop(list_first_entry(&owner->codes, struct code, of_owner));
	spin_unlock(&code_lock);
}

/* @inode leaves the memory of the kernel. Does not sleep. */
void testbed_forget_inode_code(const struct inode *inode)
{
	struct hlist_node *next;
	struct code *code;

	spin_lock(&code_lock);
	hash_for_each_possible_safe(codes, code, next, node, (unsigned long)inode)
		if (code->inode == (unsigned long)inode)
			code_drop(code);
	spin_unlock(&code_lock);
}

void testbed_forget_all_code(void)
{
	struct hlist_node *next;
	struct code *code;
	int bucket;

	spin_lock(&code_lock);
	hash_for_each_safe(codes, bucket, next, code, node)
		code_drop(code);
	spin_unlock(&code_lock);
}

/* ---- violations ---- */

static bool code_in_use(struct inode *inode)
{
	return atomic_read(&inode->i_readcount) > 0 || mapping_mapped(inode->i_mapping);
}

static void code_log_violation(enum testbed_violation violation, u64 device, u64 number,
			       const struct testbed_ident *ident, u32 flags, const char *path,
			       u32 path_len)
{
	enum testbed_counter outcome = TESTBED_COUNT_VIOLATION;
	struct testbed_violation_entry *entry;
	u32 length = struct_size(entry, path, path_len);

	entry = kzalloc(length, GFP_KERNEL);
	if (entry) {
		entry->violation = violation;
		entry->path_len = path_len;
		entry->device = device;
		entry->inode = number;
		memcpy(entry->path, path, path_len);
		testbed_fill_header(&entry->header, TESTBED_KIND_VIOLATION, length,
				    flags & VIOLATION_FLAGS, ident);
		outcome = testbed_log_charged(ident, TESTBED_BUDGET_VIOLATIONS, "ctr-violation",
					      entry, length, TESTBED_COUNT_VIOLATIONS);
		kfree(entry);
	}
	testbed_count_for(ident, outcome, 1);
}

void testbed_log_violation(enum testbed_violation violation, struct inode *inode,
			   const struct testbed_ident *ident, u32 flags, const char *path,
			   u32 path_len)
{
	dev_t device = inode->i_sb->s_dev;

	code_log_violation(violation, (u64)MAJOR(device) << 32 | MINOR(device), inode->i_ino,
			   ident, flags, path, path_len);
}

void testbed_log_layer_violation(const struct testbed_ident *ident, u64 device, u64 number,
				 const char *path, u32 path_len)
{
	u32 flags = path_len ? 0 : TESTBED_FILE_NO_PATH;

	code_log_violation(TESTBED_VIOLATION_LAYER, device, number, ident, flags, path, path_len);
}

/* The common case: it is in the table for no container. */
static bool code_is_any(const struct inode *inode)
{
	struct code *code;
	bool found = false;

	rcu_read_lock();
	hash_for_each_possible_rcu(codes, code, node, (unsigned long)inode)
		if (!READ_ONCE(code->told) && code->inode == (unsigned long)inode) {
			found = true;
			break;
		}
	rcu_read_unlock();
	return found;
}

static struct code *code_next_untold(const struct inode *inode)
{
	struct code *code, *found = NULL;

	spin_lock(&code_lock);
	hash_for_each_possible(codes, code, node, (unsigned long)inode)
		if (!code->told && code->inode == (unsigned long)inode) {
			WRITE_ONCE(code->told, true);
			refcount_inc(&code->refs);
			found = code;
			break;
		}
	spin_unlock(&code_lock);
	return found;
}

static void code_watch_change(struct inode *inode)
{
	struct code *code;

	if (!code_is_any(inode) || !code_in_use(inode))
		return;
	while ((code = code_next_untold(inode))) {
		testbed_log_violation(TESTBED_VIOLATION_TOMTOU, inode, &code->ident, code->flags,
				      code->path, code->path_len);
		code_put(code);
	}
}

__bpf_kfunc_start_defs();

/*
 * @file has been opened for writing: who opened it has not got it yet. Whatever was
 * promised of its content is not any more, also where the file system does not count
 * the change that comes (blocks that are exchanged).
 */
__bpf_kfunc void testbed_watch_writer(struct file *file)
{
	struct inode *inode = file_inode(file);

	testbed_see_canary();
	if (!S_ISREG(inode->i_mode))
		return;
	testbed_change_file(file);
	/* An overlay opens the real file as well: that is when it is looked for. */
	if (IS_I_VERSION(inode))
		inode_maybe_inc_iversion(inode, false);
	code_watch_change(inode);
}

/* The size of the file at @dentry is going to change. */
__bpf_kfunc void testbed_watch_size(struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);

	if (inode)
		code_watch_change(inode);
	testbed_change_node(dentry);
}

/* @inode leaves the memory of the kernel: its address will come again. */
__bpf_kfunc void testbed_watch_inode(struct inode *inode)
{
	if (S_ISDIR(inode->i_mode)) {
		testbed_forget_layer(inode);
		return;
	}
	testbed_forget_inode_contents(inode);
	testbed_forget_inode_code(inode);
}

__bpf_kfunc_end_defs();
