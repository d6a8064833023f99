// SPDX-License-Identifier: GPL-2.0
/*
 * The mount table of a task as text (docs/formats.md, "ctr-launch"), and the entry
 * ctr-mounts.
 *
 * A module can neither walk a mount namespace (collect_mounts() and iterate_mounts()
 * are not exported) nor call what prints a mount. But it can read the task's
 * /proc/PID/mountinfo. The container's own /proc will not do: it may be missing, be
 * covered, be of another pid namespace, or hide processes. So the module mounts a proc
 * of its own, which has no place in any namespace, and reads there.
 *
 * mountinfo lists what can be reached from the task's root, by the names that the task
 * has for it. So the mount in which the root is one directory among others is missing:
 * it gets a line that is made here.
 */
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/overflow.h>
#include <linux/path.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/string_helpers.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "measurer.h"
#include "module.h"

/* So often is a table read that changes meanwhile. */
#define MOUNTS_TRIES 8

static struct vfsmount *mounts_proc;

/* ---- a proc of our own ---- */

struct proc_maker {
	struct work_struct work;
	struct vfsmount *mount;
};

static void make_proc(struct work_struct *work)
{
	struct proc_maker *maker = container_of(work, struct proc_maker, work);
	struct file_system_type *type = get_fs_type("proc");

	maker->mount = type ? kern_mount(type) : ERR_PTR(-ENODEV);
	if (type)
		module_put(type->owner);
}

/*
 * proc shows the pid namespace of the task that mounts it. The module may be loaded in
 * another one than the first, so a kernel thread mounts it: that is always in the first.
 */
int testbed_init_mounts(void)
{
	struct proc_maker maker;

	INIT_WORK_ONSTACK(&maker.work, make_proc);
	schedule_work(&maker.work);
	flush_work(&maker.work);
	destroy_work_on_stack(&maker.work);
	if (IS_ERR(maker.mount))
		return PTR_ERR(maker.mount);
	mounts_proc = maker.mount;
	return 0;
}

void testbed_exit_mounts(void)
{
	kern_unmount(mounts_proc);
}

static struct file *open_mountinfo(struct task_struct *task, u32 *closed)
{
	struct path root = { .mnt = mounts_proc, .dentry = mounts_proc->mnt_root };
	char name[sizeof("-2147483648/mountinfo")];
	struct file *file;

	/* Of a thread, too: the lookup of a number finds any task that has it. */
	snprintf(name, sizeof(name), "%d/mountinfo", task_pid_nr(task));
	file = file_open_root(&root, name, O_RDONLY, 0);
	/* The number is this task's until it has none any more. */
	if (!IS_ERR(file) && !pid_alive(task)) {
		testbed_fput(file, closed);
		return ERR_PTR(-ESRCH);
	}
	return file;
}

/* ---- lines ---- */

/*
 * The fields of a line (Documentation/filesystems/proc.rst), separated by spaces. There
 * may be any number of tags, and one that is "-" ends them.
 */
enum field {
	FIELD_ID,
	FIELD_PARENT,
	FIELD_DEVICE,
	FIELD_ROOT,
	FIELD_TARGET,
	FIELD_OPTIONS,
	FIELD_TAG,
	FIELD_TYPE,
	FIELD_SOURCE,
	FIELD_SUPER,
	FIELDS,
};

/* Reads a table byte by byte: its lines may have any length. */
struct mounts_reader {
	struct testbed_mount_table *table;
	bool bad; /* it is no table */
	enum field field;
	u32 starts[FIELDS]; /* in @line, of the fields that are kept */
	u32 length;
	char line[TESTBED_MOUNTS_MAX]; /* what does not fit fits in no list */
	char page[PAGE_SIZE];
};

static bool keep_byte(struct mounts_reader *reader, char byte)
{
	if (reader->length == sizeof(reader->line)) {
		reader->table->cut = true;
		return false;
	}
	reader->line[reader->length++] = byte;
	return true;
}

static void end_field(struct mounts_reader *reader)
{
	u32 start = reader->starts[reader->field];
	bool is_tag = reader->field == FIELD_TAG;

	if (!keep_byte(reader, '\0'))
		return;
	if (!is_tag || !strcmp(reader->line + start, "-"))
		reader->field++;
	if (is_tag || reader->field <= FIELD_ROOT)
		reader->length = start;
	reader->starts[reader->field] = reader->length;
}

static void end_line(struct mounts_reader *reader)
{
	static const enum field told[] = {
		FIELD_TARGET, FIELD_TYPE, FIELD_SOURCE, FIELD_ROOT, FIELD_OPTIONS, FIELD_SUPER,
	};
	struct testbed_mount_table *table = reader->table;
	u32 length = 0;

	if (reader->field != FIELD_SUPER) {
		reader->bad = true;
		return;
	}
	if (!keep_byte(reader, '\0'))
		return;
	for (size_t at = 0; at < ARRAY_SIZE(told); at++)
		length += strlen(reader->line + reader->starts[told[at]]) + 1;
	if (length > TESTBED_MOUNTS_MAX - table->length) {
		table->cut = true;
		return;
	}
	for (size_t at = 0; at < ARRAY_SIZE(told); at++) {
		const char *text = reader->line + reader->starts[told[at]];
		size_t size = strlen(text);

		memcpy(table->text + table->length, text, size);
		table->length += size;
		table->text[table->length++] = at + 1 < ARRAY_SIZE(told) ? ' ' : '\n';
	}
	table->count++;
	reader->field = FIELD_ID;
	reader->starts[FIELD_ID] = 0;
	reader->length = 0;
}

static void take_byte(struct mounts_reader *reader, char byte)
{
	if (byte == '\n')
		end_line(reader);
	else if (reader->field != FIELD_SUPER && byte == ' ')
		end_field(reader);
	/* "rw" or "ro": what follows are the file system's own options, which are not told. */
	else if (reader->field != FIELD_SUPER ||
		 reader->length - reader->starts[FIELD_SUPER] < strlen("rw"))
		keep_byte(reader, byte);
}

/* ---- tables ---- */

static void fill_options(const struct vfsmount *mount, char *to, size_t size)
{
	/* In the order in which the kernel prints them. */
	static const struct {
		int flag;
		const char *name;
	} options[] = {
		{ MNT_NOSUID, ",nosuid" },
		{ MNT_NODEV, ",nodev" },
		{ MNT_NOEXEC, ",noexec" },
		{ MNT_NOATIME, ",noatime" },
		{ MNT_NODIRATIME, ",nodiratime" },
		{ MNT_RELATIME, ",relatime" },
		{ MNT_NOSYMFOLLOW, ",nosymfollow" },
	};
	size_t used = scnprintf(to, size, "%s", mount->mnt_flags & MNT_READONLY ? "ro" : "rw");

	for (size_t at = 0; at < ARRAY_SIZE(options); at++)
		if (mount->mnt_flags & options[at].flag)
			used += scnprintf(to + used, size - used, "%s", options[at].name);
	if (is_idmapped_mnt(mount))
		scnprintf(to + used, size - used, ",idmapped");
}

/* Add the line of the mount in which @root is. Its source is known to the kernel alone. */
static void add_root(struct mounts_reader *reader, const struct path *root)
{
	struct testbed_mount_table *table = reader->table;
	const struct super_block *sb = root->mnt->mnt_sb;
	char options[128], *path, *to = table->text + table->length;
	size_t room = TESTBED_MOUNTS_MAX - table->length, length;

	path = dentry_path_raw(root->dentry, reader->page, sizeof(reader->page));
	if (IS_ERR(path)) {
		reader->bad = true;
		return;
	}
	fill_options(root->mnt, options, sizeof(options));
	length = snprintf(to, room, "/ %s none ", sb->s_type->name);
	/* As the kernel escapes it in the other lines. */
	if (length < room)
		length += string_escape_mem(path, strlen(path), to + length, room - length,
					    ESCAPE_OCTAL, " \t\n\\");
	if (length < room)
		length += snprintf(to + length, room - length, " %s %s\n", options,
				   sb_rdonly(sb) ? "ro" : "rw");
	if (length >= room) {
		table->cut = true;
		return;
	}
	table->length += length;
	table->count++;
}

static int read_lines(struct mounts_reader *reader, struct file *file)
{
	loff_t pos = 0;
	ssize_t got;

	do {
		got = kernel_read(file, reader->page, sizeof(reader->page), &pos);
		for (ssize_t at = 0; at < got && !reader->table->cut && !reader->bad; at++)
			take_byte(reader, reader->page[at]);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	} while (got > 0 && !reader->table->cut && !reader->bad);
	if (got < 0)
		return got;
	/* At the end of the file a line has ended, too. */
	if (!reader->table->cut && (reader->field != FIELD_ID || reader->length))
		reader->bad = true;
	return reader->bad ? -EINVAL : 0;
}

/* Read the table once. Return -EAGAIN if it was changed meanwhile. */
static int read_table(struct mounts_reader *reader, struct task_struct *task,
		      const struct path *root, u32 *closed)
{
	struct testbed_mount_table *table = reader->table;
	struct file *file = open_mountinfo(task, closed);
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);
	*table = (struct testbed_mount_table){ .text = table->text };
	reader->bad = false;
	reader->field = FIELD_ID;
	reader->starts[FIELD_ID] = 0;
	reader->length = 0;
	if (root->dentry != root->mnt->mnt_root)
		add_root(reader, root);
	err = read_lines(reader, file);
	/* The kernel's lock is dropped between two reads; poll() reports a change since the open. */
	if (!err && vfs_poll(file, NULL) & EPOLLERR)
		err = -EAGAIN;
	testbed_fput(file, closed);
	/* The root's mount is not in the task's namespace, nor is then any that is below it. */
	if (!err && !table->count && !table->cut)
		add_root(reader, root);
	return reader->bad ? -EINVAL : err;
}

static bool get_root(struct task_struct *task, struct path *root)
{
	bool found = false;

	task_lock(task);
	if (task->fs) {
		get_fs_root(task->fs, root);
		found = true;
	}
	task_unlock(task);
	return found;
}

void testbed_read_mounts(struct task_struct *task, struct testbed_mount_table *table)
{
	struct mounts_reader *reader;
	const struct cred *own;
	struct path root;
	u32 closed = 0;
	int err = -EAGAIN;

	might_sleep();
	*table = (struct testbed_mount_table){ .text = table->text, .none = true };
	if (!task)
		task = current;
	if (!get_root(task, &root))
		return;
	reader = kvmalloc(sizeof(*reader), GFP_KERNEL_ACCOUNT);
	own = reader ? testbed_as_kernel() : NULL;
	if (!own)
		goto out;
	reader->table = table;
	for (u32 tries = 0; err == -EAGAIN && tries < MOUNTS_TRIES; tries++)
		err = read_table(reader, task, &root, &closed);
	testbed_as_before(own);
	if (err)
		*table = (struct testbed_mount_table){ .text = table->text, .none = true };
out:
	kvfree(reader);
	path_put(&root);
}

/* ---- entries ---- */

__bpf_kfunc_start_defs();

/*
 * Log the mounts that @task sees for @ident. @event is the number that its mount
 * namespace had before the call. @flags: of the entry. With NONE its root is in no mount
 * of that namespace, whose table tells nothing of it then. Return the counter of the
 * outcome.
 */
__bpf_kfunc int testbed_measure_mounts(struct task_struct *task, const struct testbed_ident *ident,
				       u64 event, u32 flags)
{
	struct testbed_mount_table table;
	struct testbed_mounts_entry *entry;
	u32 length;
	int result;

	might_sleep();
	entry = kvzalloc(struct_size(entry, list, TESTBED_MOUNTS_MAX), GFP_KERNEL);
	if (!entry) {
		testbed_count_for(ident, TESTBED_COUNT_NO_MEMORY, 1);
		return TESTBED_COUNT_NO_MEMORY;
	}
	table.text = entry->list;
	if (flags & TESTBED_MOUNTS_NONE)
		table = (struct testbed_mount_table){ .text = table.text, .none = true };
	else
		testbed_read_mounts(task, &table);
	if (table.cut)
		flags |= TESTBED_MOUNTS_CUT;
	if (table.none)
		flags |= TESTBED_MOUNTS_NONE;
	entry->event = event;
	entry->mounts = table.count;
	entry->mounts_len = table.length;
	length = struct_size(entry, list, table.length);
	testbed_fill_header(&entry->header, TESTBED_KIND_MOUNTS, length, flags, ident);
	result = testbed_log_charged(ident, TESTBED_BUDGET_ENTRIES, "ctr-mounts", entry, length,
				     TESTBED_COUNT_MOUNTS);
	testbed_count_for(ident, result, 1);
	kvfree(entry);
	return result;
}

__bpf_kfunc_end_defs();
