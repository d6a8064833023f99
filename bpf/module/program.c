// SPDX-License-Identifier: GPL-2.0
/*
 * What a container puts into the kernel other than by a file: BPF programs, and what
 * it does with those and with maps of others; and the measurer's own parts.
 */
#include <asm/syscall.h>
#include <crypto/hash.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "module.h"

/* No program has more instructions (BPF_COMPLEXITY_LIMIT_INSNS), of eight bytes each. */
#define MAX_INSTRUCTIONS 1000000u

/*
 * The hook that has the bytes of a module from memory must not sleep, so a module is
 * hashed in one go. A larger one is a loss.
 */
#define MAX_MODULE (64u << 20)

/* An entry that is written when the current task returns to user mode. */
struct program_work {
	struct callback_head work;
	struct testbed_ident ident;
	struct testbed_program_entry entry;
	bool doubt; /* the kernel may refuse it: then there is nothing to log */
	bool lost;  /* what it was could not be read */
};

/* Hash @size bytes of the current task's memory. May sleep. */
static int program_hash(u64 at, u64 size, u8 digest[TESTBED_SHA256_SIZE])
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	u8 *page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	int err;

	if (!page)
		return -ENOMEM;
	desc->tfm = testbed_sha256();
	err = crypto_shash_init(desc);
	for (u64 done = 0; done < size && !err;) {
		size_t part = min_t(u64, size - done, PAGE_SIZE);

		err = copy_from_user(page, u64_to_user_ptr(at + done), part) ? -EFAULT : 0;
		if (!err)
			err = crypto_shash_update(desc, page, part);
		done += part;
		cond_resched();
	}
	if (!err)
		err = crypto_shash_final(desc, digest);
	kfree(page);
	return err;
}

/* Log @entry. @lost: what it was could not be read, so there is none. May sleep. */
static int program_log(const struct testbed_ident *ident, struct testbed_program_entry *entry,
		       bool lost)
{
	enum testbed_counter outcome = TESTBED_COUNT_LOAD_DATA;

	if (!lost) {
		testbed_fill_header(&entry->header, TESTBED_KIND_PROGRAM, sizeof(*entry), 0, ident);
		outcome = testbed_log_charged(ident, TESTBED_BUDGET_ENTRIES, "ctr-program", entry,
					      sizeof(*entry), TESTBED_COUNT_PROGRAMS);
	}
	testbed_count_for(ident, outcome, 1);
	return outcome;
}

static void program_run(struct callback_head *work)
{
	struct program_work *it = container_of(work, struct program_work, work);

	if (it->doubt && syscall_get_error(current, current_pt_regs()))
		testbed_tally(TESTBED_COUNT_REFUSED, 1);
	else
		program_log(&it->ident, &it->entry, it->lost);
	kfree(it);
}

static int program_log_later(struct program_work *it)
{
	init_task_work(&it->work, program_run);
	return task_work_add(current, &it->work, TWA_RESUME);
}

/*
 * Is the call logged before it is known whether it succeeds? Who may do it can change
 * what is measured next. A tracer can change what a call returns, if it traced the task
 * when that entered the call.
 */
static bool program_is_logged_first(void)
{
	return current->ptrace || ns_capable_noaudit(&init_user_ns, CAP_BPF) ||
	       ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}

/* Log it if the call succeeds: any process may ask for what it may not do. */
static int program_log_if_done(const struct testbed_ident *ident,
			       const struct testbed_program_entry *entry, bool lost)
{
	struct program_work *it = kzalloc(sizeof(*it), GFP_KERNEL_ACCOUNT);

	if (it) {
		it->ident = *ident;
		it->entry = *entry;
		it->doubt = true;
		it->lost = lost;
		if (!program_log_later(it))
			return 0;
		kfree(it);
	}
	testbed_count_for(ident, TESTBED_COUNT_NO_MEMORY, 1);
	return TESTBED_COUNT_NO_MEMORY;
}

/* Hash a module and have its entry written later. Does not sleep. */
static int program_note_module(const struct testbed_ident *ident, const u8 *data, u32 size)
{
	SHASH_DESC_ON_STACK(desc, testbed_sha256());
	struct program_work *it = kzalloc(sizeof(*it), GFP_NOWAIT | __GFP_NOWARN);
	int err;

	if (!it)
		return -ENOMEM;
	it->ident = *ident;
	it->entry.what = TESTBED_PROGRAM_MODULE;
	it->entry.hash_alg = TESTBED_TPM_ALG_SHA256;
	it->entry.size = size;
	desc->tfm = testbed_sha256();
	err = crypto_shash_digest(desc, data, size, it->entry.digest);
	if (!err)
		err = program_log_later(it);
	if (err)
		kfree(it);
	return err;
}

__bpf_kfunc_start_defs();

/*
 * The kernel has taken a module of @size bytes at @data, in its own memory, from the
 * memory of the current task, of @ident. Return the counter of the outcome if it is
 * lost. Does not sleep.
 */
__bpf_kfunc int testbed_measure_module(const struct testbed_ident *ident, u64 data, u64 size)
{
	if (size <= MAX_MODULE &&
	    !program_note_module(ident, (const u8 *)(unsigned long)data, size))
		return 0;
	testbed_count_for(ident, TESTBED_COUNT_LOAD_DATA, 1);
	return TESTBED_COUNT_LOAD_DATA;
}

/*
 * The current task, of @ident, calls bpf() with @command. @instructions: where in its
 * memory those of a program are that it loads, @count of them, else 0. It can change
 * them before the kernel reads them again: the entry says what it showed here.
 */
__bpf_kfunc int testbed_measure_program(const struct testbed_ident *ident, u32 command,
					u64 instructions, u32 count)
{
	struct testbed_program_entry entry = {
		.what = TESTBED_PROGRAM_COMMAND,
		.command = command,
	};
	bool lost = false;

	if (command == BPF_PROG_LOAD) {
		entry.what = TESTBED_PROGRAM_BPF;
		entry.hash_alg = TESTBED_TPM_ALG_SHA256;
		entry.size = (u64)min(count, MAX_INSTRUCTIONS) * sizeof(struct bpf_insn);
		/* Another thread can still put them where none are. */
		lost = program_hash(instructions, entry.size, entry.digest);
	}
	if (program_is_logged_first())
		return program_log(ident, &entry, lost);
	return program_log_if_done(ident, &entry, lost);
}

/*
 * Log a part of the measurer: the file that the loader has open. Attached again, the
 * same part is the same entry, which IMA drops. Return the counter of the outcome.
 */
__bpf_kfunc int testbed_measure_part(const struct testbed_part_file *part)
{
	static const struct testbed_ident nobody;
	struct testbed_measurer_entry entry = {
		.part = part->part,
		.hash_alg = TESTBED_TPM_ALG_SHA256,
	};
	struct file *file;
	int err;

	if (part->part < TESTBED_PART_MODULE || part->part > TESTBED_PART_LOADER)
		return -EINVAL;
	/* The loader is the program that runs now, not a file that it names. */
	file = part->part == TESTBED_PART_LOADER ? testbed_exe_file(current->mm) : fget(part->fd);
	if (!file)
		return -EBADF;
	err = S_ISREG(file_inode(file)->i_mode) ?
		testbed_hash_file(file, entry.digest, &entry.size) : -EINVAL;
	fput(file);
	if (err)
		return err;
	testbed_fill_header(&entry.header, TESTBED_KIND_MEASURER, sizeof(entry), 0, &nobody);
	err = testbed_log_entry("ctr-measurer", &entry, sizeof(entry), TESTBED_COUNT_PARTS);
	testbed_tally(err, 1);
	return err;
}

__bpf_kfunc_end_defs();
