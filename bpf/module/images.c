// SPDX-License-Identifier: GPL-2.0
/*
 * Images whose digest is known, so that a container of one starts in constant time.
 *
 * What a recorded overlay shows is a function of its view (overlays.c) and its upper
 * layer. An upper layer is *plain* if it holds nothing but what a runtime makes where an
 * image has none, which the digest leaves out: then the digest is a function of the view
 * alone, of the owners that the container's user namespace gives, and of the limits of
 * the walk, which are the same for the boot. It is remembered if
 *
 *   - all contents were promised when they were read (stamp.c): a page that somebody
 *     holds and changes belongs to no file of a layer,
 *   - no layer has changed since before the overlay was mounted (layers.c), so that
 *     nothing that the overlay remembers of its directories is older than the view,
 *   - the upper layer was plain, and did not change while the tree was walked.
 *
 * The next container whose root has an equal view and a plain upper layer has that
 * digest. What the launch says of the root directory itself is read at each start.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "layers.h"
#include "module.h"
#include "tree.h"

#define IMAGES 256
/* Names in an upper layer; one with more is not plain. */
#define MAX_NAMES 64
#define MAX_XATTRS 1024

/* The ids of a user namespace, if it has as few ranges as almost all have. */
struct owners {
	u32 uids, gids;
	struct uid_gid_extent uid[UID_GID_MAP_MAX_BASE_EXTENTS];
	struct uid_gid_extent gid[UID_GID_MAP_MAX_BASE_EXTENTS];
};

struct image {
	struct testbed_view view;
	struct owners owners;
	u64 files;
	u64 bytes;
	u8 digest[TESTBED_SHA256_SIZE];
};

static struct image *images[IMAGES];
static DEFINE_SPINLOCK(images_lock);

/* ---- what is known ---- */

static bool image_ranges(const struct uid_gid_map *map, struct uid_gid_extent *to, u32 *count)
{
	/* Written before the number of extents is, and never changed after. */
	*count = smp_load_acquire(&map->nr_extents);
	if (*count > UID_GID_MAP_MAX_BASE_EXTENTS)
		return false;
	memcpy(to, map->extent, *count * sizeof(*to));
	return true;
}

static bool image_owners(const struct user_namespace *userns, struct owners *owners)
{
	memset(owners, 0, sizeof(*owners));
	return image_ranges(&userns->uid_map, owners->uid, &owners->uids) &&
	       image_ranges(&userns->gid_map, owners->gid, &owners->gids);
}

static bool image_is(const struct image *image, const struct image *other)
{
	return image && image->view.count == other->view.count &&
	       image->view.redirect == other->view.redirect &&
	       !memcmp(image->view.layers, other->view.layers,
		       other->view.count * sizeof(*other->view.layers)) &&
	       !memcmp(&image->owners, &other->owners, sizeof(other->owners));
}

static struct image **image_find(const struct image *wanted)
{
	lockdep_assert_held(&images_lock);
	for (u32 at = 0; at < IMAGES; at++)
		if (image_is(images[at], wanted))
			return &images[at];
	return NULL;
}

/* Complete @wanted, of which view and owners are given. */
static bool image_recall(struct image *wanted)
{
	struct image **found;

	spin_lock(&images_lock);
	found = image_find(wanted);
	if (found)
		*wanted = **found;
	spin_unlock(&images_lock);
	return found;
}

/* Takes @fresh. */
static void image_memorize(struct image *fresh)
{
	struct image **place;

	spin_lock(&images_lock);
	place = image_find(fresh);
	for (u32 at = 0; !place && at < IMAGES; at++)
		if (!images[at])
			place = &images[at];
	if (!place)
		place = &images[get_random_u32() % IMAGES];
	swap(*place, fresh);
	spin_unlock(&images_lock);
	kfree(fresh);
}

void testbed_forget_images(void)
{
	spin_lock(&images_lock);
	for (u32 at = 0; at < IMAGES; at++) {
		kfree(images[at]);
		images[at] = NULL;
	}
	spin_unlock(&images_lock);
}

/* ---- the upper layer ---- */

struct upper {
	struct testbed_walk walk; /* of its names */
};

/*
 * Marks by which an overlay hides or leads elsewhere; others are notes to itself. A
 * directory that was made through an overlay is marked as opaque; @fresh: nothing is
 * below it that this could hide.
 */
static bool upper_is_note(const char *name, bool fresh)
{
	static const char *const notes[] = {
		"trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.uuid",
		"trusted.overlay.upper", "trusted.overlay.nlink",
	};

	for (size_t at = 0; at < ARRAY_SIZE(notes); at++)
		if (!strcmp(name, notes[at]))
			return true;
	if (fresh && !strcmp(name, "trusted.overlay.opaque"))
		return true;
	return !strstarts(name, "trusted.overlay.") && !strstarts(name, "user.overlay.");
}

static bool upper_has_marks(struct dentry *dentry, bool fresh)
{
	char *names = kzalloc(MAX_XATTRS + 1, GFP_KERNEL_ACCOUNT);
	ssize_t size = names ? vfs_listxattr(dentry, names, MAX_XATTRS) : -ENOMEM;
	bool found = size < 0;

	for (ssize_t at = 0; at < size; at += strlen(names + at) + 1)
		found |= !upper_is_note(names + at, fresh);
	kfree(names);
	return found;
}

/* What has the name of @child, of @directory, in the directory at @at. NULL: nothing has, or an error. */
static struct dentry *upper_lookup(const struct path *at, const struct testbed_directory *directory,
				   const struct testbed_child *child)
{
	struct dentry *found;

	if (!at->dentry || !d_is_dir(at->dentry))
		return NULL;
	found = testbed_lookup(at->mnt, directory->names + child->name, child->length, at->dentry);
	return PTR_ERR_OR_ZERO(found) == -ENOENT ? NULL : found;
}

static int upper_same_attributes(struct upper *upper, const struct path *a, const struct path *b)
{
	const struct inode *left = d_inode(a->dentry), *right = d_inode(b->dentry);
	u8 own[TESTBED_SHA256_SIZE], other[TESTBED_SHA256_SIZE];
	int err;

	if (left->i_mode != right->i_mode || !uid_eq(left->i_uid, right->i_uid) ||
	    !gid_eq(left->i_gid, right->i_gid))
		return 0;
	err = testbed_xattrs_digest(&upper->walk, a, own);
	if (!err)
		err = testbed_xattrs_digest(&upper->walk, b, other);
	return err ? err : !memcmp(own, other, sizeof(own));
}

/*
 * The topmost path below the upper layer that has the name of @child, where @above is
 * the directory of @directory in each layer. Return 1 and @found, 0 if there is none, or
 * an error.
 */
static int upper_find_below(struct upper *upper, const struct path *above, u32 count,
			    const struct testbed_directory *directory,
			    const struct testbed_child *child, struct path *found)
{
	for (u32 at = 0; at < count; at++) {
		struct dentry *dentry = upper_lookup(&above[at], directory, child);

		if (IS_ERR(dentry))
			return PTR_ERR(dentry);
		if (dentry) {
			*found = (struct path){ .mnt = above[at].mnt, .dentry = dentry };
			return 1;
		}
	}
	return 0;
}

/*
 * Return 1 if the digest is the same with the child at @path as without it, 0 if not, or
 * an error. Of a directory only what it is itself is looked at.
 */
static int upper_adds_nothing(struct upper *upper, const struct path *above, u32 count,
			      const struct testbed_directory *directory,
			      const struct testbed_child *child, const struct path *path)
{
	struct path below;
	int same, found;

	found = upper_find_below(upper, above, count, directory, child, &below);
	if (found < 0)
		return found;
	if (upper_has_marks(path->dentry, !found && d_is_dir(path->dentry)))
		same = 0;
	else if (!d_is_dir(path->dentry))
		same = found ? 0 : testbed_is_left_out(directory, child, path);
	else if (found)
		same = d_is_dir(below.dentry) ? upper_same_attributes(upper, path, &below) : 0;
	else if (testbed_is_made_directory(directory, child))
		same = !testbed_has_xattrs(path);
	else
		same = 0;
	if (found)
		dput(below.dentry);
	return same;
}

/* The directory of @child in each layer, in @to. */
static int upper_descend(const struct path *above, u32 count,
			 const struct testbed_directory *directory,
			 const struct testbed_child *child, struct path *to)
{
	for (u32 at = 0; at < count; at++) {
		struct dentry *dentry = upper_lookup(&above[at], directory, child);

		if (IS_ERR(dentry)) {
			while (at--)
				dput(to[at].dentry);
			return PTR_ERR(dentry);
		}
		to[at] = (struct path){ .mnt = above[at].mnt, .dentry = dentry };
	}
	return 0;
}

static int upper_level(struct upper *upper, const struct path *above, u32 count,
		       const struct path *path, enum testbed_place place);

/* As upper_adds_nothing(), and all that is in it. */
static int upper_child(struct upper *upper, const struct path *above, u32 count,
		       const struct testbed_directory *directory,
		       const struct testbed_child *child, struct vfsmount *mnt)
{
	enum testbed_place place = testbed_place_of(directory, child);
	struct path path = { .mnt = mnt }, *below = NULL;
	int plain;

	path.dentry = testbed_lookup(mnt, directory->names + child->name, child->length,
				     directory->dentry);
	if (IS_ERR(path.dentry))
		return PTR_ERR(path.dentry);
	plain = upper_adds_nothing(upper, above, count, directory, child, &path);
	/* Only the root and the directories in it have places: this goes down twice at most. */
	if (plain == 1 && d_is_dir(path.dentry)) {
		below = kcalloc(count, sizeof(*below), GFP_KERNEL_ACCOUNT);
		plain = below ? upper_descend(above, count, directory, child, below) : -ENOMEM;
		if (!plain) {
			plain = upper_level(upper, below, count, &path, place);
			for (u32 at = 0; at < count; at++)
				dput(below[at].dentry);
		}
		kfree(below);
	}
	dput(path.dentry);
	return plain;
}

/* Return 1 if the directory at @path of the upper layer holds nothing that counts, 0, or an error. */
static int upper_level(struct upper *upper, const struct path *above, u32 count,
		       const struct path *path, enum testbed_place place)
{
	struct testbed_directory directory = { .dentry = dget(path->dentry), .place = place };
	int plain = testbed_read_names(&upper->walk, &directory, path);

	if (!plain)
		plain = 1;
	for (u32 at = 0; plain == 1 && at < directory.count; at++)
		plain = place == TESTBED_PLACE_ELSEWHERE ? 0 :
			upper_child(upper, above, count, &directory, &directory.children[at],
				    path->mnt);
	testbed_leave_directory(&directory);
	return plain;
}

bool testbed_upper_is_plain(const struct super_block *overlay, struct user_namespace *userns)
{
	struct upper upper = {
		.walk = { .limits = { .files = MAX_NAMES }, .userns = userns },
	};
	u32 count = testbed_count_layers(overlay) - 1;
	struct path root = { .mnt = testbed_layer_mount(overlay, 0) }, *above;
	bool plain;

	if (!root.mnt)
		return true;
	root.dentry = root.mnt->mnt_root;
	above = kcalloc(count, sizeof(*above), GFP_KERNEL_ACCOUNT);
	if (!above || upper_has_marks(root.dentry, false)) {
		kfree(above);
		return false;
	}
	for (u32 at = 0; at < count; at++) {
		above[at].mnt = testbed_layer_mount(overlay, at + 1);
		above[at].dentry = above[at].mnt->mnt_root;
	}
	plain = upper_level(&upper, above, count, &root, TESTBED_PLACE_ROOT) == 1;
	kfree(above);
	return plain;
}

/* ---- digests ---- */

/* Watch the upper layer of the overlay at @root, if it has one. Return its epoch, 0 if that cannot be. */
static u64 image_watch_upper(const struct path *root, struct path *upper)
{
	upper->mnt = testbed_layer_mount(root->mnt->mnt_sb, 0);
	if (!upper->mnt)
		return 1;
	upper->dentry = upper->mnt->mnt_root;
	return testbed_rest_layer(upper, true);
}

/* Walk, and remember the digest if it is that of the view. Takes @fresh. */
static enum testbed_outcome image_walk(struct image *fresh, struct testbed_walk *walk,
				       const struct path *root, u8 *digest)
{
	enum testbed_outcome outcome;
	struct path upper = {};
	u64 epoch;
	bool same;

	epoch = image_watch_upper(root, &upper);
	same = epoch && testbed_upper_is_plain(root->mnt->mnt_sb, walk->userns);
	outcome = testbed_walk_tree(walk, root, digest);
	same &= outcome == TESTBED_OUTCOME_COMPLETE && !walk->unpromised;
	if (upper.mnt) {
		same &= testbed_is_at_rest(&upper, epoch);
		testbed_unwatch_upper(&upper);
	}
	if (same && testbed_is_view(root, &fresh->view)) {
		fresh->files = walk->files;
		fresh->bytes = walk->bytes;
		memcpy(fresh->digest, digest, sizeof(fresh->digest));
		image_memorize(fresh);
	} else {
		kfree(fresh);
	}
	return outcome;
}

enum testbed_outcome testbed_digest_image(struct testbed_walk *walk, const struct path *root,
					  u8 digest[TESTBED_SHA256_SIZE])
{
	struct image *image = kzalloc(sizeof(*image), GFP_KERNEL);

	might_sleep();
	if (!image || !testbed_fill_view(root, &image->view) ||
	    !image_owners(walk->userns, &image->owners)) {
		kfree(image);
		return testbed_walk_tree(walk, root, digest);
	}
	if (!image_recall(image) || !testbed_upper_is_plain(root->mnt->mnt_sb, walk->userns) ||
	    testbed_xattrs_digest(walk, root, walk->root_xattrs))
		return image_walk(image, walk, root, digest);
	walk->files = image->files;
	walk->bytes = image->bytes;
	memcpy(digest, image->digest, sizeof(image->digest));
	testbed_tally(TESTBED_COUNT_IMAGES_RECALLED, 1);
	kfree(image);
	return TESTBED_OUTCOME_COMPLETE;
}
