// SPDX-License-Identifier: GPL-2.0
/*
 * Roots whose whole tree one digest of the kernel binds, so that nothing is walked.
 *
 * composefs: an overlay of one EROFS image and layers of data. The image has all
 * names, modes, owners, times, attributes and small files. The other contents are
 * objects in the data layers: the image names the fs-verity digest of each, and the
 * overlay refuses an object of another one (verity=require). The image is a file
 * with fs-verity. So the fs-verity digest of the image is that of the tree.
 *
 * dm-verity: EROFS or squashfs on a device of one target "verity", which checks each
 * block when it is read. The digest is the root hash of the device as it is now.
 *
 * Either may lie below an overlay's upper layer that holds nothing but what runtimes
 * make, and hides nothing.
 *
 * What is not understood here is walked as any other root. So each test is for what
 * is known to be right, and none is for what is known to be wrong.
 *
 * Overlay, EROFS, the loop device and device mapper are modules, and their types are
 * private: where the fields lie is what the programs found in the modules' own type
 * information.
 */
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/major.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "layers.h"
#include "module.h"
#include "tree.h"

/* An anonymous enum of the overlay file system, since 6.6. */
#define OVL_VERITY_REQUIRE 2
/* Of a loop device that has a backing file: Lo_bound. */
#define LOOP_BOUND 1
/* DM_VERITY_MODE_LOGGING: a block that is not right is only reported. */
#define DM_VERITY_LOGGING 1

#define FIELD(base, offset, type) (*(type *)((const u8 *)(base) + (offset)))

static bool sealed_is_hosts(const struct super_block *sb)
{
	return sb->s_user_ns == &init_user_ns && testbed_binds_content(d_inode(sb->s_root));
}

/* ---- which file an EROFS file system is in ---- */

/*
 * The file of a loop device, or NULL. Only of a whole device that shows the whole file.
 * The caller puts it.
 *
 * Who has the device open can exchange the file while a file system uses it
 * (LOOP_CHANGE_FD). So the file is looked up at each start, and held while it is asked
 * for its digest. What the file system had read before stays in memory: who may open
 * the device is trusted, as who may write to a disk below its file system.
 */
static struct file *sealed_loop_file(struct block_device *bdev)
{
	const struct testbed_sealed_layout *at = &testbed_layout()->sealed;
	void *loop;

	if (!at->loop_known || MAJOR(bdev->bd_dev) != LOOP_MAJOR || bdev != bdev->bd_disk->part0)
		return NULL;
	loop = bdev->bd_disk->private_data;
	if (!loop || FIELD(loop, at->loop_state, int) != LOOP_BOUND ||
	    FIELD(loop, at->loop_offset, loff_t) || FIELD(loop, at->loop_limit, loff_t))
		return NULL;
	return testbed_get_file(&FIELD(loop, at->loop_file, struct file *));
}

/* Does the image begin where its file or its device does, and is no other device part of it? */
static bool sealed_erofs_is_whole(const struct super_block *sb)
{
	const struct testbed_sealed_layout *at = &testbed_layout()->sealed;
	const void *erofs = sb->s_fs_info;

	return at->erofs_known && !(at->erofs_has_offset && FIELD(erofs, at->erofs_offset, u64)) &&
	       !FIELD(FIELD(erofs, at->erofs_devices, const void *), at->erofs_extra, u32);
}

/* The file that an EROFS file system is in, or NULL. The caller puts it. */
static struct file *sealed_erofs_file(const struct super_block *sb)
{
	const struct testbed_sealed_layout *at = &testbed_layout()->sealed;
	void *erofs = sb->s_fs_info;

	if (!sealed_erofs_is_whole(sb))
		return NULL;
	if (sb->s_bdev)
		return sealed_loop_file(sb->s_bdev);
	return testbed_get_file(&FIELD(erofs, at->erofs_file, struct file *));
}

/*
 * Fill @digest with the fs-verity digest of the image that the file system @sb is in.
 *
 * To enable fs-verity does not drop the pages of a file, and a page that was there
 * before was never checked. So its pages are dropped once.
 */
static bool sealed_erofs_digest(const struct super_block *sb, u64 payer, u8 *digest)
{
	struct testbed_content content;
	struct file *file;
	bool found = false;

	if (sb->s_magic != EROFS_SUPER_MAGIC_V1 || !sealed_is_hosts(sb))
		return false;
	file = sealed_erofs_file(sb);
	if (!file)
		return false;
	/* A file on an overlay, or one that is not stored here, binds nothing. */
	if (sealed_is_hosts(file_inode(file)->i_sb) && testbed_is_bound(file_inode(file)) &&
	    testbed_inode_verity(file_inode(file), digest)) {
		testbed_begin_content(&content, file_inode(file), payer);
		found = testbed_end_content(&content);
	}
	fput(file);
	return found;
}

/* ---- dm-verity ---- */

static bool sealed_is_of(struct module *module, const char *name)
{
	return module && !strcmp(module_name(module), name);
}

/* Fill @digest with the root hash of @target, if that checks all that is read. */
static bool sealed_target_digest(const struct dm_target *target, u8 *digest)
{
	const struct testbed_sealed_layout *at = &testbed_layout()->sealed;
	const void *verity = target->private;

	if (strcmp(target->type->name, "verity") || !sealed_is_of(target->type->module, "dm_verity") ||
	    target->begin || strcmp(FIELD(verity, at->dm_algorithm, const char *), "sha256") ||
	    FIELD(verity, at->dm_digest_size, u32) != TESTBED_SHA256_SIZE ||
	    FIELD(verity, at->dm_mode, u32) == DM_VERITY_LOGGING ||
	    /* It would check a block the first time only. */
	    FIELD(verity, at->dm_validated, const void *))
		return false;
	memcpy(digest, FIELD(verity, at->dm_digest, const u8 *), TESTBED_SHA256_SIZE);
	return true;
}

/* Fill @digest for the whole device that @sb is on. Its table stays until it was read. */
static bool sealed_device_digest(const struct super_block *sb, u8 *digest)
{
	const struct testbed_sealed_layout *at = &testbed_layout()->sealed;
	struct block_device *bdev = sb->s_bdev;
	const void *table;
	bool found = false;
	void *mapped;
	int index;

	if (!at->dm_known || !bdev || bdev != bdev->bd_disk->part0 ||
	    !sealed_is_of(bdev->bd_disk->fops->owner, "dm_mod") || !sealed_is_hosts(sb))
		return false;
	if (sb->s_magic != SQUASHFS_MAGIC &&
	    (sb->s_magic != EROFS_SUPER_MAGIC_V1 || !sealed_erofs_is_whole(sb)))
		return false;
	mapped = bdev->bd_disk->private_data;
	index = srcu_read_lock(&FIELD(mapped, at->dm_barrier, struct srcu_struct));
	table = READ_ONCE(FIELD(mapped, at->dm_table, const void *));
	if (table && FIELD(table, at->dm_count, u32) == 1)
		found = sealed_target_digest(FIELD(table, at->dm_targets, const struct dm_target *),
					     digest);
	srcu_read_unlock(&FIELD(mapped, at->dm_barrier, struct srcu_struct), index);
	return found;
}

/* ---- the layers of an overlay ---- */

static u32 sealed_data_layers(const struct super_block *sb)
{
	const struct testbed_overlay_layout *layout = &testbed_layout()->overlay;

	return layout->data ? FIELD(sb->s_fs_info, layout->data, u32) : 0;
}

/*
 * The lower layer with the names of the overlay @sb, or NULL if there are several, or
 * if it shows only a part of its file system, or other owners.
 */
static struct vfsmount *sealed_names(const struct super_block *sb)
{
	const struct testbed_overlay_layout *layout = &testbed_layout()->overlay;
	struct vfsmount *mnt;

	/* The first layer is the upper one, also where there is none. */
	if (!layout->known || sb->s_magic != OVERLAYFS_SUPER_MAGIC || sb->s_user_ns != &init_user_ns ||
	    FIELD(sb->s_fs_info, layout->userxattr, bool) ||
	    testbed_count_layers(sb) - sealed_data_layers(sb) != 2)
		return NULL;
	mnt = testbed_layer_mount(sb, 1);
	return mnt->mnt_root == mnt->mnt_sb->s_root && !is_idmapped_mnt(mnt) ? mnt : NULL;
}

/* Does the overlay @sb refuse a content of a layer of data that has another digest than the names say, or none? */
static bool sealed_checks_data(const struct super_block *sb)
{
	const struct testbed_sealed_layout *at = &testbed_layout()->sealed;

	return at->overlay_known && FIELD(sb->s_fs_info, at->verity_mode, int) == OVL_VERITY_REQUIRE;
}

/* Fill @digest and the version for the tree of @sb itself: no upper layer is in it. */
static bool sealed_tree(struct testbed_walk *walk, const struct super_block *sb, u8 *digest)
{
	const struct vfsmount *names;

	if (sealed_device_digest(sb, digest)) {
		walk->version = TESTBED_TREE_DM_VERITY;
		return true;
	}
	names = sealed_names(sb);
	if (!names || testbed_layer_mount(sb, 0) || !sealed_checks_data(sb) ||
	    !sealed_erofs_digest(names->mnt_sb, walk->payer, digest))
		return false;
	walk->version = TESTBED_TREE_COMPOSEFS;
	return true;
}

/*
 * The same below an upper layer that adds nothing and hides nothing. With metacopy its
 * empty files could have the content of others.
 */
static bool sealed_below_upper(struct testbed_walk *walk, const struct super_block *sb, u8 *digest)
{
	const struct vfsmount *lower = sealed_names(sb), *upper;

	upper = lower ? testbed_layer_mount(sb, 0) : NULL;
	return upper && !is_idmapped_mnt(upper) && !sealed_data_layers(sb) &&
	       !FIELD(sb->s_fs_info, testbed_layout()->overlay.metacopy, bool) &&
	       sealed_tree(walk, lower->mnt_sb, digest) &&
	       testbed_upper_is_plain(sb, walk->userns);
}

bool testbed_sealed_root(struct testbed_walk *walk, const struct path *root,
			 u8 digest[TESTBED_SHA256_SIZE])
{
	const struct super_block *sb = root->mnt->mnt_sb;

	might_sleep();
	/* A part of the tree, or other owners than the image has, are not what the digest says. */
	if (root->dentry != sb->s_root || is_idmapped_mnt(root->mnt) ||
	    walk->userns != &init_user_ns)
		return false;
	if ((sealed_tree(walk, sb, digest) || sealed_below_upper(walk, sb, digest)) &&
	    !testbed_xattrs_digest(walk, root, walk->root_xattrs))
		return true;
	walk->version = TESTBED_TREE_VERSION;
	return false;
}
