// SPDX-License-Identifier: GPL-2.0
/*
 * Which content a file has, and when equal stamps are a promise of equal content.
 *
 * The rule: a content is promised only if, since the last open for writing of the
 * inode that is mapped, its pages were written back and dropped from the page cache,
 * and were then read and hashed, with no writer and no writable mapping before and
 * after. Why each part is needed is in docs/measurer.md, "Promised content":
 *
 *   dropped     A page that a process pinned while it could write (a system call that
 *               copies slowly, direct I/O, io_uring) gets its bytes later, without
 *               a fault, a version or a time. That does no harm if the page is dropped:
 *               no process maps it any more.
 *   version     Every open for writing raises it (testbed_watch_writer), also where
 *               the file system does not (blocks that are exchanged by ioctl).
 *   id          Addresses of inodes come again; an id goes with its inode.
 *   verity      A page from before fs-verity was enabled is never checked, and enabling
 *               it drops no page: the stamp says whether it was enabled.
 */
#include <linux/backing-dev.h>
#include <linux/blkdev.h>
#include <linux/dax.h>
#include <linux/delay.h>
#include <linux/errseq.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/iversion.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include "compat.h"
#include "module.h"

/* Overlays can lie on each other so often (FILESYSTEM_MAX_STACK_DEPTH). */
#define MAX_STACKED 4
/*
 * A page may be busy for a moment: the journal holds it, or it is being written. Tried
 * again after 1, 2, 4, ... ms, 63 ms in all.
 */
#define DROP_TRIES 7
/* How often a writer is looked for: an open that the kernel refuses counts as one for a moment. */
#define WRITER_TRIES 100

/* Only the headers of their own file systems have these. */
#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400
#endif
#ifndef GFS2_MAGIC
#define GFS2_MAGIC 0x01161970
#endif
#ifndef ORANGEFS_SUPER_MAGIC
#define ORANGEFS_SUPER_MAGIC 0x20030528
#endif
#ifndef VBOXSF_SUPER_MAGIC
#define VBOXSF_SUPER_MAGIC 0x786f4256
#endif

/* ---- which file, which inode ---- */

/*
 * An overlay's file holds the real one that it was opened with: that is what is
 * mapped, also if the file was copied up since. @file keeps it open.
 */
struct file *testbed_real_file(struct file *file)
{
	const struct testbed_layout *layout = testbed_layout();

	for (int at = 0; at < MAX_STACKED; at++) {
		void *private = file->private_data;

		if (file_inode(file)->i_sb->s_magic != OVERLAYFS_SUPER_MAGIC ||
		    !S_ISREG(file_inode(file)->i_mode) || !private)
			break;
		file = layout->overlay_file ? *(struct file **)(private + layout->overlay_real) :
					      private;
	}
	return file;
}

/* Files of memory: nothing is written back, and no hook sees a store through a mapping. */
static bool stamp_is_memory(const struct inode *inode)
{
	return !mapping_can_writeback(inode->i_mapping);
}

/* Memory without a place in the tree of directories: memfd, SysV shared memory. */
static bool stamp_is_memfd(const struct inode *inode)
{
	return (inode->i_sb->s_flags & SB_KERNMOUNT) &&
	       (inode->i_sb->s_magic == TMPFS_MAGIC || inode->i_sb->s_magic == HUGETLBFS_MAGIC);
}

/* Is this memfd sealed, so that no descriptor and no mapping can write to it? */
static bool stamp_is_sealed(struct inode *inode)
{
	unsigned int seals = 0;

	if (inode->i_sb->s_magic == TMPFS_MAGIC)
		seals = READ_ONCE(SHMEM_I(inode)->seals);
#ifdef CONFIG_HUGETLBFS
	else if (inode->i_sb->s_magic == HUGETLBFS_MAGIC)
		seals = READ_ONCE(HUGETLBFS_I(inode)->seals);
#endif
	return seals & F_SEAL_WRITE;
}

bool testbed_is_open_memory(struct inode *inode)
{
	return stamp_is_memfd(inode) && !stamp_is_sealed(inode);
}

/*
 * Who only tries to open a file for writing on a mount that is read-only raises the
 * count for a moment, before the kernel refuses him. Who gets it open and closes it
 * between two looks has raised the version.
 */
static bool stamp_is_open_for_writing(const struct inode *inode)
{
	for (int at = 0; at < WRITER_TRIES; at++) {
		if (atomic_read(&inode->i_writecount) <= 0)
			return false;
		cpu_relax();
	}
	return true;
}

bool testbed_has_writers(struct inode *inode)
{
	/* In this order: a task that maps the file and then closes it is seen as a mapping. */
	return testbed_is_open_memory(inode) || stamp_is_open_for_writing(inode) ||
	       mapping_writably_mapped(inode->i_mapping);
}

/*
 * Will the file system of @inode give the bytes that were read when it is asked again?
 * A server's may not, nor one that an untrusted user mounts, nor one that makes its
 * files when they are read.
 */
bool testbed_binds_content(const struct inode *inode)
{
	static const unsigned long unbound[] = {
		AFS_FS_MAGIC,	   AFS_SUPER_MAGIC,   CEPH_SUPER_MAGIC, CIFS_SUPER_MAGIC,
		CODA_SUPER_MAGIC,  FUSE_SUPER_MAGIC,  GFS2_MAGIC,	NFS_SUPER_MAGIC,
		OCFS2_SUPER_MAGIC, SMB2_SUPER_MAGIC,  SMB_SUPER_MAGIC,	V9FS_MAGIC,
		CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, PROC_SUPER_MAGIC,
		SECURITYFS_MAGIC,  SYSFS_MAGIC,	      TRACEFS_MAGIC,	ORANGEFS_SUPER_MAGIC,
		VBOXSF_SUPER_MAGIC,
	};
	const struct super_block *sb = inode->i_sb;

	if (sb->s_iflags & (SB_I_IMA_UNVERIFIABLE_SIGNATURE | SB_I_UNTRUSTED_MOUNTER))
		return false;
	for (size_t at = 0; at < ARRAY_SIZE(unbound); at++)
		if (sb->s_magic == unbound[at])
			return false;
	return true;
}

/*
 * Is the block device of @sb a file, or a server? Who writes to that opens no file of
 * @sb, and what is read next may be something else.
 */
static bool stamp_is_served(const struct super_block *sb)
{
	static const char *const names[] = { "loop", "nbd", "ublkb" };

	/* Btrfs has several devices, and none of them here. */
	if (!sb->s_bdev)
		return false;
	for (size_t at = 0; at < ARRAY_SIZE(names); at++)
		if (strstarts(sb->s_bdev->bd_disk->disk_name, names[at]))
			return true;
	return false;
}

bool testbed_is_bound(const struct inode *inode)
{
	if (!testbed_binds_content(inode) || stamp_is_served(inode->i_sb))
		return false;
	if (stamp_is_memfd(inode))
		return stamp_is_sealed((struct inode *)inode);
	return !stamp_is_memory(inode) && !IS_DAX(inode) &&
	       (inode->i_sb->s_type->fs_flags & FS_REQUIRES_DEV);
}

/* ---- stamps ---- */

/* Can a stamp of @inode be a promise: does its file system count changes, and is it the host's? */
static bool stamp_is_possible(const struct inode *inode)
{
	const struct super_block *sb = inode->i_sb;

	return S_ISREG(inode->i_mode) && IS_I_VERSION(inode) && !IS_DAX(inode) &&
	       !stamp_is_memory(inode) && (sb->s_type->fs_flags & FS_REQUIRES_DEV) &&
	       sb->s_user_ns == &init_user_ns && testbed_binds_content(inode) &&
	       !stamp_is_served(sb);
}

/*
 * Is each page of @inode, which has fs-verity, checked if it is read from now on? The flag is set before the digest is
 * there that pages are checked with. But a task that enables fs-verity denies writing until both are there. An inode
 * with neither digest nor denial has not been opened since it came into memory, so it has no page.
 */
static bool stamp_is_checked(const struct inode *inode)
{
	/* After the flag. */
	smp_rmb();
	return fsverity_active(inode) || atomic_read(&inode->i_writecount) >= 0;
}

bool testbed_stamp_inode(struct inode *inode, u64 payer, struct testbed_stamp *stamp)
{
	bool verity = IS_VERITY(inode);
	struct timespec64 ctime;

	memset(stamp, 0, sizeof(*stamp));
	stamp->inode = (unsigned long)inode;
	if (!stamp_is_possible(inode) || (verity && !stamp_is_checked(inode)))
		return false;
	stamp->id = testbed_incarnation(inode, payer);
	ctime = testbed_ctime(inode);
	stamp->version = inode_query_iversion(inode) | (verity ? TESTBED_STAMP_VERITY : 0);
	stamp->size = i_size_read(inode);
	stamp->ctime_sec = ctime.tv_sec;
	stamp->ctime_nsec = ctime.tv_nsec;
	/* After the query: a writer that comes later raises the version. */
	smp_mb();
	return !testbed_has_writers(inode);
}

/* ---- what lies behind the end ---- */

/* Does @folio have bytes that are not zero from @size of its file on? */
static bool stamp_folio_has_tail(struct folio *folio, loff_t size)
{
	size_t from = size - folio_pos(folio), all = folio_size(folio);
	bool found = false;

	while (from < all && !found) {
		size_t part = min_t(size_t, all - from, PAGE_SIZE - offset_in_page(from));
		u8 *bytes = kmap_local_folio(folio, from);

		found = memchr_inv(bytes, 0, part);
		kunmap_local(bytes);
		from += part;
		cond_resched();
	}
	return found;
}

/* Only a huge page of memory is mapped whole, also behind the last page of the file. */
static bool stamp_can_have_tail(const struct inode *inode, loff_t size)
{
	return size && (offset_in_page(size) || inode->i_sb->s_magic == TMPFS_MAGIC);
}

/*
 * The page with byte @at of @inode, if there is one. @read: also if it must be read
 * for that; NULL: nothing was ever stored there.
 */
static struct folio *stamp_get_folio(struct inode *inode, loff_t at, bool read)
{
	struct address_space *mapping = inode->i_mapping;
	pgoff_t index = at >> PAGE_SHIFT;

	if (!read)
		return testbed_get_folio(mapping, index);
	if (inode->i_sb->s_magic == TMPFS_MAGIC) {
		struct page *page;

		/* A hole: reading it would fill it. What was swapped out is still there as a value. */
		if (!xa_load(&mapping->i_pages, index))
			return NULL;
		page = shmem_read_mapping_page_gfp(mapping, index, mapping_gfp_mask(mapping));
		return IS_ERR(page) ? ERR_CAST(page) : page_folio(page);
	}
	if (!mapping->a_ops->read_folio || !testbed_binds_content(inode))
		return testbed_get_folio(mapping, index);
	return read_mapping_folio(mapping, index, NULL);
}

/*
 * Are there bytes that are not zero behind the end of @inode, in its last page? They are
 * mapped with it, but not hashed. May sleep.
 */
static bool stamp_has_tail(struct inode *inode, bool read)
{
	loff_t size = i_size_read(inode);
	struct folio *folio;
	bool found;

	might_sleep();
	if (!S_ISREG(inode->i_mode) || !stamp_can_have_tail(inode, size))
		return false;
	folio = stamp_get_folio(inode, size - 1, read);
	if (IS_ERR_OR_NULL(folio))
		return false;
	/* A folio that is being read for the first time is empty, and not mapped. */
	found = folio_test_uptodate(folio) && stamp_folio_has_tail(folio, size);
	folio_put(folio);
	return found;
}

/* ---- contents ---- */

/*
 * Write the pages of @inode back and drop them, so that what is read next comes from
 * the disk, and a page that a process still holds is the file's no more. A page that is
 * mapped is dropped too: the process gets a new one by a fault. May sleep.
 */
static int stamp_drop_pages(struct inode *inode)
{
	struct address_space *mapping = inode->i_mapping;
	int err = 0;

	for (int at = 0; at < DROP_TRIES; at++) {
		err = filemap_write_and_wait_range(mapping, 0, LLONG_MAX);
		if (!err)
			err = invalidate_inode_pages2_range(mapping, 0, -1);
		if (err != -EBUSY || at + 1 == DROP_TRIES)
			break;
		usleep_range(1000 << at, 1500 << at);
	}
	return err;
}

static bool stamp_has_pages_to_drop(struct inode *inode)
{
	return inode->i_mapping->nrpages && !IS_DAX(inode) && !stamp_is_memory(inode) &&
	       testbed_binds_content(inode);
}

/*
 * Have what the kernel reads of @inode next come from the disk. What would be a violation
 * is left to the function that measures the file. May sleep.
 */
void testbed_settle(struct inode *inode, u64 payer)
{
	struct testbed_stamp stamp;
	bool promised;

	might_sleep();
	promised = testbed_stamp_inode(inode, payer, &stamp);
	if (promised && testbed_is_settled(&stamp))
		return;
	if (testbed_has_writers(inode) || stamp_has_tail(inode, false))
		return;
	if (stamp_has_pages_to_drop(inode) && stamp_drop_pages(inode))
		return;
	/* fs-verity checks what is read next: it need not be dropped and checked again. */
	if (promised && (stamp.version & TESTBED_STAMP_VERITY))
		testbed_set_settled(&stamp);
}

void testbed_begin_content(struct testbed_content *content, struct inode *inode, u64 payer)
{
	might_sleep();
	*content = (struct testbed_content){ .inode = inode, .payer = payer };
	content->promised = testbed_stamp_inode(inode, payer, &content->stamp);
	content->written = testbed_has_writers(inode);
	content->errors = READ_ONCE(inode->i_mapping->wb_err);
	/* Looked for before the pages are dropped: afterwards these bytes are zero. */
	content->tail = stamp_has_tail(inode, false);
	if (content->written || !stamp_has_pages_to_drop(inode))
		return;
	if (content->promised && testbed_is_settled(&content->stamp))
		return;
	if (stamp_drop_pages(inode)) {
		content->unsettled = true;
		content->promised = false;
	}
	testbed_tally(TESTBED_COUNT_DROPPED, 1);
}

bool testbed_end_content(struct testbed_content *content)
{
	struct testbed_stamp now;

	if (testbed_has_writers(content->inode))
		content->written = true;
	/* fs-verity checks the last page with what lies behind the end, when it is read. */
	if (stamp_has_tail(content->inode, !(content->stamp.version & TESTBED_STAMP_VERITY)))
		content->tail = true;
	if (READ_ONCE(content->inode->i_mapping->wb_err) != content->errors)
		content->unsettled = true;
	if (!content->promised || content->written || content->unsettled || content->tail ||
	    !testbed_stamp_inode(content->inode, content->payer, &now) ||
	    memcmp(&content->stamp, &now, sizeof(now)))
		content->promised = false;
	else
		testbed_set_settled(&now);
	return content->promised;
}
