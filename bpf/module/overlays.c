// SPDX-License-Identifier: GPL-2.0
/*
 * Overlays whose layers are at rest (layers.c), and the containers that started in them.
 *
 * An overlay is recorded when it is made, by the program at sb_set_mnt_opts: nobody can
 * have looked into it yet. All its layers come to rest first. The kernel forbids to
 * change a layer below an overlay and promises nothing if that is done; so an overlay
 * one of whose layers has changed since is not believed any more, and the containers in
 * it have a violation. An overlay that was there before the programs were attached has
 * no record.
 *
 * So what a recorded overlay shows, but for its upper layer, is a function of its
 * layers, their order, their epochs and the options of its mount: its *view*.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/kdev_t.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/overflow.h>
#include <linux/rcupdate.h>
#include <linux/seqlock.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/user_namespace.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "layers.h"
#include "module.h"

/* Beyond that, and beyond so many changes that are not in the log yet, none is recorded. */
#define MAX_OVERLAYS 4096
#define MAX_EVENTS 1024

/* A container that started in an overlay. */
struct tenant {
	struct list_head of_overlay;
	struct rcu_head rcu;
	struct testbed_ident ident;
	const struct vfsmount *mnt; /* of its root: compared, never followed */
	bool told;		    /* a change of a layer is in the log, or will be */
};

struct overlay {
	struct hlist_node node;
	struct rcu_head rcu;
	const struct super_block *sb; /* compared, never followed: it goes with the super block */
	bool changed;
	struct list_head tenants;
	struct testbed_view view;
};

/* A violation that is not in the log yet: the hooks must not sleep. */
struct event {
	struct list_head list;
	struct testbed_ident ident;
	u64 device;
	u64 inode;
	u32 path_len;
	char path[];
};

static DEFINE_HASHTABLE(overlays, 8);
static LIST_HEAD(overlays_events);
/* Of all that is above, within that of the layers; lookups by the hooks are under RCU. */
static DEFINE_SPINLOCK(overlays_lock);
static unsigned int overlays_count, overlays_event_count;

static void overlays_log(struct work_struct *work);
static DECLARE_WORK(overlays_work, overlays_log);

/* ---- the structures of overlayfs ---- */

static const struct testbed_overlay_layout *overlay_layout(void)
{
	return &testbed_layout()->overlay;
}

static u32 overlay_field(const struct super_block *sb, u32 offset, u32 size)
{
	u32 value = 0;

	memcpy(&value, sb->s_fs_info + offset, min_t(u32, size, sizeof(value)));
	return value;
}

u32 testbed_count_layers(const struct super_block *overlay)
{
	return overlay_field(overlay, overlay_layout()->count, sizeof(u32));
}

struct vfsmount *testbed_layer_mount(const struct super_block *overlay, u32 at)
{
	const struct testbed_overlay_layout *layout = overlay_layout();
	const u8 *list = *(const u8 *const *)(overlay->s_fs_info + layout->list);

	return *(struct vfsmount *const *)(list + at * layout->size + layout->mnt);
}

/*
 * Is @sb an overlay that is understood? Copies of attributes alone (metacopy), data that
 * is looked up elsewhere, and marks that any user may set (userxattr) are not.
 */
static bool overlay_is_plain(const struct super_block *sb)
{
	const struct testbed_overlay_layout *layout = overlay_layout();

	return layout->known && sb->s_magic == OVERLAYFS_SUPER_MAGIC && sb->s_fs_info &&
	       sb->s_user_ns == &init_user_ns &&
	       !overlay_field(sb, layout->metacopy, sizeof(bool)) &&
	       !overlay_field(sb, layout->userxattr, sizeof(bool)) &&
	       !(layout->data && overlay_field(sb, layout->data, sizeof(u32)));
}

/* ---- the table ---- */

static struct overlay *overlay_find(const struct super_block *sb)
{
	struct overlay *overlay;

	hash_for_each_possible_rcu(overlays, overlay, node, (unsigned long)sb,
				   lockdep_is_held(&overlays_lock))
		if (overlay->sb == sb)
			return overlay;
	return NULL;
}

static void tenant_drop(struct tenant *tenant)
{
	lockdep_assert_held(&overlays_lock);
	list_del_rcu(&tenant->of_overlay);
	kfree_rcu(tenant, rcu);
}

static void overlay_drop(struct overlay *overlay)
{
	struct tenant *tenant, *next;

	lockdep_assert_held(&overlays_lock);
	list_for_each_entry_safe(tenant, next, &overlay->tenants, of_overlay)
		tenant_drop(tenant);
	hash_del_rcu(&overlay->node);
	overlays_count--;
	kfree_rcu(overlay, rcu);
}

void testbed_forget_overlay(const struct super_block *sb)
{
	struct overlay *overlay;

	if (sb->s_magic != OVERLAYFS_SUPER_MAGIC)
		return;
	spin_lock(&overlays_lock);
	overlay = overlay_find(sb);
	if (overlay)
		overlay_drop(overlay);
	spin_unlock(&overlays_lock);
}

void testbed_forget_overlays(void)
{
	struct overlay *overlay;
	struct hlist_node *next;
	int bucket;

	testbed_forget_images();
	spin_lock(&overlays_lock);
	hash_for_each_safe(overlays, bucket, next, overlay, node)
		overlay_drop(overlay);
	spin_unlock(&overlays_lock);
}

/* Nothing calls the module any more. */
void testbed_exit_overlays(void)
{
	testbed_forget_layers();
	flush_work(&overlays_work);
	/* kfree_rcu() calls nothing of this module. */
}

/* ---- views ---- */

bool testbed_fill_view(const struct path *root, struct testbed_view *view)
{
	const struct overlay *overlay;
	bool found;

	if (root->dentry != root->mnt->mnt_sb->s_root || is_idmapped_mnt(root->mnt))
		return false;
	spin_lock(&overlays_lock);
	overlay = overlay_find(root->mnt->mnt_sb);
	found = overlay && !overlay->changed;
	if (found)
		*view = overlay->view;
	spin_unlock(&overlays_lock);
	return found;
}

bool testbed_is_view(const struct path *root, const struct testbed_view *view)
{
	const struct overlay *overlay;
	bool same;

	spin_lock(&overlays_lock);
	overlay = overlay_find(root->mnt->mnt_sb);
	same = overlay && !overlay->changed && overlay->view.count == view->count &&
	       !memcmp(overlay->view.layers, view->layers, view->count * sizeof(*view->layers));
	spin_unlock(&overlays_lock);
	return same;
}

static void overlay_add(void *argument)
{
	struct overlay *overlay = argument;

	spin_lock(&overlays_lock);
	hash_add_rcu(overlays, &overlay->node, (unsigned long)overlay->sb);
	overlays_count++;
	spin_unlock(&overlays_lock);
}

/* Have all layers of @overlay come to rest. */
static bool overlay_rest(struct overlay *overlay)
{
	struct testbed_view *view = &overlay->view;

	for (u32 at = 0; at < view->count; at++) {
		struct path root = { .mnt = testbed_layer_mount(overlay->sb, at + 1) };

		root.dentry = root.mnt->mnt_root;
		view->layers[at] = (struct testbed_layer_state){
			.inode = (unsigned long)d_inode(root.dentry),
			.epoch = testbed_rest_layer(&root, false),
		};
		if (!view->layers[at].epoch)
			return false;
	}
	return true;
}

/* ---- containers ---- */

bool testbed_enter_overlay(const struct path *root, const struct testbed_ident *ident)
{
	struct tenant *tenant = kzalloc(sizeof(*tenant), GFP_KERNEL_ACCOUNT);
	struct overlay *overlay;
	bool entered;

	if (!tenant)
		return false;
	tenant->ident = *ident;
	tenant->mnt = root->mnt;
	spin_lock(&overlays_lock);
	overlay = overlay_find(root->mnt->mnt_sb);
	entered = overlay && !overlay->changed && root->dentry == root->mnt->mnt_sb->s_root;
	if (entered)
		list_add_rcu(&tenant->of_overlay, &overlay->tenants);
	spin_unlock(&overlays_lock);
	if (!entered)
		kfree(tenant);
	return entered;
}

void testbed_leave_overlay(u64 seq)
{
	struct tenant *tenant, *next;
	struct overlay *overlay;
	int bucket;

	spin_lock(&overlays_lock);
	if (overlays_count)
		hash_for_each(overlays, bucket, overlay, node)
			list_for_each_entry_safe(tenant, next, &overlay->tenants, of_overlay)
				if (tenant->ident.seq == seq)
					tenant_drop(tenant);
	spin_unlock(&overlays_lock);
}

/* ---- changes ---- */

/* Take one violation that is not in the log. */
static struct event *overlays_take_event(void)
{
	struct event *event;

	spin_lock(&overlays_lock);
	event = list_first_entry_or_null(&overlays_events, struct event, list);
	if (event) {
		list_del(&event->list);
		overlays_event_count--;
	}
	spin_unlock(&overlays_lock);
	return event;
}

static void overlays_log(struct work_struct *work)
{
	struct event *event;

	while ((event = overlays_take_event())) {
		testbed_log_layer_violation(&event->ident, event->device, event->inode, event->path,
					    event->path_len);
		kfree(event);
	}
}

/* The path of @dentry from the root of its layer, in @buf. */
static const char *event_path(struct dentry *dentry, unsigned long layer, char *buf, u32 *length)
{
	struct dentry *root = dentry;
	char *path, *own;
	size_t skipped = 0;

	while ((unsigned long)d_inode_rcu(root) != layer && !IS_ROOT(root))
		root = READ_ONCE(root->d_parent);
	own = dentry_path_raw(root, buf, PATH_MAX);
	if (!IS_ERR(own) && !IS_ROOT(root))
		skipped = strlen(own);
	path = dentry_path_raw(dentry, buf, PATH_MAX);
	*length = 0;
	if (IS_ERR(path) || strlen(path) < skipped)
		return buf;
	*length = strlen(path + skipped);
	return path + skipped;
}

/* What happened to @tenant, to be logged by who may sleep. */
static void tenant_tell(struct tenant *tenant, unsigned long layer, struct dentry *dentry)
{
	const struct inode *inode = dentry ? d_inode_rcu(dentry) : NULL;
	char *buf = kmalloc(PATH_MAX, GFP_ATOMIC);
	struct event *event = NULL;
	const char *path = buf;
	u32 length = 0;

	lockdep_assert_held(&overlays_lock);
	if (buf && dentry)
		path = event_path(dentry, layer, buf, &length);
	if (buf && overlays_event_count < MAX_EVENTS)
		event = kzalloc(struct_size(event, path, length), GFP_ATOMIC);
	if (event) {
		event->ident = tenant->ident;
		event->path_len = length;
		memcpy(event->path, path, length);
		if (inode) {
			dev_t device = inode->i_sb->s_dev;

			event->device = (u64)MAJOR(device) << 32 | MINOR(device);
			event->inode = inode->i_ino;
		}
		list_add_tail(&event->list, &overlays_events);
		overlays_event_count++;
		queue_work(system_long_wq, &overlays_work);
	} else {
		testbed_count_for(&tenant->ident, TESTBED_COUNT_VIOLATION, 1);
	}
	tenant->told = true;
	kfree(buf);
}

static bool overlay_has_layer(const struct overlay *overlay, unsigned long layer)
{
	for (u32 at = 0; at < overlay->view.count; at++)
		if (overlay->view.layers[at].inode == layer)
			return true;
	return false;
}

void testbed_change_overlays(unsigned long layer, struct dentry *dentry)
{
	struct overlay *overlay;
	struct tenant *tenant;
	int bucket;

	spin_lock(&overlays_lock);
	hash_for_each(overlays, bucket, overlay, node) {
		if (overlay->changed || !overlay_has_layer(overlay, layer))
			continue;
		WRITE_ONCE(overlay->changed, true);
		list_for_each_entry(tenant, &overlay->tenants, of_overlay)
			if (!tenant->told)
				tenant_tell(tenant, layer, dentry);
	}
	spin_unlock(&overlays_lock);
}

/* ---- code of an image ---- */

static bool same_name(struct dentry *a, struct dentry *b)
{
	struct name_snapshot left, right;
	bool same;

	take_dentry_name_snapshot(&left, a);
	take_dentry_name_snapshot(&right, b);
	same = left.name.len == right.name.len &&
	       !memcmp(left.name.name, right.name.name, left.name.len);
	release_dentry_name_snapshot(&right);
	release_dentry_name_snapshot(&left);
	return same;
}

/*
 * The inode of the directory from which @real has the path that @dentry has from @root,
 * 0 if a name differs or is gone.
 */
static unsigned long overlay_origin(struct dentry *dentry, struct dentry *real,
				    const struct dentry *root)
{
	while (dentry != root) {
		if (IS_ROOT(dentry) || IS_ROOT(real) || d_unhashed(dentry) || d_unhashed(real) ||
		    !same_name(dentry, real))
			return 0;
		dentry = READ_ONCE(dentry->d_parent);
		real = READ_ONCE(real->d_parent);
	}
	return (unsigned long)d_inode_rcu(real);
}

static bool overlay_has_tenant(const struct overlay *overlay, u64 seq, const struct vfsmount *mnt)
{
	const struct tenant *tenant;

	list_for_each_entry_rcu(tenant, &overlay->tenants, of_overlay)
		if (tenant->ident.seq == seq && tenant->mnt == mnt)
			return true;
	return false;
}

static bool overlay_shows(const struct path *path, struct dentry *real,
			  const struct testbed_ident *ident)
{
	const struct super_block *sb = path->dentry->d_sb;
	const struct overlay *overlay;
	unsigned long origin;
	unsigned int seq;
	bool shown;

	rcu_read_lock();
	overlay = overlay_find(sb);
	shown = overlay && !READ_ONCE(overlay->changed) &&
		overlay_has_tenant(overlay, ident->seq, path->mnt);
	if (shown) {
		do {
			seq = read_seqbegin(&rename_lock);
			origin = overlay_origin(path->dentry, real, sb->s_root);
		} while (read_seqretry(&rename_lock, seq));
		shown = origin && overlay_has_layer(overlay, origin);
	}
	rcu_read_unlock();
	return shown;
}

static bool overlay_is_code_of(struct file *file, const struct testbed_ident *ident)
{
	const struct path *path = testbed_user_path(file);
	struct dentry *real;

	if (testbed_layout()->mode != TESTBED_MODE_DRIFT ||
	    path->dentry->d_sb->s_magic != OVERLAYFS_SUPER_MAGIC || !d_is_reg(path->dentry) ||
	    path->mnt->mnt_root != path->dentry->d_sb->s_root)
		return false;
	real = testbed_real_dentry(path->dentry);
	return real && d_inode(real) == file_inode(testbed_real_file(file)) &&
	       overlay_shows(path, real, ident);
}

__bpf_kfunc_start_defs();

/*
 * @sb has just been made, and nobody has looked into it. If it is an overlay, have its
 * layers come to rest and record it. May sleep.
 */
__bpf_kfunc void testbed_watch_overlay(struct super_block *sb)
{
	struct overlay *overlay;
	u32 count;

	if (!overlay_is_plain(sb))
		return;
	/* The first is the upper one. */
	count = testbed_count_layers(sb) - 1;
	if (!count || count > TESTBED_LAYERS_MAX || READ_ONCE(overlays_count) >= MAX_OVERLAYS)
		return;
	overlay = kzalloc(sizeof(*overlay), GFP_KERNEL);
	if (!overlay)
		return;
	overlay->sb = sb;
	overlay->view.count = count;
	overlay->view.redirect = overlay_field(sb, overlay_layout()->redirect,
					       overlay_layout()->redirect_size);
	INIT_LIST_HEAD(&overlay->tenants);
	if (!overlay_rest(overlay) ||
	    !testbed_with_layers_at_rest(overlay->view.layers, count, overlay_add, overlay))
		kfree(overlay);
}

/*
 * In mode drift: is what @file maps the image's own, unchanged, at the image's own path,
 * and did container @ident start of that image? Counts it if so. Does not sleep.
 */
__bpf_kfunc int testbed_is_code_of_image(struct file *file, const struct testbed_ident *ident)
{
	if (!overlay_is_code_of(file, ident))
		return 0;
	testbed_tally(TESTBED_COUNT_IMAGE_CODE, 1);
	return 1;
}

__bpf_kfunc_end_defs();
