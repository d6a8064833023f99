// SPDX-License-Identifier: GPL-2.0
/*
 * Loader: attach the programs and leave them pinned, read the counters, detach.
 *
 *   measurer attach --mode hooks|file|image|prototype-file|prototype-image --pin DIR
 *                   [--beat SECONDS]
 *   measurer counters --pin DIR
 *   measurer beat --pin DIR
 *   measurer claim --pin DIR <STATE    as an OCI hook (createRuntime)
 *   measurer detach --pin DIR
 *
 * DIR lies in a BPF file system, for example /sys/fs/bpf/testbed.
 * Exit status: 0 done, 1 this machine lacks something, 2 wrong usage.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "loader.h"
#include "measurer.h"
#include "measurer.skel.h"

#define BPFFS_MAGIC 0xcafe4a11
/* Two suffice, unless something forks on and on: what is missed counts as unmeasured. */
#define MAX_PASSES 16
#define NANOSECONDS 1000000000ull

static const char *const counter_names[] = {
#define COUNTER_NAME(id, name) [TESTBED_COUNT_##id] = name,
	TESTBED_COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
};

int lacking(const char *format, ...)
{
	va_list args;

	fputs("measurer: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_LACKING;
}

static int usage(void)
{
	fputs("usage: measurer attach --mode MODE --pin DIR [--beat SECONDS]\n"
	      "                MODE: hooks, file, image, prototype-file, prototype-image\n"
	      "       measurer counters --pin DIR\n"
	      "       measurer beat --pin DIR\n"
	      "       measurer claim --pin DIR <STATE\n"
	      "       measurer detach --pin DIR\n",
	      stderr);
	return EXIT_USAGE;
}

/* The last lines of libbpf's complaints are shown if loading fails. */
static int print_warnings(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

static int join(char path[PATH_MAX], const char *dir, const char *kind, const char *name)
{
	int len = snprintf(path, PATH_MAX, "%s/%s-%s", dir, kind, name);

	return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int open_pin(const char *dir, const char *kind, const char *name)
{
	char path[PATH_MAX];
	int fd = join(path, dir, kind, name);

	if (!fd)
		fd = bpf_obj_get(path);
	if (fd < 0)
		lacking("%s/%s-%s: %s: attach first", dir, kind, name, strerror(-fd));
	return fd;
}

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

/* ---- detach ---- */

static int unpin_all(const char *dir)
{
	struct dirent *entry;
	char path[PATH_MAX];
	DIR *stream = opendir(dir);

	if (!stream)
		return lacking("%s: %s: nothing is attached there", dir, strerror(errno));
	while ((entry = readdir(stream))) {
		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) < PATH_MAX)
			unlink(path);
	}
	closedir(stream);
	if (rmdir(dir))
		return lacking("%s: %s: remove it by hand", dir, strerror(errno));
	return 0;
}

/* ---- attach ---- */

/* What is run by the loader is not attached. */
static bool is_hook(const struct bpf_program *prog)
{
	return bpf_program__type(prog) == BPF_PROG_TYPE_LSM;
}

static int pin_program(struct bpf_program *prog, const char *dir)
{
	char path[PATH_MAX];
	int err = join(path, dir, "prog", bpf_program__name(prog));

	if (!err)
		err = bpf_program__pin(prog, path);
	return err ? lacking("%s could not be pinned: %s", path, strerror(-err)) : 0;
}

/* Have the programs say so when the link that is pinned at @path goes. */
static int watch_pin(struct measurer_bpf *skel, const char *path)
{
	struct testbed_pin pin = {};
	struct stat inode;
	__u8 one = 1;

	if (stat(path, &inode))
		return -errno;
	/* As the kernel puts a device together, with 20 bits of minor. */
	pin.dev = (__u64)major(inode.st_dev) << 20 | minor(inode.st_dev);
	pin.ino = inode.st_ino;
	return bpf_map__update_elem(skel->maps.pins, &pin, sizeof(pin), &one, sizeof(one), BPF_ANY);
}

static int pin_links(struct measurer_bpf *skel, const char *dir)
{
	struct bpf_program *prog;
	char path[PATH_MAX];
	struct bpf_link *link;
	int err;

	bpf_object__for_each_program(prog, skel->obj) {
		const char *name = bpf_program__name(prog);

		if (!is_hook(prog))
			continue;
		link = bpf_program__attach(prog);
		if (!link)
			return lacking("%s did not attach: %s", name, strerror(errno));
		err = join(path, dir, "link", name);
		if (!err)
			err = bpf_link__pin(link, path);
		if (!err)
			err = watch_pin(skel, path);
		/* A pinned link outlives this; one that is not pinned detaches. */
		bpf_link__destroy(link);
		if (err)
			return lacking("%s could not be pinned: %s", path, strerror(-err));
		err = pin_program(prog, dir);
		if (err)
			return err;
	}
	err = pin_program(skel->progs.beat, dir);
	if (!err)
		err = pin_program(skel->progs.collect, dir);
	return err ? err : pin_program(skel->progs.claim, dir);
}

static int pin_counters(struct measurer_bpf *skel, const char *dir)
{
	char path[PATH_MAX];
	int err = join(path, dir, "map", "counters");

	if (!err)
		err = bpf_map__pin(skel->maps.counters, path);
	return err ? lacking("%s could not be pinned: %s", path, strerror(-err)) : 0;
}

/* Give what runs already an identity, until a pass over all tasks finds nobody new. */
static int list_running(struct measurer_bpf *skel)
{
	struct bpf_link *link = bpf_program__attach_iter(skel->progs.list_running, NULL);
	int err = link ? 0 : -errno;

	for (int pass = 0; !err && pass < MAX_PASSES; pass++) {
		int fd = bpf_iter_create(bpf_link__fd(link));
		char nothing[64];
		ssize_t got;

		skel->bss->found = 0;
		if (fd < 0) {
			err = fd;
			break;
		}
		do
			got = read(fd, nothing, sizeof(nothing));
		while (got > 0 || (got < 0 && errno == EAGAIN));
		if (got < 0)
			err = -errno;
		close(fd);
		if (!skel->bss->found)
			break;
	}
	bpf_link__destroy(link);
	if (err)
		return lacking("what runs already could not be listed: %s", strerror(-err));
	skel->bss->listed = 1;
	return 0;
}

/* A verifier is to know when it was there; nobody asks that of mere hooks. */
static bool has_beats(enum testbed_mode mode)
{
	return mode == TESTBED_MODE_FILE || mode == TESTBED_MODE_IMAGE;
}

static int log_beat(int prog, struct testbed_beat_ask ask)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &ask, .ctx_size_in = sizeof(ask));
	int err = prog < 0 ? prog : bpf_prog_test_run_opts(prog, &opts);

	if (err)
		return lacking("the beat could not be asked for: %s", strerror(-err));
	if (opts.retval != TESTBED_COUNT_BEATS)
		return lacking("the beat is not in the log (%d): is there a policy rule measure "
			       "func=CRITICAL_DATA label=" TESTBED_LABEL ", and is it attached?",
			       (int)opts.retval);
	return 0;
}

static int begin_measuring(struct measurer_bpf *skel, __u64 interval)
{
	struct testbed_beat_ask ask = { .event = TESTBED_BEAT_ATTACHED, .interval = interval };
	int err = log_beat(bpf_program__fd(skel->progs.beat), ask);

	return err ? err : list_running(skel);
}

static int attach(enum testbed_mode mode, const char *dir, __u64 interval)
{
	struct measurer_bpf *skel = NULL;
	struct stat host, host_uts;
	int err = check_kernel();

	if (err)
		return err;
	if (stat("/proc/1/ns/mnt", &host))
		return lacking("/proc/1/ns/mnt: %s: mount /proc", strerror(errno));
	if (stat("/proc/1/ns/uts", &host_uts))
		return lacking("/proc/1/ns/uts: %s: mount /proc", strerror(errno));
	err = make_pin_dir(dir);
	if (err)
		return err;

	skel = measurer_bpf__open();
	if (!skel) {
		err = lacking("the BPF object cannot be opened: %s", strerror(errno));
		goto out;
	}
	skel->rodata->mode = mode;
	skel->rodata->host_mntns = host.st_ino;
	skel->rodata->host_utsns = host_uts.st_ino;
	if (measurer_bpf__load(skel)) {
		err = lacking("the kernel refused the programs: %s: "
			      "was the loader built for this kernel and module?",
			      strerror(errno));
		goto out;
	}
	/* The counters come first: what is attached can be read. */
	err = pin_counters(skel, dir);
	if (!err)
		err = pin_links(skel, dir);
	if (!err && has_beats(mode))
		err = begin_measuring(skel, interval);
out:
	measurer_bpf__destroy(skel);
	if (err)
		unpin_all(dir);
	return err;
}

/* ---- counters ---- */

/* Times that the kernel skipped a program because it was running already. */
static int sum_skipped(const char *dir, unsigned long long *skipped)
{
	struct dirent *entry;
	char path[PATH_MAX];
	DIR *stream = opendir(dir);

	*skipped = 0;
	if (!stream)
		return lacking("%s: %s: attach first", dir, strerror(errno));
	while ((entry = readdir(stream))) {
		struct bpf_prog_info info = {};
		__u32 size = sizeof(info);
		int fd, err;

		if (strncmp(entry->d_name, "prog-", strlen("prog-")))
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) >= PATH_MAX)
			continue;
		fd = bpf_obj_get(path);
		err = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &info, &size);
		if (fd >= 0)
			close(fd);
		if (err) {
			closedir(stream);
			return lacking("%s: %s: detach and attach again", path, strerror(errno));
		}
		*skipped += info.recursion_misses;
	}
	closedir(stream);
	return 0;
}

static int read_counters(const char *dir, unsigned long long sums[TESTBED_COUNTER_MAX])
{
	int cpus = libbpf_num_possible_cpus(), fd = -1, err = EXIT_LACKING;
	__u64 *values = calloc(cpus > 0 ? cpus : 1, sizeof(*values));

	if (cpus <= 0 || !values) {
		lacking("out of memory, or the number of CPUs is unknown");
		goto out;
	}
	fd = open_pin(dir, "map", "counters");
	if (fd < 0)
		goto out;
	for (__u32 id = 0; id < TESTBED_COUNTER_MAX; id++) {
		if (bpf_map_lookup_elem(fd, &id, values)) {
			lacking("%s: the counters cannot be read: %s", dir, strerror(errno));
			goto out;
		}
		sums[id] = 0;
		for (int cpu = 0; cpu < cpus; cpu++)
			sums[id] += values[cpu];
	}
	err = 0;
out:
	if (fd >= 0)
		close(fd);
	free(values);
	return err;
}

/* Have what the module counted added to the map. */
static int collect_counters(const char *dir)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int prog = open_pin(dir, "prog", "collect");
	int err;

	if (prog < 0)
		return EXIT_LACKING;
	err = bpf_prog_test_run_opts(prog, &opts);
	close(prog);
	return err ? lacking("%s: no counters: %s", dir, strerror(-err)) : 0;
}

static int print_counters(const char *dir)
{
	unsigned long long sums[TESTBED_COUNTER_MAX], skipped;
	int err = collect_counters(dir);

	if (!err)
		err = read_counters(dir, sums);
	if (!err)
		err = sum_skipped(dir, &skipped);
	if (err)
		return err;
	printf("{");
	for (int id = 0; id < TESTBED_COUNTER_MAX; id++)
		printf("\"%s\": %llu, ", counter_names[id], sums[id]);
	printf("\"unmeasured_skipped\": %llu}\n", skipped);
	return 0;
}

/* ---- beat ---- */

static int ask_beat(const char *dir)
{
	struct testbed_beat_ask ask = { .event = TESTBED_BEAT_ASKED };
	unsigned long long skipped;
	int err, fd;

	err = sum_skipped(dir, &skipped);
	if (err)
		return err;
	ask.skipped = skipped;
	fd = open_pin(dir, "prog", "beat");
	if (fd < 0)
		return EXIT_LACKING;
	err = log_beat(fd, ask);
	close(fd);
	return err;
}

/* ---- command line ---- */

static int parse_mode(const char *word, enum testbed_mode *mode)
{
	if (!strcmp(word, "hooks"))
		*mode = TESTBED_MODE_HOOKS;
	else if (!strcmp(word, "file"))
		*mode = TESTBED_MODE_FILE;
	else if (!strcmp(word, "image"))
		*mode = TESTBED_MODE_IMAGE;
	else if (!strcmp(word, "prototype-file"))
		*mode = TESTBED_MODE_PROTOTYPE_FILE;
	else if (!strcmp(word, "prototype-image"))
		*mode = TESTBED_MODE_PROTOTYPE_IMAGE;
	else
		return -EINVAL;
	return 0;
}

static int parse_seconds(const char *word, __u64 *interval)
{
	char *end;
	unsigned long seconds = strtoul(word, &end, 10);

	if (end == word || *end || seconds > 24 * 3600)
		return -EINVAL;
	*interval = seconds * NANOSECONDS;
	return 0;
}

int main(int argc, char **argv)
{
	enum testbed_mode mode = TESTBED_MODE_HOOKS;
	bool have_mode = false;
	const char *dir = NULL;
	__u64 interval = 0;

	if (argc < 2)
		return usage();
	for (int i = 2; i < argc; i += 2) {
		if (i + 1 == argc)
			return usage();
		if (!strcmp(argv[i], "--pin"))
			dir = argv[i + 1];
		else if (!strcmp(argv[i], "--mode") && !parse_mode(argv[i + 1], &mode))
			have_mode = true;
		else if (strcmp(argv[i], "--beat") || parse_seconds(argv[i + 1], &interval))
			return usage();
	}
	libbpf_set_print(print_warnings);
	if (!dir)
		return usage();
	if (!strcmp(argv[1], "attach") && have_mode)
		return attach(mode, dir, interval);
	if (!strcmp(argv[1], "counters") && !have_mode)
		return print_counters(dir);
	if (!strcmp(argv[1], "beat") && !have_mode)
		return ask_beat(dir);
	if (!strcmp(argv[1], "claim") && !have_mode)
		return claim_config(dir);
	if (!strcmp(argv[1], "detach") && !have_mode)
		return unpin_all(dir);
	return usage();
}
