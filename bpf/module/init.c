// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel module of the measurer: the functions that its BPF programs call. What
 * is measured, and for whom, is decided by the programs; the module decides how.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/module.h>

#include "compat.h"
#include "layers.h"
#include "module.h"

static struct testbed_layout layout;

const struct testbed_layout *testbed_layout(void)
{
	return &layout;
}

__bpf_kfunc_start_defs();

/* Called by the loader before it attaches the programs. */
__bpf_kfunc int testbed_set_layout(const struct testbed_layout *told)
{
	layout = *told;
	return 0;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(testbed_kfuncs)
BTF_ID_FLAGS(func, testbed_new_seq, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_settle_program, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_exec, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_file, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_mprotect, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_measure_exe, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_start, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_join, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_launch, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_commit_launch, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_measure_mounts, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_program, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_module, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_watch_writer, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_watch_size, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_watch_inode, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_watch_overlay, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_watch_super, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_watch_name, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_watch_node, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_watch_alias, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_is_code_of_image, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_end_container)
BTF_ID_FLAGS(func, testbed_count_lost)
BTF_ID_FLAGS(func, testbed_count_of, TESTBED_KF_ATOMIC)
BTF_ID_FLAGS(func, testbed_beat, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_prototype_file, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_prototype_image, TESTBED_KF_MEASURE)
BTF_KFUNCS_END(testbed_kfuncs)

static const struct btf_kfunc_id_set testbed_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &testbed_kfuncs,
};

/* What the loader may run: nothing that measures code. */
BTF_KFUNCS_START(testbed_loader_kfuncs)
BTF_ID_FLAGS(func, testbed_set_layout, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_measure_part, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_claim, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_beat, TESTBED_KF_MEASURE)
BTF_ID_FLAGS(func, testbed_take_tally)
BTF_KFUNCS_END(testbed_loader_kfuncs)

static const struct btf_kfunc_id_set testbed_loader_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &testbed_loader_kfuncs,
};

static int __init testbed_init(void)
{
	int err;

	/* The BPF programs look into its inodes: its BTF must be there by then. */
	request_module("fs-overlay");
	err = testbed_init_hash();
	if (err)
		return err;
	err = testbed_init_memory();
	if (err)
		goto err_hash;
	err = testbed_init_mounts();
	if (err)
		goto err_memory;
	/* Programs for LSM hooks and for trace points find their functions in one set. */
	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_LSM, &testbed_kfunc_set);
	if (!err)
		err = register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &testbed_loader_kfunc_set);
	if (err)
		goto err_mounts;
	return 0;

err_mounts:
	testbed_exit_mounts();
err_memory:
	testbed_exit_memory();
err_hash:
	testbed_exit_hash();
	return err;
}

/* The programs hold a reference, so none of them runs any more. */
static void __exit testbed_exit(void)
{
	testbed_stop_beats();
	testbed_forget_all_code();
	testbed_exit_overlays();
	testbed_forget_containers();
	testbed_exit_mounts();
	testbed_exit_memory();
	testbed_exit_hash();
}

module_init(testbed_init);
module_exit(testbed_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Container measurer: functions by which BPF programs log code to IMA");
