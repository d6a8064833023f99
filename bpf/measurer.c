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
#include <unistd.h>

#include "loader.h"
#include "measurer.h"

#define NANOSECONDS 1000000000ull

static const char *const counter_names[] = {
#define COUNTER_NAME(id, name, fate) [TESTBED_COUNT_##id] = name,
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
	      "                MODE: hooks, file, image, drift, prototype-file, prototype-image\n"
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

int pin_path(char path[PATH_MAX], const char *dir, const char *kind, const char *name)
{
	int len = snprintf(path, PATH_MAX, "%s/%s-%s", dir, kind, name);

	return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int open_pin(const char *dir, const char *kind, const char *name)
{
	char path[PATH_MAX];
	int fd = pin_path(path, dir, kind, name);

	if (!fd)
		fd = bpf_obj_get(path);
	if (fd < 0)
		lacking("%s/%s-%s: %s: attach first", dir, kind, name, strerror(-fd));
	return fd;
}

/* ---- detach ---- */

int unpin_all(const char *dir)
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

/* ---- counters ---- */

/* Whether a program only counts the tasks of containers. */
static bool counts_tasks(const char *name)
{
	return !strcmp(name, "count_fork") || !strcmp(name, "count_exit");
}

int sum_skipped(const char *dir, struct skips *skips)
{
	struct dirent *entry;
	char path[PATH_MAX];
	DIR *stream = opendir(dir);

	*skips = (struct skips){};
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
		if (counts_tasks(info.name))
			skips->uncounted += info.recursion_misses;
		else
			skips->measuring += info.recursion_misses;
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
	int prog = open_pin(dir, "prog", "collect"), err;

	if (prog < 0)
		return EXIT_LACKING;
	err = run_program(prog, NULL, 0);
	close(prog);
	return err ? lacking("%s: no counters: %s", dir, strerror(-err)) : 0;
}

static int print_counters(const char *dir)
{
	unsigned long long sums[TESTBED_COUNTER_MAX];
	struct skips skips;
	int err = collect_counters(dir);

	if (!err)
		err = read_counters(dir, sums);
	if (!err)
		err = sum_skipped(dir, &skips);
	if (err)
		return err;
	printf("{");
	for (int id = 0; id < TESTBED_COUNTER_MAX; id++)
		printf("\"%s\": %llu, ", counter_names[id], sums[id]);
	printf("\"uncounted_tasks\": %llu, \"unmeasured_skipped\": %llu}\n", skips.uncounted,
	       skips.measuring);
	return 0;
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
	else if (!strcmp(word, "drift"))
		*mode = TESTBED_MODE_DRIFT;
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

	/* What a child executes for a beat. */
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
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
