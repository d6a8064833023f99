/* SPDX-License-Identifier: GPL-2.0 */
/* The walk over the tree of a container: shared by the files that walk. */
#ifndef TESTBED_TREE_H
#define TESTBED_TREE_H

#include <linux/errno.h>
#include <linux/path.h>
#include <linux/types.h>

#include "measurer.h"

struct inode;
struct testbed_verity;
struct user_namespace;

/* Directories in which runtimes make files. */
enum testbed_place {
	TESTBED_PLACE_ELSEWHERE,
	TESTBED_PLACE_ROOT,
	TESTBED_PLACE_DEV,
	TESTBED_PLACE_ETC,
	TESTBED_PLACE_RUN,
};

struct testbed_child {
	u32 name; /* where it begins among the names */
	u32 length;
	u8 digest[TESTBED_SHA256_SIZE];
	bool covered;
};

struct testbed_directory {
	struct dentry *dentry;
	enum testbed_place place;
	bool made; /* a runtime makes it where an image has none */
	struct testbed_child *children;
	u32 count, room;
	char *names;
	u32 names_len, names_room;
	u32 next; /* the child to look at */
};

/* Beyond one of these the digest says so instead of being one. */
struct testbed_limits {
	u64 files;
	u64 bytes;
	u32 depth;
};

/* A walk: its arguments, and what it gathers. */
struct testbed_walk {
	struct testbed_limits limits;
	struct testbed_verity_layout layout;
	struct testbed_verity *verity;
	u64 payer; /* the outermost container */
	struct user_namespace *userns; /* the container's: owners are given as it sees them */
	enum testbed_outcome outcome;  /* why it ended, where it ended by itself */
	u16 version;		       /* TESTBED_TREE_..., of the digest */
	u64 files;		       /* that the digest covers */
	u64 bytes;		       /* sum of their sizes */
	u64 read;		       /* bytes that had to be read and hashed */
	u64 seen;		       /* names, also those that are left out */
	u32 closed;		       /* files, for testbed_fput() */
	bool unpromised;	       /* a content may change unseen */
	u8 root_xattrs[TESTBED_SHA256_SIZE];
};

/*
 * End the walk for a reason of its own. A file system may return any error, also
 * -E2BIG, -ELOOP, -EFBIG or -EINTR, so no error tells such a reason. Return an error.
 */
static inline int testbed_end_walk(struct testbed_walk *walk, enum testbed_outcome outcome)
{
	walk->outcome = outcome;
	return -ECANCELED;
}

/*
 * Fill @digest for the tree whose root is @root, and the sums of @walk. Return how
 * it ended. The caller has taken on credentials that may read all of it. May sleep.
 */
enum testbed_outcome testbed_walk_tree(struct testbed_walk *walk, const struct path *root,
				       u8 digest[TESTBED_SHA256_SIZE]);

/* ---- names.c ---- */

/*
 * Fill @directory with the names in the directory at @path, sorted by raw bytes. The
 * directory is locked (shared) while it is read. Its names are freed by
 * testbed_leave_directory(), also after an error. May sleep.
 */
int testbed_read_names(struct testbed_walk *walk, struct testbed_directory *directory,
		       const struct path *path);
/* Give back what @directory holds, its dentry included. */
void testbed_leave_directory(struct testbed_directory *directory);

enum testbed_place testbed_place_of(const struct testbed_directory *above,
				    const struct testbed_child *child);
/* Does a runtime make an empty file of this name where an image has none? */
bool testbed_is_made_file(const struct testbed_directory *directory,
			  const struct testbed_child *child);
bool testbed_is_made_directory(const struct testbed_directory *above,
			       const struct testbed_child *child);
/*
 * Is this file, which is no directory, one that a runtime made, and does it hold
 * nothing? Return 1 if so, 0 if not, or an error. May sleep.
 */
int testbed_is_left_out(const struct testbed_directory *directory,
			const struct testbed_child *child, const struct path *path);

/* ---- node.c ---- */

int testbed_node_digest(const struct testbed_walk *walk, const struct path *path, bool is_root,
			const u8 *content, u8 *digest);
int testbed_content_digest(struct testbed_walk *walk, const struct path *path, u8 *content);

/* Return 1 if the file has an extended attribute that counts, 0 if not, or an error. */
int testbed_has_xattrs(const struct path *path);

/* Fill @digest for the extended attributes of @path, with zeros if none counts. */
int testbed_xattrs_digest(const struct testbed_walk *walk, const struct path *path, u8 *digest);

/* Return 1 if the symbolic link leads to the kernel's list of mounts, 0 if not, or an error. */
int testbed_leads_to_mounts(struct dentry *dentry);

/* ---- verity.c ---- */

/* Room to compute digests in, NULL if there is none. */
struct testbed_verity *testbed_new_verity(void);
void testbed_free_verity(struct testbed_verity *verity);

int testbed_verity_digest(struct testbed_walk *walk, const struct path *path, u64 limit,
			  u8 digest[TESTBED_SHA256_SIZE]);

/* Fill @digest with what fs-verity has of @inode, which was opened. Return false if it is none of these parameters. */
bool testbed_inode_verity(struct inode *inode, u8 digest[TESTBED_SHA256_SIZE]);

/* ---- sealed.c ---- */

/*
 * Fill @digest, the version and the root's attributes of @walk if one digest of the
 * kernel binds the whole tree whose root is @root; else return false, and it must be
 * walked. The caller has taken on credentials as for testbed_walk_tree(). May sleep.
 */
bool testbed_sealed_root(struct testbed_walk *walk, const struct path *root,
			 u8 digest[TESTBED_SHA256_SIZE]);

#endif
