/* SPDX-License-Identifier: GPL-2.0 */
/* The walk over a container's tree: shared by tree.c, node.c and launch.c. */
#ifndef TESTBED_TREE_H
#define TESTBED_TREE_H

#include <linux/path.h>
#include <linux/types.h>

#include "measurer.h"

struct user_namespace;

/* Beyond one of these the digest says so instead of being one. */
struct testbed_limits {
	u64 files;
	u64 bytes;
	u32 depth;
};

/* A walk: what it is told, and what it gathers. */
struct testbed_walk {
	struct testbed_limits limits;
	struct testbed_verity_layout layout;
	struct testbed_verity *verity;
	struct user_namespace *userns; /* the container's: owners are told as it sees them */
	u64 files;		       /* that the digest covers */
	u64 bytes;		       /* sum of their sizes */
	u64 read;		       /* bytes that had to be read and hashed */
	u64 seen;		       /* names, also those that are left out */
	u32 mounts;		       /* that are listed */
	u32 mounts_len;
	bool mounts_cut;
	u8 *mount_list; /* TESTBED_MOUNTS_MAX bytes */
};

#define TESTBED_MOUNTS_MAX 4096

/*
 * Fill @digest for the tree whose root is @root, and the sums of @walk. Return how
 * it ended. The caller has taken on credentials that may read all of it.
 */
enum testbed_outcome testbed_walk_tree(struct testbed_walk *walk, const struct path *root,
				       u8 digest[TESTBED_SHA256_SIZE]);

/* ---- node.c ---- */

int testbed_node_digest(const struct testbed_walk *walk, const struct path *path, bool is_root,
			const u8 *content, u8 *digest);
int testbed_content_digest(struct testbed_walk *walk, const struct path *path, u8 *content);

#endif
