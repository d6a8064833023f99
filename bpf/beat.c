// SPDX-License-Identifier: GPL-2.0
/*
 * Ask for a beat. Before it, this process does once all that the hooks watch, so that
 * the beat can say which of them have seen it.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loader.h"
#include "measurer.h"

/* A mode of the loader that does nothing: what a child of it executes. */
#define NOTHING "nothing"
#define FORK_TRIES 50
#define FORK_PAUSE 100000000l /* nanoseconds */

int run_program(int prog, void *argument, __u32 size)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = argument, .ctx_size_in = size);
	int err = prog < 0 ? prog : bpf_prog_test_run_opts(prog, &opts);

	return err ? err : (int)opts.retval;
}

int log_beat(int prog, struct testbed_beat_ask ask)
{
	int outcome = run_program(prog, &ask, sizeof(ask));

	if (outcome == TESTBED_COUNT_BEATS)
		return 0;
	return lacking("the beat is not in the log (%d): is there a policy rule measure "
		       "func=CRITICAL_DATA label=" TESTBED_LABEL ", and is it attached?", outcome);
}

/* ---- what the hooks watch ---- */

/* Fork, perhaps again: a container may have taken all processes that there can be. */
static pid_t fork_patiently(void)
{
	const struct timespec pause = { .tv_nsec = FORK_PAUSE };
	pid_t child = fork();

	for (int at = 1; child < 0 && at < FORK_TRIES; at++) {
		nanosleep(&pause, NULL);
		child = fork();
	}
	return child;
}

static int execute_nothing(void)
{
	char *const words[] = { "measurer", NOTHING, NULL }, *const none[] = { NULL };
	pid_t child = fork_patiently();
	int status;

	if (!child) {
		execve("/proc/self/exe", words, none);
		_exit(1);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -errno;
	/* Who does nothing ends with 0: else it was not executed. */
	return status ? -ECHILD : 0;
}

static void map_nothing(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	size_t size = sysconf(_SC_PAGESIZE);
	void *at = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	if (at != MAP_FAILED)
		munmap(at, size);
	if (fd >= 0)
		close(fd);
	at = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at != MAP_FAILED) {
		mprotect(at, size, PROT_READ | PROT_EXEC);
		munmap(at, size);
	}
}

static void write_nothing(void)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	fd = memfd_create("nothing", MFD_CLOEXEC);
	if (fd >= 0) {
		ftruncate(fd, 1);
		close(fd);
	}
	/* The hook sees it. It has fewer bytes than its size says, so it is refused in silence. */
	fd = open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (syscall(SYS_finit_module, fd, "", 0) && errno == EPERM)
			syscall(SYS_kexec_file_load, fd, -1, 1ul, "", KEXEC_FILE_NO_INITRAMFS);
		close(fd);
	}
	/* At no address: the hook is asked first. */
	syscall(SYS_init_module, NULL, (unsigned long)sysconf(_SC_PAGESIZE), "");
}

static int do_all_that_is_watched(void)
{
	int err = execute_nothing();

	map_nothing();
	write_nothing();
	return err ? lacking("no beat is asked for, as no process can be started to prove the hooks: "
			     "%s; try again", strerror(-err)) : 0;
}

/* One at a time: two would take each other's proofs. Closed, it is given back. */
static int take_turn(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && !flock(fd, LOCK_EX))
		return fd;
	lacking("%s cannot be locked: %s", dir, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* ---- the beat ---- */

/* Containers that have changed their mounts since are listed. */
static int list_mounts(const char *dir)
{
	int link = open_pin(dir, "iter", "list_mounts");
	int err = link < 0 ? link : run_pass(link);

	if (link >= 0)
		close(link);
	return err ? lacking("the mounts of containers could not be listed: %s", strerror(-err)) : 0;
}

static int ask_one_beat(const char *dir)
{
	struct testbed_beat_ask ask = {};
	struct skips skips;
	int err = sum_skipped(dir, &skips), prog;

	if (!err)
		err = list_mounts(dir);
	if (err)
		return err;
	prog = open_pin(dir, "prog", "beat");
	if (prog < 0)
		return EXIT_LACKING;
	/* With event 0 it begins to watch this process. */
	run_program(prog, &ask, sizeof(ask));
	err = do_all_that_is_watched();
	ask.event = TESTBED_BEAT_ASKED;
	ask.skipped = skips.measuring;
	if (!err)
		err = log_beat(prog, ask);
	close(prog);
	return err;
}

int ask_beat(const char *dir)
{
	int turn = take_turn(dir), err;

	if (turn < 0)
		return EXIT_LACKING;
	err = ask_one_beat(dir);
	close(turn);
	return err;
}
