// SPDX-License-Identifier: GPL-2.0
/*
 * Which files are code of which containers, by the real inode: asked when
 * somebody, in a container or on the host, is about to change one.
 *
 * Two things are entries of their own (docs/formats.md, ctr-violation):
 *
 *   open writers  code is measured while it is open for writing, or mapped shared
 *                 by somebody who may write
 *   ToMToU        code that was measured is opened for writing, or truncated by its
 *                 name, while it is in use: mapped, or open for reading
 *
 * "In use" is what the kernel counts for each inode. It does not tell a mapping of
 * code from one of data, nor who has it: IMA's rule has the same limit.
 *
 * An opener becomes a writer and then looks here; who measures puts the file here
 * before reading it and looks for writers afterwards. So one of the two sees the
 * other, whoever comes first.
 */
#include <linux/btf.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/kdev_t.h>
#include <linux/list.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

#define BUCKET_BITS 12
/* What is remembered is charged to the container's memory, and bounded for all. */
#define MAX_CODE 32768
#define MAX_BYTES (16u << 20)

struct code {
	struct hlist_node node;
	struct list_head by_age;
	struct rcu_head rcu;
	refcount_t refs;
	bool told;  /* its ToMToU is in the log: the same entry again would be dropped */
	bool known; /* `stamp` is that of content which is in the log */
	struct testbed_ident ident;
	struct testbed_stamp stamp; /* without `known`: the first four fields only */
	u32 flags;
	u32 path_len;
	char path[];
};

static DEFINE_HASHTABLE(codes, BUCKET_BITS);
static DEFINE_SPINLOCK(code_lock); /* of all that follows; the buckets are read under RCU, too */
static LIST_HEAD(oldest);
static unsigned int count;
static size_t bytes;

/* ---- the table ---- */

static void put(struct code *code)
{
	if (refcount_dec_and_test(&code->refs))
		kfree_rcu(code, rcu);
}

static size_t size_of(const struct code *code)
{
	return sizeof(*code) + code->path_len;
}

static void drop(struct code *code)
{
	hash_del_rcu(&code->node);
	list_del(&code->by_age);
	count--;
	bytes -= size_of(code);
	put(code);
}

/* An inode that was freed, and another that came to its place, differ. */
static bool is_of(const struct code *code, const struct inode *inode)
{
	return code->stamp.inode == (unsigned long)inode &&
	       code->stamp.sb == (unsigned long)inode->i_sb &&
	       code->stamp.ino == inode->i_ino &&
	       code->stamp.generation == inode->i_generation;
}

static struct code *find(const struct inode *inode, u64 seq)
{
	struct code *code;

	hash_for_each_possible(codes, code, node, (unsigned long)inode)
		if (code->ident.seq == seq && is_of(code, inode))
			return code;
	return NULL;
}

static bool same_path(const struct code *a, const struct code *b)
{
	return a->flags == b->flags && a->path_len == b->path_len &&
	       !memcmp(a->path, b->path, a->path_len);
}

/* @fresh comes in, unless it is there already: then that is the youngest now. */
static void insert(struct inode *inode, struct code *fresh)
{
	unsigned int forgotten = 0;
	struct code *old;

	spin_lock(&code_lock);
	old = find(inode, fresh->ident.seq);
	if (old && same_path(old, fresh)) {
		list_move_tail(&old->by_age, &oldest);
		spin_unlock(&code_lock);
		put(fresh);
		return;
	}
	if (old)
		drop(old);
	while (count && (count >= MAX_CODE || bytes + size_of(fresh) > MAX_BYTES)) {
		drop(list_first_entry(&oldest, struct code, by_age));
		forgotten++;
	}
	hash_add_rcu(codes, &fresh->node, (unsigned long)inode);
	list_add_tail(&fresh->by_age, &oldest);
	count++;
	bytes += size_of(fresh);
	spin_unlock(&code_lock);
	if (forgotten)
		testbed_tally(TESTBED_COUNT_FORGOTTEN, forgotten);
}

/* @inode is code of @ident from now on, under the path of @entry. May sleep. */
void testbed_note_code(struct inode *inode, const struct testbed_ident *ident, u32 flags,
		       const struct testbed_file_entry *entry)
{
	struct code *code;

	code = kzalloc(sizeof(*code) + entry->path_len, GFP_KERNEL_ACCOUNT);
	if (!code) {
		testbed_tally(TESTBED_COUNT_FORGOTTEN, 1);
		return;
	}
	refcount_set(&code->refs, 1);
	code->ident = *ident;
	code->stamp.inode = (unsigned long)inode;
	code->stamp.sb = (unsigned long)inode->i_sb;
	code->stamp.ino = inode->i_ino;
	code->stamp.generation = inode->i_generation;
	code->flags = flags;
	code->path_len = entry->path_len;
	memcpy(code->path, entry->path, entry->path_len);
	insert(inode, code);
}

/* What has @stamp is in the log for container @seq. */
void testbed_learn_code(struct inode *inode, u64 seq, const struct testbed_stamp *stamp)
{
	struct code *code;

	spin_lock(&code_lock);
	code = find(inode, seq);
	if (code) {
		code->stamp = *stamp;
		code->known = true;
	}
	spin_unlock(&code_lock);
}

/* Has container @seq got just this content? Does not sleep. */
bool testbed_knows_code(struct inode *inode, u64 seq)
{
	struct testbed_stamp now;
	struct code *code;
	bool known;

	if (testbed_stamp_inode(inode, &now))
		return false;
	spin_lock(&code_lock);
	code = find(inode, seq);
	known = code && code->known && !memcmp(&code->stamp, &now, sizeof(now));
	spin_unlock(&code_lock);
	return known;
}

/* ---- violations ---- */

bool testbed_has_writers(struct inode *inode)
{
	return atomic_read(&inode->i_writecount) > 0 || mapping_writably_mapped(inode->i_mapping);
}

static bool in_use(struct inode *inode)
{
	return atomic_read(&inode->i_readcount) > 0 || mapping_mapped(inode->i_mapping);
}

static bool is_written(enum testbed_counter outcome)
{
	return outcome == TESTBED_COUNT_VIOLATIONS || outcome == TESTBED_COUNT_DUPLICATES;
}

void testbed_log_violation(enum testbed_violation violation, struct inode *inode,
			   const struct testbed_ident *ident, u32 flags, const char *path,
			   u32 path_len)
{
	enum testbed_counter outcome = TESTBED_COUNT_NO_MEMORY;
	struct testbed_violation_entry *entry;
	u32 length = sizeof(*entry) + path_len;
	dev_t device = inode->i_sb->s_dev;

	entry = kzalloc(length, GFP_KERNEL);
	if (entry) {
		entry->violation = violation;
		entry->path_len = path_len;
		entry->device = (u64)MAJOR(device) << 32 | MINOR(device);
		entry->inode = inode->i_ino;
		memcpy(entry->path, path, path_len);
		testbed_fill_header(&entry->header, TESTBED_KIND_VIOLATION, length, flags, ident);
		outcome = testbed_log_entry("ctr-violation", entry, length,
					    TESTBED_COUNT_VIOLATIONS);
		kfree(entry);
	}
	testbed_tally(is_written(outcome) ? outcome : TESTBED_COUNT_VIOLATION, 1);
}

/* The common case: nobody's code. */
static bool is_code(const struct inode *inode)
{
	struct code *code;
	bool found = false;

	rcu_read_lock();
	hash_for_each_possible_rcu(codes, code, node, (unsigned long)inode)
		if (!READ_ONCE(code->told) && is_of(code, inode)) {
			found = true;
			break;
		}
	rcu_read_unlock();
	return found;
}

static struct code *next_untold(const struct inode *inode)
{
	struct code *code, *found = NULL;

	spin_lock(&code_lock);
	hash_for_each_possible(codes, code, node, (unsigned long)inode)
		if (!code->told && is_of(code, inode)) {
			WRITE_ONCE(code->told, true);
			refcount_inc(&code->refs);
			found = code;
			break;
		}
	spin_unlock(&code_lock);
	return found;
}

static void watch_change(struct inode *inode)
{
	struct code *code;

	if (!is_code(inode) || !in_use(inode))
		return;
	while ((code = next_untold(inode))) {
		testbed_log_violation(TESTBED_VIOLATION_TOMTOU, inode, &code->ident, code->flags,
				      code->path, code->path_len);
		put(code);
	}
}

__bpf_kfunc_start_defs();

/* @file has been opened for writing: who opened it has not got it yet. */
__bpf_kfunc void testbed_watch_writer(struct file *file)
{
	/* An overlay opens the real file as well: that is when it is looked for. */
	watch_change(file_inode(file));
}

/* The size of the file at @dentry is going to change. */
__bpf_kfunc void testbed_watch_size(struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);

	if (inode)
		watch_change(inode);
}

__bpf_kfunc_end_defs();
