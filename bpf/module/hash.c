// SPDX-License-Identifier: GPL-2.0
/* SHA-256 of files, through the page cache. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <crypto/hash.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat.h"
#include "module.h"

/*
 * Of a file, read and hashed at a time. Between chunks others may run; with 64 KiB they waited for two million
 * instructions where SHA-256 is emulated, and the scheduler, which does not read the clock again when it was asked to
 * switch (rq_clock_skip_update), charged our work to the task that came next: up to 3 % of our price.
 */
#define CHUNK_SIZE PAGE_SIZE

static char *sha256_name = "sha256";
module_param_named(sha256, sha256_name, charp, 0444);
MODULE_PARM_DESC(sha256, "crypto API name of the SHA-256 to use (default: the fastest)");

static struct crypto_shash *sha256_tfm;

struct crypto_shash *testbed_sha256(void)
{
	return sha256_tfm;
}

int testbed_init_hash(void)
{
	/*
	 * The generic SHA-256 is built in, so asking for "sha256" would not load
	 * the accelerated one. Where there is none, the best available is used.
	 */
	request_module("crypto-sha256-ssse3");
	sha256_tfm = crypto_alloc_shash(sha256_name, 0, 0);
	if (IS_ERR(sha256_tfm)) {
		pr_err("no such hash: %s\n", sha256_name);
		return PTR_ERR(sha256_tfm);
	}
	if (crypto_shash_digestsize(sha256_tfm) != TESTBED_SHA256_SIZE) {
		crypto_free_shash(sha256_tfm);
		return -EINVAL;
	}
	pr_info("hashing with %s\n", crypto_shash_driver_name(sha256_tfm));
	return 0;
}

void testbed_exit_hash(void)
{
	crypto_free_shash(sha256_tfm);
}

/* The file, opened again if this descriptor cannot be read through the page cache. */
static struct file *hash_readable(struct file *file)
{
	const fmode_t can = FMODE_READ | FMODE_CAN_READ;

	/* SysV shared memory is mapped through a descriptor that knows no reading. */
	if ((file->f_mode & can) == can && !(file->f_flags & O_DIRECT))
		return get_file(file);
	return dentry_open(&file->f_path, O_RDONLY | O_LARGEFILE, file->f_cred);
}

static int hash_chunks(struct file *file, struct shash_desc *desc, u8 *chunk, u64 *bytes)
{
	loff_t pos = 0;

	for (;;) {
		ssize_t got = kernel_read(file, chunk, CHUNK_SIZE, &pos);
		int err;

		if (got <= 0)
			return got;
		err = crypto_shash_update(desc, chunk, got);
		if (err)
			return err;
		*bytes += got;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
}

int testbed_hash_file(struct file *file, u8 digest[TESTBED_SHA256_SIZE], u64 *bytes)
{
	SHASH_DESC_ON_STACK(desc, sha256_tfm);
	u8 *chunk;
	int err;

	might_sleep();
	chunk = kmalloc(CHUNK_SIZE, GFP_KERNEL);
	if (!chunk)
		return -ENOMEM;
	file = hash_readable(file);
	if (IS_ERR(file)) {
		kfree(chunk);
		return PTR_ERR(file);
	}
	desc->tfm = sha256_tfm;
	err = crypto_shash_init(desc);
	if (!err)
		err = hash_chunks(file, desc, chunk, bytes);
	if (!err)
		err = crypto_shash_final(desc, digest);
	shash_desc_zero(desc);
	fput(file);
	kfree(chunk);
	return err;
}
