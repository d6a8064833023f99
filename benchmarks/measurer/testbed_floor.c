// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel's own parts of a measurement cost, and nothing else. A process
 * writes a number to a parameter and takes the time of its write:
 *
 *   fd         SHA-256 over the cached pages of the file behind this descriptor,
 *              fed page by page, by the measurer's algorithm
 *   log_add    so many new entries of the IMA log, each of another buffer
 *   log_again  the buffer of this number again, which has its entry already
 *
 * For benchmarks only: the measurer does not use this module.
 */
#include <crypto/hash.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/ima.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

static struct crypto_shash *tfm;

static int hash_page(struct shash_desc *desc, struct file *file, pgoff_t index, size_t bytes)
{
	struct page *page = read_mapping_page(file->f_mapping, index, file);
	void *data;
	int err;

	if (IS_ERR(page))
		return PTR_ERR(page);
	data = kmap_local_page(page);
	err = crypto_shash_update(desc, data, bytes);
	kunmap_local(data);
	put_page(page);
	return err;
}

static int hash_pages(struct file *file)
{
	loff_t left = i_size_read(file_inode(file));
	SHASH_DESC_ON_STACK(desc, tfm);
	u8 digest[32];
	int err;

	desc->tfm = tfm;
	err = crypto_shash_init(desc);
	for (pgoff_t index = 0; !err && left > 0; index++, left -= PAGE_SIZE) {
		err = hash_page(desc, file, index, min_t(loff_t, left, PAGE_SIZE));
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	return err ?: crypto_shash_final(desc, digest);
}

static int set_fd(const char *text, const struct kernel_param *param)
{
	struct file *file;
	unsigned int fd;
	int err = kstrtouint(text, 0, &fd);

	if (err)
		return err;
	if (!tfm)
		return -ENODEV;
	file = fget(fd);
	if (!file)
		return -EBADF;
	err = S_ISREG(file_inode(file)->i_mode) ? hash_pages(file) : -EINVAL;
	fput(file);
	return err;
}

/* As long as the entry of a file whose path has 32 bytes. */
#define LOG_BYTES 128

static u64 log_next;

static int log_one(u64 number)
{
	u64 buf[LOG_BYTES / sizeof(u64)] = { number };

	return ima_measure_critical_data("testbed", "bench-log", buf, sizeof(buf), false, NULL, 0);
}

static int log_add(const char *text, const struct kernel_param *param)
{
	u64 count;
	int err = kstrtou64(text, 0, &count);

	for (; !err && count; count--) {
		err = log_one(log_next);
		log_next += !err;
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	return err;
}

static int log_again(const char *text, const struct kernel_param *param)
{
	u64 number;
	int err = kstrtou64(text, 0, &number);

	if (err || number >= log_next)
		return err ?: -ERANGE;
	err = log_one(number);
	/* Anything else would be another event than the one that is timed. */
	return err == -EEXIST ? 0 : err ?: -EBADMSG;
}

static const struct kernel_param_ops log_add_ops = { .set = log_add };
module_param_cb(log_add, &log_add_ops, NULL, 0200);
MODULE_PARM_DESC(log_add, "make so many new entries");

static const struct kernel_param_ops log_again_ops = { .set = log_again };
module_param_cb(log_again, &log_again_ops, NULL, 0200);
MODULE_PARM_DESC(log_again, "measure the buffer of this number again");

static const struct kernel_param_ops fd_ops = { .set = set_fd };
module_param_cb(fd, &fd_ops, NULL, 0200);
MODULE_PARM_DESC(fd, "hash the file behind this descriptor of the writer");

static int __init floor_init(void)
{
	/* As the measurer does it: the same implementation. */
	request_module("crypto-sha256-ssse3");
	tfm = crypto_alloc_shash("sha256", 0, 0);
	if (IS_ERR(tfm))
		return PTR_ERR(tfm);
	pr_info("testbed_floor: hashing with %s\n", crypto_shash_driver_name(tfm));
	return 0;
}

static void __exit floor_exit(void)
{
	crypto_free_shash(tfm);
}

module_init(floor_init);
module_exit(floor_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("The kernel's own parts of a measurement, to be timed");
