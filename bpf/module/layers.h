/* SPDX-License-Identifier: GPL-2.0 */
/* Layers of overlays, overlays whose layers are at rest, and the images that they show. */
#ifndef TESTBED_LAYERS_H
#define TESTBED_LAYERS_H

#include <linux/path.h>
#include <linux/types.h>

#include "measurer.h"

struct dentry;
struct file;
struct inode;
struct super_block;
struct testbed_walk;
struct user_namespace;

/* ---- layers.c ---- */

/* A layer in one of its epochs. */
struct testbed_layer_state {
	unsigned long inode; /* of its root: compared, never followed */
	u64 epoch;
};

/*
 * Watch the layer whose root is @root, and wait for the operations on it that began before. Return its epoch, 0 if it
 * does not come to rest. @upper: for one walk only, until testbed_unwatch_upper(). May sleep.
 */
u64 testbed_rest_layer(const struct path *root, bool upper);
bool testbed_is_at_rest(const struct path *root, u64 epoch);
void testbed_unwatch_upper(const struct path *root);

/* Call @act if all @states are those of now, under the lock of the layers: it must not sleep. */
bool testbed_with_layers_at_rest(const struct testbed_layer_state *states, u32 count,
				 void (*act)(void *argument), void *argument);

/* What @dentry names is about to be changed. Does not sleep. */
void testbed_change_node(struct dentry *dentry);
/* @file has been opened for writing. May sleep. */
void testbed_change_file(struct file *file);
/* @inode leaves the memory of the kernel. Does not sleep. */
void testbed_forget_layer(const struct inode *inode);
/* And what depends on them. */
void testbed_forget_layers(void);

/* ---- overlays.c ---- */

/* Layers below an overlay; more are not watched. */
#define TESTBED_LAYERS_MAX 64

/* What an overlay shows: equal views show the same tree, but for the upper layer. */
struct testbed_view {
	u32 count;
	u32 redirect; /* how it was mounted */
	struct testbed_layer_state layers[TESTBED_LAYERS_MAX]; /* the top one first */
};

/*
 * Fill @view for the overlay whose root is @root. Return false if it is none whose
 * layers were at rest before it was mounted, and are since. Does not sleep.
 */
bool testbed_fill_view(const struct path *root, struct testbed_view *view);
bool testbed_is_view(const struct path *root, const struct testbed_view *view);

/* The mount of layer @at (0: the upper one, NULL if there is none) of an overlay that is in use. */
struct vfsmount *testbed_layer_mount(const struct super_block *overlay, u32 at);
u32 testbed_count_layers(const struct super_block *overlay);

/*
 * Container @ident starts in the overlay whose root is @root, and its image's digest is
 * known: its layers are its code from now on. Return false if that cannot be said of it.
 */
bool testbed_enter_overlay(const struct path *root, const struct testbed_ident *ident);
/* It has ended, or its launch is not in the log. Does not sleep. */
void testbed_leave_overlay(u64 seq);

/* Layer @layer is about to change, at @dentry (NULL: unknown). Called under the lock of the layers. */
void testbed_change_overlays(unsigned long layer, struct dentry *dentry);
void testbed_forget_overlay(const struct super_block *sb);
void testbed_forget_overlays(void);
void testbed_exit_overlays(void);

/* ---- images.c ---- */

/*
 * Fill @digest for the tree whose root is @root, and the sums of @walk: from memory, if
 * the root is an overlay of a known image, else by a walk. The caller has taken on
 * credentials that may read all of it. May sleep.
 */
enum testbed_outcome testbed_digest_image(struct testbed_walk *walk, const struct path *root,
					  u8 digest[TESTBED_SHA256_SIZE]);
void testbed_forget_images(void);

/*
 * Is there no upper layer of @overlay, which is understood, or does it hold nothing but what a runtime makes where the
 * layers below have none? May sleep.
 */
bool testbed_upper_is_plain(const struct super_block *overlay, struct user_namespace *userns);

#endif
