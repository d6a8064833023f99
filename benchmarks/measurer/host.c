/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counts what single events cost that no container takes part in, in guest
 * instructions: what attached hooks cost a host that goes about its business.
 *
 *   host run DIR             each event many times, in and on a new directory
 *   host again DIR EVENT N   one event N times; prints nothing
 *
 * Each line printed is "EVENT SIZE VALUE", at the end and not in between. The
 * time stamp counter counts instructions of the whole machine under icount; none
 * of these events waits for anything but its own child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define REPEATS 1001
/* Uncounted, so that the kernel has the memory that it needs. */
#define FIRST 50
#define PROGRAM "/opt/testbed/bench/true"

static void fail(const char *what)
{
	fprintf(stderr, "host: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void close_new(int fd)
{
	if (fd < 0 || close(fd))
		fail("open");
}

static void open_read(void)
{
	close_new(open("file", O_RDONLY));
}

static void open_write(void)
{
	close_new(open("file", O_WRONLY));
}

static void create_unlink(void)
{
	close_new(open("created", O_WRONLY | O_CREAT | O_EXCL, 0600));
	if (unlink("created"))
		fail("unlink");
}

static void mkdir_rmdir(void)
{
	if (mkdir("made", 0700) || rmdir("made"))
		fail("mkdir");
}

static void rename_there(void)
{
	static int there;

	if (there ? rename("other", "moved") : rename("moved", "other"))
		fail("rename");
	there = !there;
}

static void chmod_again(void)
{
	static int odd;

	odd = !odd;
	if (chmod("file", odd ? 0640 : 0600))
		fail("chmod");
}

static void wait_for(pid_t child)
{
	int status;

	if (child < 0 || waitpid(child, &status, 0) != child || status)
		fail("fork");
}

static void fork_exit(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	wait_for(child);
}

static void fork_execve(void)
{
	pid_t child = fork();

	if (!child) {
		char *const argv[] = { PROGRAM, NULL };

		execve(PROGRAM, argv, NULL);
		_exit(127);
	}
	wait_for(child);
}

static const struct {
	const char *name;
	void (*once)(void);
} events[] = {
	{ "host-open-read", open_read },
	{ "host-open-write", open_write },
	{ "host-create-unlink", create_unlink },
	{ "host-mkdir-rmdir", mkdir_rmdir },
	{ "host-rename", rename_there },
	{ "host-chmod", chmod_again },
	{ "host-fork", fork_exit },
	{ "host-execve", fork_execve },
};

#define EVENTS (sizeof(events) / sizeof(events[0]))

static uint64_t values[EVENTS][REPEATS];

static void enter(const char *dir)
{
	if (mkdir(dir, 0700) && errno != EEXIST)
		fail(dir);
	if (chdir(dir))
		fail(dir);
	close_new(open("file", O_WRONLY | O_CREAT, 0600));
	if (access("other", F_OK) || rename("other", "moved"))
		close_new(open("moved", O_WRONLY | O_CREAT, 0600));
}

static void run(void)
{
	for (unsigned e = 0; e < EVENTS; e++) {
		for (int i = 0; i < FIRST; i++)
			events[e].once();
		for (int i = 0; i < REPEATS; i++) {
			uint64_t begun = __rdtsc();

			events[e].once();
			values[e][i] = __rdtsc() - begun;
		}
	}
	for (unsigned e = 0; e < EVENTS; e++)
		for (int i = 0; i < REPEATS; i++)
			printf("%s 0 %llu\n", events[e].name, (unsigned long long)values[e][i]);
}

static void again(const char *event, int times)
{
	for (unsigned e = 0; e < EVENTS; e++)
		if (!strcmp(event, events[e].name)) {
			for (int i = 0; i < times; i++)
				events[e].once();
			return;
		}
	errno = EINVAL;
	fail(event);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "run")) {
		enter(argv[2]);
		run();
	} else if (argc == 5 && !strcmp(argv[1], "again")) {
		enter(argv[2]);
		again(argv[3], atoi(argv[4]));
	} else {
		fputs("usage: see the head of host.c\n", stderr);
		return 2;
	}
	return 0;
}
