// SPDX-License-Identifier: GPL-2.0
/* Attach the programs and leave them pinned. */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/version.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "loader.h"
#include "measurer.h"
#include "measurer.skel.h"
#include "prototype.skel.h"

#define BPFFS_MAGIC 0xcafe4a11
/* Two suffice, unless something forks on and on: what is missed counts as unmeasured. */
#define MAX_PASSES 16
/* The module, beside the loader. */
#define MODULE "testbed_measurer.ko"

/* ---- what attach needs ---- */

static bool file_has_word(const char *path, const char *word)
{
	char text[4096], *rest = text, *token;
	FILE *file = fopen(path, "re");
	bool found = false;

	if (!file)
		return false;
	if (fgets(text, sizeof(text), file))
		while ((token = strsep(&rest, ",\n")))
			found |= !strcmp(token, word);
	fclose(file);
	return found;
}

static int check_kernel(void)
{
	if (geteuid() != 0)
		return lacking("not root: run it as root");
	if (access("/sys/kernel/security/lsm", R_OK))
		return lacking("/sys/kernel/security/lsm cannot be read: "
			       "mount -t securityfs securityfs /sys/kernel/security");
	if (!file_has_word("/sys/kernel/security/lsm", "bpf"))
		return lacking("BPF LSM is not enabled in this kernel: boot with lsm=...,bpf");
	if (access("/sys/module/testbed_measurer", F_OK))
		return lacking("module testbed_measurer is not loaded: insmod it first");
	if (access("/sys/kernel/btf/testbed_measurer", F_OK))
		return lacking("module testbed_measurer has no BTF: build it with build.sh");
	return 0;
}

static int make_pin_dir(const char *dir)
{
	struct statfs fs;

	if (mkdir(dir, 0700)) {
		if (errno == EEXIST)
			return lacking("%s exists: detach first", dir);
		return lacking("%s: %s: mount -t bpf bpf /sys/fs/bpf", dir, strerror(errno));
	}
	if (statfs(dir, &fs) || (__u32)fs.f_type != BPFFS_MAGIC) {
		rmdir(dir);
		return lacking("%s is not in a BPF file system: "
			       "mount -t bpf bpf /sys/fs/bpf and pin below it", dir);
	}
	return 0;
}

/* ---- pins ---- */

/* What is run by the loader is not attached. */
static bool is_hook(const struct bpf_program *prog)
{
	enum bpf_prog_type type = bpf_program__type(prog);

	return bpf_program__autoload(prog) &&
	       (type == BPF_PROG_TYPE_LSM ||
		(type == BPF_PROG_TYPE_TRACING &&
		 bpf_program__expected_attach_type(prog) == BPF_TRACE_RAW_TP));
}

static int pin_program(const struct bpf_program *prog, const char *dir)
{
	char path[PATH_MAX];
	int err = pin_path(path, dir, "prog", bpf_program__name(prog));

	if (!err)
		err = bpf_obj_pin(bpf_program__fd(prog), path);
	return err ? lacking("%s could not be pinned: %s", path, strerror(-err)) : 0;
}

/* Have the programs say so when the link that is pinned at @path goes. */
static int watch_pin(const struct bpf_map *pins, const char *path)
{
	struct testbed_pin pin = {};
	struct stat inode;
	__u8 one = 1;

	if (stat(path, &inode))
		return -errno;
	/* As the kernel puts a device together, with 20 bits of minor. */
	pin.dev = (__u64)major(inode.st_dev) << 20 | minor(inode.st_dev);
	pin.ino = inode.st_ino;
	return bpf_map__update_elem(pins, &pin, sizeof(pin), &one, sizeof(one), BPF_ANY);
}

/* @pins: NULL where nobody watches them. */
static int pin_links(struct bpf_object *object, const struct bpf_map *pins, const char *dir)
{
	struct bpf_program *prog;
	char path[PATH_MAX];
	struct bpf_link *link;
	int err;

	bpf_object__for_each_program(prog, object) {
		const char *name = bpf_program__name(prog);

		if (!is_hook(prog))
			continue;
		link = bpf_program__attach(prog);
		if (!link)
			return lacking("%s did not attach: %s", name, strerror(errno));
		err = pin_path(path, dir, "link", name);
		if (!err)
			err = bpf_link__pin(link, path);
		if (!err && pins)
			err = watch_pin(pins, path);
		/* A pinned link outlives this; one that is not pinned detaches. */
		bpf_link__destroy(link);
		if (err)
			return lacking("%s could not be pinned: %s", path, strerror(-err));
		err = pin_program(prog, dir);
		if (err)
			return err;
	}
	return 0;
}

static int pin_counters(struct bpf_object *object, const char *dir)
{
	const struct bpf_map *counters = bpf_object__find_map_by_name(object, "counters");
	char path[PATH_MAX];
	int err = pin_path(path, dir, "map", "counters");

	if (!err)
		err = bpf_obj_pin(bpf_map__fd(counters), path);
	if (err)
		return lacking("%s could not be pinned: %s", path, strerror(-err));
	return pin_program(bpf_object__find_program_by_name(object, "collect"), dir);
}

/*
 * From now on only the programs write their maps: no system call does. Who loads a
 * program or a module of his own still can.
 */
static int freeze_maps(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) {
		const char *name = bpf_map__name(map);

		/* libbpf has frozen what is constant. */
		if (strstr(name, ".rodata") || strstr(name, ".kconfig"))
			continue;
		if (bpf_map_freeze(bpf_map__fd(map)))
			return lacking("map %s could not be frozen: %s", name, strerror(errno));
	}
	return 0;
}

/* ---- the measurer ---- */

/* Programs that this kernel cannot have, or need not have, are not loaded. */
static void choose_programs(struct measurer_bpf *skel)
{
	unsigned int major = 0, minor = 0;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		major = minor = 0;
	bpf_program__set_autoload(skel->progs.make_room,
				  KERNEL_VERSION(major, minor, 0) < KERNEL_VERSION(6, 2, 0));
	bpf_program__set_autoload(skel->progs.watch_set_acl,
				  KERNEL_VERSION(major, minor, 0) >= KERNEL_VERSION(6, 2, 0));
	bpf_program__set_autoload(skel->progs.watch_remove_acl,
				  KERNEL_VERSION(major, minor, 0) >= KERNEL_VERSION(6, 2, 0));
	bpf_program__set_autoload(skel->progs.measure_check,
				  KERNEL_VERSION(major, minor, 0) >= KERNEL_VERSION(6, 14, 0));
}

/* No memory that is shared with the kernel: what only programs may write can be frozen then. */
static void keep_variables_in_the_kernel(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), ".bss") || strstr(bpf_map__name(map), ".data"))
			bpf_map__set_map_flags(map, bpf_map__map_flags(map) & ~BPF_F_MMAPABLE);
}

/* Run a pass over all tasks. Return 0 or a negative number. */
int run_pass(int link)
{
	int fd = bpf_iter_create(link);
	char nothing[64];
	ssize_t got;

	if (fd < 0)
		return fd;
	do
		got = read(fd, nothing, sizeof(nothing));
	while (got > 0 || (got < 0 && errno == EAGAIN));
	close(fd);
	return got < 0 ? -errno : 0;
}

/* Give what runs already an identity, until a pass over all tasks finds nobody new. */
static int list_running(struct measurer_bpf *skel)
{
	struct bpf_link *link = bpf_program__attach_iter(skel->progs.list_running, NULL);
	int err = link ? 0 : -errno;

	for (int pass = 0; !err && pass < MAX_PASSES; pass++) {
		err = run_pass(bpf_link__fd(link));
		if (!err)
			err = run_program(bpf_program__fd(skel->progs.take_found), NULL, 0);
		if (!err)
			break;
		if (err > 0)
			err = 0;
	}
	bpf_link__destroy(link);
	if (!err)
		err = run_program(bpf_program__fd(skel->progs.end_listing), NULL, 0);
	return err ? lacking("what runs already could not be listed: %s", strerror(-err)) : 0;
}

/* The pass that lists mounts is run before each beat: keep it, pinned. */
static int pin_mounts_pass(struct measurer_bpf *skel, const char *dir)
{
	struct bpf_link *link = bpf_program__attach_iter(skel->progs.list_mounts, NULL);
	char path[PATH_MAX];
	int err = link ? pin_path(path, dir, "iter", "list_mounts") : -errno;

	if (!err)
		err = bpf_link__pin(link, path);
	bpf_link__destroy(link);
	return err ? lacking("the pass over mounts could not be pinned: %s", strerror(-err)) : 0;
}

static int hand_in_part(struct measurer_bpf *skel, enum testbed_part part, int fd)
{
	struct testbed_part_file file = { .part = part, .fd = fd };
	int outcome = run_program(bpf_program__fd(skel->progs.part), &file, sizeof(file));

	/* It is there already when the same is attached again. */
	if (outcome == TESTBED_COUNT_PARTS || outcome == TESTBED_COUNT_DUPLICATES)
		return 0;
	return lacking("part %d of the measurer is not in the log (%d)", part, outcome);
}

/* The object as it was compiled: the loader has it in itself. */
static int object_file(void)
{
	size_t size, done = 0;
	const char *bytes = measurer_bpf__elf_bytes(&size);
	int fd = memfd_create("measurer.bpf.o", MFD_CLOEXEC);

	while (fd >= 0 && done < size) {
		ssize_t wrote = write(fd, bytes + done, size - done);

		if (wrote <= 0) {
			close(fd);
			return -1;
		}
		done += wrote;
	}
	return fd;
}

static int module_file(void)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - sizeof(MODULE) - 1);
	char *slash;

	if (length <= 0)
		return -1;
	path[length] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash ? slash + 1 : path, MODULE);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* The measurer measures itself: what is attached is in the log. */
static int hand_in_parts(struct measurer_bpf *skel)
{
	int module = module_file(), object = object_file(), err;

	if (module < 0 || object < 0)
		err = lacking("%s is not beside the loader, or there is no memory", MODULE);
	else
		err = hand_in_part(skel, TESTBED_PART_MODULE, module);
	if (!err)
		err = hand_in_part(skel, TESTBED_PART_OBJECT, object);
	if (!err)
		err = hand_in_part(skel, TESTBED_PART_LOADER, -1);
	if (module >= 0)
		close(module);
	if (object >= 0)
		close(object);
	return err;
}

static int begin_measuring(struct measurer_bpf *skel, __u64 interval)
{
	struct testbed_beat_ask ask = { .event = TESTBED_BEAT_ATTACHED, .interval = interval };
	int err = log_beat(bpf_program__fd(skel->progs.beat), ask);

	if (!err)
		err = hand_in_parts(skel);
	return err ? err : list_running(skel);
}

static int pin_measurer(struct measurer_bpf *skel, const char *dir)
{
	const struct bpf_program *const others[] = { skel->progs.beat, skel->progs.claim };
	int err;

	/* The counters come first: what is attached can be read. */
	err = pin_counters(skel->obj, dir);
	if (!err && run_program(bpf_program__fd(skel->progs.set_layout), NULL, 0))
		err = lacking("the module does not take the layout of this kernel");
	if (!err)
		err = pin_links(skel->obj, skel->maps.pins, dir);
	for (size_t at = 0; !err && at < sizeof(others) / sizeof(*others); at++)
		err = pin_program(others[at], dir);
	return err ? err : pin_mounts_pass(skel, dir);
}

/* A verifier is to know when it was there; nobody asks that of mere hooks. */
static bool has_beats(enum testbed_mode mode)
{
	return mode == TESTBED_MODE_FILE || mode == TESTBED_MODE_IMAGE || mode == TESTBED_MODE_DRIFT;
}

static int refused(void)
{
	return lacking("the kernel refused the programs: %s: "
		       "was the loader built for this kernel and module?", strerror(errno));
}

static int attach_measurer(enum testbed_mode mode, const char *dir, __u64 interval, ino_t mntns)
{
	struct measurer_bpf *skel = measurer_bpf__open();
	int err;

	if (!skel)
		return lacking("the BPF object cannot be opened: %s", strerror(errno));
	skel->rodata->mode = mode;
	skel->rodata->host_mntns = mntns;
	choose_programs(skel);
	keep_variables_in_the_kernel(skel->obj);
	err = measurer_bpf__load(skel) ? refused() : pin_measurer(skel, dir);
	if (!err && has_beats(mode))
		err = begin_measuring(skel, interval);
	if (!err)
		err = freeze_maps(skel->obj);
	measurer_bpf__destroy(skel);
	return err;
}

/* ---- the prototypes ---- */

static int attach_prototype(enum testbed_mode mode, const char *dir, ino_t utsns)
{
	struct prototype_bpf *skel = prototype_bpf__open();
	int err;

	if (!skel)
		return lacking("the BPF object cannot be opened: %s", strerror(errno));
	skel->rodata->mode = mode;
	skel->rodata->host_utsns = utsns;
	err = prototype_bpf__load(skel) ? refused() : pin_counters(skel->obj, dir);
	if (!err)
		err = pin_links(skel->obj, NULL, dir);
	prototype_bpf__destroy(skel);
	return err;
}

int attach(enum testbed_mode mode, const char *dir, __u64 interval)
{
	struct stat mnt, uts;
	int err = check_kernel();

	if (err)
		return err;
	if (stat("/proc/1/ns/mnt", &mnt) || stat("/proc/1/ns/uts", &uts))
		return lacking("/proc/1/ns cannot be read: %s: mount /proc", strerror(errno));
	err = make_pin_dir(dir);
	if (err)
		return err;
	if (mode == TESTBED_MODE_PROTOTYPE_FILE || mode == TESTBED_MODE_PROTOTYPE_IMAGE)
		err = attach_prototype(mode, dir, uts.st_ino);
	else
		err = attach_measurer(mode, dir, interval, mnt.st_ino);
	if (err)
		unpin_all(dir);
	return err;
}
