// SPDX-License-Identifier: GPL-2.0
/*
 * Loads the program, and prints what it logged.
 *
 *   execlog attach   load it; it stays when this process ends
 *   execlog log      print a line for each entry: SHA-256, container, path
 *   execlog count    print the counters as JSON
 *   execlog detach
 *
 * The skeleton is a light one: it needs neither libbpf nor libelf.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "execlog.h"
#include "execlog.lskel.h"

#define PINS "/sys/fs/bpf/execlog/"

static int fail(const char *what)
{
	fprintf(stderr, "execlog: %s: %s\n", what, strerror(errno));
	return 1;
}

static int pin(int fd, const char *path)
{
	union bpf_attr attr = { .pathname = (unsigned long)path, .bpf_fd = fd };

	return skel_sys_bpf(BPF_OBJ_PIN, &attr, sizeof(attr));
}

static int pinned(const char *path)
{
	union bpf_attr attr = { .pathname = (unsigned long)path };

	return skel_sys_bpf(BPF_OBJ_GET, &attr, sizeof(attr));
}

static int attach(void)
{
	struct execlog_bpf *skel = execlog_bpf__open_and_load();

	if (!skel)
		return fail("the kernel refused the program");
	if (execlog_bpf__attach(skel))
		return fail("it could not be attached");
	mkdir(PINS, 0700);
	if (pin(skel->links.execlog_fd, PINS "link") || pin(skel->maps.entries.map_fd, PINS "entries") ||
	    pin(skel->maps.lost.map_fd, PINS "lost"))
		return fail("it could not be pinned below " PINS);
	return 0;
}

static void print_path(const char *path)
{
	for (; *path; path++)
		if (*path > ' ' && *path < 0x7f && *path != '\\')
			putchar(*path);
		else
			printf("\\%03o", (unsigned char)*path);
	putchar('\n');
}

static int each(int print)
{
	struct execlog_entry entry, *before = NULL;
	int map = pinned(PINS "entries"), count = 0;

	if (map < 0)
		return -1;
	for (;; before = &entry, count++) {
		union bpf_attr attr = {
			.map_fd = map,
			.key = (unsigned long)before,
			.next_key = (unsigned long)&entry,
		};

		if (skel_sys_bpf(BPF_MAP_GET_NEXT_KEY, &attr, sizeof(attr)))
			return count;
		if (!print)
			continue;
		for (int i = 0; i < EXECLOG_DIGEST; i++)
			printf("%02x", entry.digest[i]);
		printf(" %s ", entry.container);
		print_path(entry.path);
	}
}

static int count(void)
{
	int map = pinned(PINS "lost"), files = each(0);
	unsigned long long lost = 0;
	unsigned int zero = 0;
	union bpf_attr attr = {
		.map_fd = map,
		.key = (unsigned long)&zero,
		.value = (unsigned long)&lost,
	};

	if (map < 0 || files < 0 || skel_sys_bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)))
		return fail("there is nothing at " PINS);
	printf("{\"files\": %d, \"unmeasured_exec\": %llu}\n", files, lost);
	return 0;
}

static int detach(void)
{
	unlink(PINS "link");
	unlink(PINS "entries");
	unlink(PINS "lost");
	return rmdir(PINS) ? fail(PINS) : 0;
}

int main(int argc, char **argv)
{
	const char *what = argc == 2 ? argv[1] : "";

	if (!strcmp(what, "attach"))
		return attach();
	if (!strcmp(what, "log"))
		return each(1) < 0 ? fail("there is nothing at " PINS) : 0;
	if (!strcmp(what, "count"))
		return count();
	if (!strcmp(what, "detach"))
		return detach();
	fprintf(stderr, "usage: execlog attach|log|count|detach\n");
	return 2;
}
