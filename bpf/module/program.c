// SPDX-License-Identifier: GPL-2.0
/*
 * What a container puts into the kernel other than by a file: BPF programs, and what
 * it does with those and with maps of others; and the measurer's own parts.
 */
#include <crypto/hash.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "module.h"

/* No program has more instructions (BPF_COMPLEXITY_LIMIT_INSNS), of eight bytes each. */
#define MAX_INSTRUCTIONS 1000000u

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

static int program_log(const struct testbed_ident *ident, struct testbed_program_entry *entry)
{
	enum testbed_counter outcome;

	testbed_fill_header(&entry->header, TESTBED_KIND_PROGRAM, sizeof(*entry), 0, ident);
	outcome = testbed_log_charged(ident, TESTBED_BUDGET_ENTRIES, "ctr-program", entry,
				      sizeof(*entry), TESTBED_COUNT_PROGRAMS);
	testbed_count_for(ident, outcome, 1);
	return outcome;
}

__bpf_kfunc_start_defs();

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

	if (command == BPF_PROG_LOAD) {
		entry.what = TESTBED_PROGRAM_BPF;
		entry.hash_alg = TESTBED_TPM_ALG_SHA256;
		entry.size = (u64)min(count, MAX_INSTRUCTIONS) * sizeof(struct bpf_insn);
		if (program_hash(instructions, entry.size, entry.digest)) {
			testbed_count_for(ident, TESTBED_COUNT_LOAD_DATA, 1);
			return TESTBED_COUNT_LOAD_DATA;
		}
	}
	return program_log(ident, &entry);
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
	/* The loader is who it is, whatever it hands in. */
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
