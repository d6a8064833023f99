// SPDX-License-Identifier: GPL-2.0
/*
 * Does wrong what each detector of the kernel is there to see, one thing each
 * time that it is loaded: `insmod testbed_fault.ko fault=NAME`. A soak that ends
 * without a report says nothing unless these were reported.
 */
#include <linux/init.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

static char *fault = "";
module_param(fault, charp, 0444);
MODULE_PARM_DESC(fault, "what to do wrong");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spin);

static noinline void use_after_free(void)
{
	char *bytes = kmalloc(64, GFP_KERNEL);

	if (!bytes)
		return;
	kfree(bytes);
	WRITE_ONCE(bytes[8], 1);
}

static noinline void out_of_bounds(void)
{
	char *bytes = kmalloc(60, GFP_KERNEL);

	if (!bytes)
		return;
	OPTIMIZER_HIDE_VAR(bytes);
	WRITE_ONCE(bytes[60], 1);
	kfree(bytes);
}

static noinline void vmalloc_out_of_bounds(void)
{
	char *bytes = vmalloc(100);

	if (!bytes)
		return;
	OPTIMIZER_HIDE_VAR(bytes);
	WRITE_ONCE(bytes[104], 1);
	vfree(bytes);
}

static noinline void leak(void)
{
	int i;

	/* More than one, as a stale pointer to the last of them may lie about. */
	for (i = 0; i < 8; i++)
		WRITE_ONCE(*(char *)kzalloc(333, GFP_KERNEL | __GFP_NOFAIL), 1);
}

static noinline void lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static noinline void sleep_in_atomic(void)
{
	void *bytes;

	spin_lock(&spin);
	bytes = kmalloc(64, GFP_KERNEL);
	spin_unlock(&spin);
	kfree(bytes);
}

static noinline void list_twice(void)
{
	LIST_HEAD(head);
	struct list_head node;

	list_add(&node, &head);
	list_add(&node, &head);
}

static void nothing(struct work_struct *work)
{
}

/* Initialised as if it were no object on a stack. */
static noinline void work_on_stack(void)
{
	struct work_struct work;

	INIT_WORK(&work, nothing);
	schedule_work(&work);
	flush_work(&work);
}

static const struct {
	const char *name;
	void (*make)(void);
} faults[] = {
	{ "use-after-free", use_after_free },
	{ "out-of-bounds", out_of_bounds },
	{ "vmalloc-out-of-bounds", vmalloc_out_of_bounds },
	{ "leak", leak },
	{ "sleep-in-atomic", sleep_in_atomic },
	{ "list-twice", list_twice },
	{ "work-on-stack", work_on_stack },
	{ "lock-order", lock_order },
};

static int __init fault_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		if (strcmp(fault, faults[i].name))
			continue;
		faults[i].make();
		return 0;
	}
	return -EINVAL;
}

static void __exit fault_exit(void)
{
}

module_init(fault_init);
module_exit(fault_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Faults for the detectors of a debugging kernel");
