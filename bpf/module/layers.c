// SPDX-License-Identifier: GPL-2.0
/*
 * Directories that are layers of overlays, and whether anything in them has changed.
 *
 * A layer is *at rest* from the moment on at which all operations that began before it
 * was watched are over, until the first change after that. It has an epoch for as long:
 * a number that is never used again, so that what was learned of a layer in one epoch
 * matches it in no other.
 *
 * How a change is seen. The LSM hooks come before the change: the program calls
 * testbed_watch_name() for a directory entry that is made, removed or renamed, and
 * testbed_watch_node() for what a file is (attributes, extended attributes, an open for
 * writing, a truncation). A dentry keeps its parents in memory, so the walk up from the
 * dentry finds each layer that it is in, however many names the file system has been
 * mounted under. Nothing is remembered of the files themselves, so it does not matter
 * which inodes the kernel has dropped meanwhile.
 *
 * What the walk up does not find:
 *
 *   another name     A file with several names may be changed by one outside of the
 *                    layer. Its number is remembered (struct linked) when the layer
 *                    comes to rest; a name that is added later is seen by the hook for
 *                    link, which comes before the inode is locked, and therefore by the
 *                    one for d_instantiate as well, which comes when the name is there.
 *   no name          A descriptor of a name that was removed, or that was opened by a
 *                    file handle: nobody can tell where it is. All layers of that file
 *                    system have changed then. That costs time only.
 *   the disk         Who writes to the device below the file system. Documented.
 *
 * How operations are waited for that began before the layer was watched, whose hooks
 * have found nothing. All but two take the lock of the inode that they change, or of
 * the directory, before their hook and keep it until they are done. So the walk to rest
 * (rest_walk) takes each of these locks once, shared: it waits for those that began
 * before, and those that begin later find the layer. The two are an open for writing,
 * which counts as a writer before its hook (and the walk looks for writers after the
 * layer is watched), and link, see above.
 */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "layers.h"
#include "module.h"
#include "tree.h"

/* A layer beyond one of these is not watched: its images are walked at each start. */
#define MAX_LAYERS 4096
#define MAX_LINKED 65536
#define MAX_NAMES 200000
#define MAX_DEPTH 128
#define MAX_TIME (2 * HZ)

struct layer {
	struct hlist_node node;
	struct rcu_head rcu;
	unsigned long inode;	  /* of its root: compared, never followed; it goes with the inode */
	struct super_block *sb;	  /* compared, never followed */
	u64 id;			  /* of this record */
	u64 epoch;		  /* 0: not at rest */
	u64 changes;
	bool upper; /* watched for one walk only; its changes concern nobody else */
};

/* A file that is in @layer, and had another name when that came to rest. */
struct linked {
	struct hlist_node node;
	struct rcu_head rcu;
	unsigned long number;
	struct super_block *sb;
	unsigned long layer;
};

static DEFINE_HASHTABLE(layers, 8);
static DEFINE_HASHTABLE(layers_linked, 10);
/* Of all that is above; lookups by the hooks are under RCU. */
static DEFINE_SPINLOCK(layers_lock);
static unsigned int layers_count, layers_linked_count;
static u64 layers_last_id, layers_last_epoch;

/* ---- the table ---- */

static struct layer *layer_find(unsigned long inode)
{
	struct layer *layer;

	hash_for_each_possible_rcu(layers, layer, node, inode, lockdep_is_held(&layers_lock))
		if (layer->inode == inode)
			return layer;
	return NULL;
}

static void layer_drop_linked(unsigned long inode)
{
	struct hlist_node *next;
	struct linked *linked;
	int bucket;

	lockdep_assert_held(&layers_lock);
	if (!layers_linked_count)
		return;
	hash_for_each_safe(layers_linked, bucket, next, linked, node)
		if (linked->layer == inode) {
			hash_del_rcu(&linked->node);
			kfree_rcu(linked, rcu);
			layers_linked_count--;
		}
}

static void layer_drop(struct layer *layer)
{
	lockdep_assert_held(&layers_lock);
	layer_drop_linked(layer->inode);
	hash_del_rcu(&layer->node);
	WRITE_ONCE(layers_count, layers_count - 1);
	kfree_rcu(layer, rcu);
}

static struct linked *linked_find(const struct inode *inode, unsigned long layer)
{
	struct linked *linked;

	hash_for_each_possible_rcu(layers_linked, linked, node, inode->i_ino,
				   lockdep_is_held(&layers_lock))
		if (linked->number == inode->i_ino && linked->sb == inode->i_sb &&
		    (!layer || linked->layer == layer))
			return linked;
	return NULL;
}

/* Remember that @inode has several names. Takes @fresh. Return false if there is no room. */
static bool linked_add(const struct inode *inode, unsigned long layer, struct linked *fresh)
{
	lockdep_assert_held(&layers_lock);
	if (linked_find(inode, layer)) {
		kfree(fresh);
		return true;
	}
	if (!fresh || layers_linked_count >= MAX_LINKED) {
		kfree(fresh);
		return false;
	}
	fresh->number = inode->i_ino;
	fresh->sb = inode->i_sb;
	fresh->layer = layer;
	layers_linked_count++;
	hash_add_rcu(layers_linked, &fresh->node, fresh->number);
	return true;
}

void testbed_forget_layer(const struct inode *inode)
{
	struct layer *layer;

	if (!READ_ONCE(layers_count))
		return;
	spin_lock(&layers_lock);
	layer = layer_find((unsigned long)inode);
	if (layer)
		layer_drop(layer);
	spin_unlock(&layers_lock);
}

void testbed_forget_layers(void)
{
	struct hlist_node *next;
	struct layer *layer;
	int bucket;

	testbed_forget_overlays();
	spin_lock(&layers_lock);
	hash_for_each_safe(layers, bucket, next, layer, node)
		layer_drop(layer);
	spin_unlock(&layers_lock);
}

/* ---- changes ---- */

static void layer_change(struct layer *layer, struct dentry *dentry)
{
	lockdep_assert_held(&layers_lock);
	layer->changes++;
	layer->epoch = 0;
	if (!layer->upper)
		testbed_change_overlays(layer->inode, dentry);
}

/* Nobody can tell which layer of @sb changes: each does. */
static void layers_change_all(struct super_block *sb, struct dentry *dentry)
{
	struct layer *layer;
	int bucket;

	spin_lock(&layers_lock);
	hash_for_each(layers, bucket, layer, node)
		if (layer->sb == sb)
			layer_change(layer, dentry);
	spin_unlock(&layers_lock);
}

/* The directory above, NULL at the root of a file system, or of a part whose place is not known. */
static struct dentry *layer_above(const struct dentry *dentry)
{
	struct dentry *parent = READ_ONCE(dentry->d_parent);

	return parent == dentry ? NULL : parent;
}

/* @dentry and all that is above it. */
#define for_each_above(at, dentry) for (at = (dentry); at; at = layer_above(at))

/* The layer whose root @dentry is, NULL if it is none's. */
static struct layer *layer_of_root(const struct dentry *dentry)
{
	const struct inode *inode = d_inode_rcu(dentry);

	return inode ? layer_find((unsigned long)inode) : NULL;
}

static bool layer_has(struct dentry *dentry)
{
	struct dentry *at;

	for_each_above(at, dentry)
		if (layer_of_root(at))
			return true;
	return false;
}

/* Each layer in which @dentry is, or whose root it is, changes. */
static void layers_change(struct dentry *dentry)
{
	struct layer *layer;
	struct dentry *at;

	spin_lock(&layers_lock);
	for_each_above(at, dentry) {
		layer = layer_of_root(at);
		if (layer)
			layer_change(layer, dentry);
	}
	spin_unlock(&layers_lock);
}

/* @dentry is about to change what is in the directories above it. */
static void layers_watch(struct dentry *dentry)
{
	struct dentry *at, *root = dentry;
	bool found = false;

	rcu_read_lock();
	for_each_above(at, dentry) {
		root = at;
		found |= !!layer_of_root(at);
	}
	if (found)
		layers_change(dentry);
	else if (root != dentry->d_sb->s_root)
		layers_change_all(dentry->d_sb, dentry);
	rcu_read_unlock();
}

/* The file with several names is about to be changed by one of them. */
static void layers_watch_linked(const struct inode *inode, struct dentry *dentry)
{
	struct linked *linked;
	struct layer *layer;
	bool found;

	rcu_read_lock();
	found = linked_find(inode, 0);
	rcu_read_unlock();
	if (!found)
		return;
	spin_lock(&layers_lock);
	hash_for_each_possible(layers_linked, linked, node, inode->i_ino) {
		if (linked->number != inode->i_ino || linked->sb != inode->i_sb)
			continue;
		layer = layer_find(linked->layer);
		if (layer)
			layer_change(layer, dentry);
	}
	spin_unlock(&layers_lock);
}

/* Remember for each layer in which @dentry is that the file has another name as well. */
static void layers_link(struct dentry *dentry, const struct inode *inode)
{
	struct layer *layer;
	struct dentry *at;

	spin_lock(&layers_lock);
	for_each_above(at, dentry) {
		layer = layer_of_root(at);
		if (layer && !linked_add(inode, layer->inode,
					 kzalloc(sizeof(struct linked), GFP_ATOMIC)))
			layer_change(layer, dentry);
	}
	spin_unlock(&layers_lock);
}

/* Can there be a layer that this concerns? */
static bool layers_concern(const struct super_block *sb)
{
	/* After the lock of the inode, or the count of writers, that the operation has taken. */
	smp_mb();
	return READ_ONCE(layers_count) &&
	       (sb->s_magic == EXT4_SUPER_MAGIC || sb->s_magic == TMPFS_MAGIC);
}

void testbed_change_node(struct dentry *dentry)
{
	const struct inode *inode = d_inode(dentry);

	if (!inode || !layers_concern(dentry->d_sb))
		return;
	if (!S_ISDIR(inode->i_mode) && inode->i_nlink > 1)
		layers_watch_linked(inode, dentry);
	if (d_unhashed(dentry) && inode->i_nlink && !IS_ROOT(dentry))
		layers_change_all(dentry->d_sb, dentry);
	else
		layers_watch(dentry);
}

/* Until 6.7 the real file of an overlay has the overlay's dentry. */
void testbed_change_file(struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;

	if (dentry->d_sb != file_inode(file)->i_sb)
		dentry = testbed_real_dentry(dentry);
	if (dentry)
		testbed_change_node(dentry);
}

__bpf_kfunc_start_defs();

/* The name @dentry is about to be made, removed or renamed. Does not sleep. */
__bpf_kfunc void testbed_watch_name(struct dentry *dentry)
{
	if (layers_concern(dentry->d_sb))
		layers_watch(dentry);
}

/*
 * What @dentry names is about to change: its attributes, its extended attributes, its
 * content, or how many names it has. Does not sleep.
 */
__bpf_kfunc void testbed_watch_node(struct dentry *dentry)
{
	testbed_change_node(dentry);
}

/* @inode, which has several names, has got one more or is looked up by one. Does not sleep. */
__bpf_kfunc void testbed_watch_alias(struct inode *inode)
{
	struct dentry *alias;
	bool found = false;

	if (!layers_concern(inode->i_sb))
		return;
	rcu_read_lock();
	spin_lock(&inode->i_lock);
	hlist_for_each_entry(alias, &inode->i_dentry, d_u.d_alias)
		found |= layer_has(alias);
	if (found)
		hlist_for_each_entry(alias, &inode->i_dentry, d_u.d_alias)
			layers_link(alias, inode);
	spin_unlock(&inode->i_lock);
	rcu_read_unlock();
}

/* @sb is mounted with other options, or goes. Does not sleep. */
__bpf_kfunc void testbed_watch_super(struct super_block *sb)
{
	testbed_forget_overlay(sb);
	if (layers_concern(sb))
		layers_change_all(sb, NULL);
}

__bpf_kfunc_end_defs();

/* ---- the walk to rest ---- */

struct rest {
	struct testbed_walk walk;
	struct vfsmount *mnt;
	unsigned long layer;
	unsigned long deadline;
	struct testbed_directory *stack;
	u32 depth;
};

/* Remember a file with several names. */
static int rest_add_linked(const struct rest *rest, const struct inode *inode)
{
	struct linked *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL);
	bool added;

	spin_lock(&layers_lock);
	added = linked_add(inode, rest->layer, fresh);
	spin_unlock(&layers_lock);
	return added ? 0 : -ENOSPC;
}

/* Wait for who changes the file at @path since before the layer was watched. */
static int rest_file(struct rest *rest, const struct path *path)
{
	struct inode *inode = d_inode(path->dentry);

	inode_lock_shared(inode);
	inode_unlock_shared(inode);
	/* Its names and content depend on whether the key is there. */
	if (IS_ENCRYPTED(inode) || inode->i_sb != rest->mnt->mnt_sb)
		return -EOPNOTSUPP;
	if (S_ISREG(inode->i_mode) && testbed_has_writers(inode))
		return -ETXTBSY;
	return inode->i_nlink > 1 ? rest_add_linked(rest, inode) : 0;
}

static int rest_enter(struct rest *rest, const struct path *path)
{
	struct testbed_directory *directory;

	if (IS_ENCRYPTED(d_inode(path->dentry)))
		return -EOPNOTSUPP;
	if (rest->depth + 1 >= MAX_DEPTH)
		return -ELOOP;
	directory = &rest->stack[++rest->depth];
	*directory = (struct testbed_directory){ .dentry = dget(path->dentry) };
	/* Takes the lock of the directory. */
	return testbed_read_names(&rest->walk, directory, path);
}

static int rest_step(struct rest *rest)
{
	struct testbed_directory *directory = &rest->stack[rest->depth];
	const struct testbed_child *child = &directory->children[directory->next++];
	struct path path = { .mnt = rest->mnt };
	int err;

	path.dentry = testbed_lookup(rest->mnt, directory->names + child->name, child->length,
				     directory->dentry);
	if (IS_ERR(path.dentry))
		return PTR_ERR(path.dentry);
	err = d_is_dir(path.dentry) ? rest_enter(rest, &path) : rest_file(rest, &path);
	dput(path.dentry);
	return err;
}

static int rest_walk(struct rest *rest, const struct path *root)
{
	int err;

	rest->stack[0] = (struct testbed_directory){ .dentry = dget(root->dentry) };
	err = IS_ENCRYPTED(d_inode(root->dentry)) ? -EOPNOTSUPP :
	      testbed_read_names(&rest->walk, &rest->stack[0], root);
	while (!err) {
		struct testbed_directory *directory = &rest->stack[rest->depth];

		if (directory->next < directory->count) {
			err = rest_step(rest);
		} else {
			testbed_leave_directory(directory);
			if (!rest->depth--)
				return 0;
		}
		if (fatal_signal_pending(current))
			err = -EINTR;
		/* What calls this may hold up others. */
		else if (time_after(jiffies, rest->deadline))
			err = -ETIME;
		cond_resched();
	}
	for (u32 level = 0; level <= rest->depth; level++)
		testbed_leave_directory(&rest->stack[level]);
	return err;
}

/* As one that may read all of it: who mounts an overlay may not. */
static int rest_as_kernel(struct rest *rest, const struct path *root)
{
	const struct cred *own;
	int err = -ENOMEM;

	rest->stack = kvcalloc(MAX_DEPTH, sizeof(*rest->stack), GFP_KERNEL_ACCOUNT);
	own = rest->stack ? testbed_as_kernel() : NULL;
	if (own) {
		err = rest_walk(rest, root);
		testbed_as_before(own);
	}
	kvfree(rest->stack);
	return err;
}

/*
 * A positive list: ext4 changes nothing of a file or a directory but by the operations
 * that have these hooks, each under the lock that is named above. So does tmpfs, but for
 * contents: an upper layer may be there.
 */
static bool layer_can_rest(const struct path *root, bool upper)
{
	const struct super_block *sb = root->mnt->mnt_sb;
	bool listed = (sb->s_magic == EXT4_SUPER_MAGIC && sb->s_bdev) ||
		      (sb->s_magic == TMPFS_MAGIC && upper);

	return listed && sb->s_user_ns == &init_user_ns &&
	       !(sb->s_iflags & (SB_I_IMA_UNVERIFIABLE_SIGNATURE | SB_I_UNTRUSTED_MOUNTER)) &&
	       !is_idmapped_mnt(root->mnt) && d_is_dir(root->dentry) &&
	       !IS_CASEFOLDED(d_inode(root->dentry));
}

/* What a walk to rest begins with. */
struct begun {
	u64 id;
	u64 changes;
	u64 epoch; /* it is at rest already */
};

/* Watch the layer whose root is @root, unless it is watched. */
static bool layer_begin(const struct path *root, bool upper, struct begun *begun)
{
	unsigned long inode = (unsigned long)d_inode(root->dentry);
	struct layer *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL), *layer;

	if (!fresh)
		return false;
	spin_lock(&layers_lock);
	layer = layer_find(inode);
	if (!layer && layers_count < MAX_LAYERS) {
		layer = fresh;
		fresh = NULL;
		layer->inode = inode;
		layer->sb = root->mnt->mnt_sb;
		layer->id = ++layers_last_id;
		layer->upper = upper;
		hash_add_rcu(layers, &layer->node, inode);
		WRITE_ONCE(layers_count, layers_count + 1);
	}
	if (layer) {
		layer->upper &= upper;
		*begun = (struct begun){ layer->id, layer->changes, layer->epoch };
		/* Those of before it changed. */
		if (!layer->epoch)
			layer_drop_linked(inode);
	}
	spin_unlock(&layers_lock);
	kfree(fresh);
	/* Before a lock is taken or a writer is looked for: layers_concern() is the other side. */
	smp_mb();
	return layer;
}

static u64 layer_end(const struct path *root, const struct begun *begun)
{
	struct layer *layer;
	u64 epoch = 0;

	spin_lock(&layers_lock);
	layer = layer_find((unsigned long)d_inode(root->dentry));
	if (layer && layer->id == begun->id && layer->changes == begun->changes) {
		if (!layer->epoch)
			layer->epoch = ++layers_last_epoch;
		epoch = layer->epoch;
	}
	spin_unlock(&layers_lock);
	return epoch;
}

u64 testbed_rest_layer(const struct path *root, bool upper)
{
	struct rest rest = {
		.walk = { .limits = { .files = MAX_NAMES } },
		.mnt = root->mnt,
		.layer = (unsigned long)d_inode(root->dentry),
		.deadline = jiffies + MAX_TIME,
	};
	struct begun begun;

	might_sleep();
	if (!layer_can_rest(root, upper) || !layer_begin(root, upper, &begun))
		return 0;
	if (begun.epoch)
		return begun.epoch;
	return rest_as_kernel(&rest, root) ? 0 : layer_end(root, &begun);
}

bool testbed_is_at_rest(const struct path *root, u64 epoch)
{
	struct layer *layer;
	bool rests;

	spin_lock(&layers_lock);
	layer = layer_find((unsigned long)d_inode(root->dentry));
	rests = epoch && layer && layer->epoch == epoch;
	spin_unlock(&layers_lock);
	return rests;
}

void testbed_unwatch_upper(const struct path *root)
{
	struct layer *layer;

	spin_lock(&layers_lock);
	layer = layer_find((unsigned long)d_inode(root->dentry));
	if (layer && layer->upper)
		layer_drop(layer);
	spin_unlock(&layers_lock);
}

bool testbed_with_layers_at_rest(const struct testbed_layer_state *states, u32 count,
				 void (*act)(void *argument), void *argument)
{
	bool rest = true;

	spin_lock(&layers_lock);
	for (u32 at = 0; at < count && rest; at++) {
		const struct layer *layer = layer_find(states[at].inode);

		rest = layer && !layer->upper && layer->epoch == states[at].epoch;
	}
	if (rest)
		act(argument);
	spin_unlock(&layers_lock);
	return rest;
}
