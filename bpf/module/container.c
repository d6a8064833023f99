// SPDX-License-Identifier: GPL-2.0
/*
 * What the module keeps for each container: what it lost, and what it may still have
 * of the log.
 *
 * A loss is code, or a violation, that the log does not show. It is an entry of the
 * container (ctr-loss), so that no container can make the others doubtful. That
 * entry is written when the number doubles or a reason is new, and before a beat
 * that is asked for.
 *
 * IMA's memory and the TPM's time are the machine's: what all containers below one of
 * the host's have written counts together. Beyond the budget nothing is logged,
 * and that is a loss.
 */
#include <linux/bitops.h>
#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "layers.h"
#include "module.h"

static unsigned int max_entries = 131072;
module_param(max_entries, uint, 0444);
MODULE_PARM_DESC(max_entries, "entries of a container and those in it, beyond which nothing is logged for them");
static unsigned long max_entry_bytes = 64ul << 20;
module_param(max_entry_bytes, ulong, 0444);
MODULE_PARM_DESC(max_entry_bytes, "likewise, bytes of these entries");
static unsigned int max_violations = 1024;
module_param(max_violations, uint, 0444);
MODULE_PARM_DESC(max_violations, "likewise, violations");

struct container {
	struct hlist_node node;
	struct testbed_ident ident;
	struct container *outer; /* NULL: it is a container of the host */
	u32 nested;		 /* records that name it as `outer` */
	bool ended;
	u64 lost;
	u64 told; /* of these, in the log */
	u32 reasons;
	u32 told_reasons;
	/* Of a container of the host, with all that are in it. */
	u32 entries;
	u32 violations;
	u64 bytes;
};

static DEFINE_HASHTABLE(containers, 10);
static DEFINE_SPINLOCK(container_lock); /* of all records */

/*
 * Extends take long, and IMA does one at a time. All containers together have one place
 * in that queue, so that a beat waits for one of theirs at most.
 */
static DEFINE_MUTEX(container_turn);

static void containers_log(struct work_struct *work);
static DECLARE_WORK(container_work, containers_log);

static const u32 container_reasons[TESTBED_COUNTER_MAX] = {
	[TESTBED_COUNT_FORGOTTEN] = TESTBED_LOSS_FORGOTTEN,
	[TESTBED_COUNT_FLOODED] = TESTBED_LOSS_FLOODED,
	[TESTBED_COUNT_NO_MEMORY] = TESTBED_LOSS_MEMORY,
	[TESTBED_COUNT_READ_ERROR] = TESTBED_LOSS_UNREAD,
	[TESTBED_COUNT_NOT_REGULAR] = TESTBED_LOSS_UNREAD,
	[TESTBED_COUNT_PENDING] = TESTBED_LOSS_PENDING,
	[TESTBED_COUNT_LOAD_DATA] = TESTBED_LOSS_LOAD,
	[TESTBED_COUNT_VIOLATION] = TESTBED_LOSS_VIOLATION,
};

/* ---- records ---- */

static struct container *container_find(u64 seq)
{
	struct container *container;

	lockdep_assert_held(&container_lock);
	hash_for_each_possible(containers, container, node, seq)
		if (container->ident.seq == seq)
			return container;
	return NULL;
}

static struct container *container_add(const struct testbed_ident *ident, struct container *fresh)
{
	lockdep_assert_held(&container_lock);
	fresh->ident = *ident;
	hash_add(containers, &fresh->node, ident->seq);
	return fresh;
}

/*
 * The record of @ident, made if there is none, NULL if there is no memory for it.
 * Taken and returned with the lock held; does not sleep.
 */
static struct container *container_of_ident(const struct testbed_ident *ident)
{
	struct container *container = container_find(ident->seq), *fresh;
	struct testbed_ident outermost = { .seq = ident->outermost };

	if (container)
		return container;
	fresh = kzalloc(sizeof(*fresh), GFP_ATOMIC);
	if (!fresh)
		return NULL;
	if (ident->outermost != ident->seq) {
		fresh->outer = container_find(ident->outermost);
		if (!fresh->outer) {
			struct container *outer = kzalloc(sizeof(*outer), GFP_ATOMIC);

			if (!outer) {
				kfree(fresh);
				return NULL;
			}
			/* It has ended: the record is for the budget alone. */
			outer->ended = true;
			fresh->outer = container_add(&outermost, outer);
		}
		fresh->outer->nested++;
	}
	return container_add(ident, fresh);
}

static bool container_is_told(const struct container *container)
{
	return container->lost == container->told;
}

/* Free @container, and the one in which it was, if nobody needs them any more. */
static void container_drop(struct container *container)
{
	lockdep_assert_held(&container_lock);
	while (container && container->ended && !container->nested && container_is_told(container)) {
		struct container *outer = container->outer;

		hash_del(&container->node);
		kfree(container);
		if (outer)
			outer->nested--;
		container = outer;
	}
}

/* ---- losses ---- */

static bool container_is_due(const struct container *container)
{
	return container->reasons != container->told_reasons ||
	       fls64(container->lost) != fls64(container->told);
}

/* Take the next loss to be logged: one that is due, or with @all any. */
static bool container_take_loss(bool all, struct testbed_loss_entry *entry,
				struct testbed_ident *ident)
{
	struct container *container;
	struct hlist_node *next;
	int bucket;

	spin_lock_bh(&container_lock);
	hash_for_each_safe(containers, bucket, next, container, node) {
		if (container_is_told(container) || !(all || container_is_due(container)))
			continue;
		*entry = (struct testbed_loss_entry){
			.lost = container->lost,
			.reasons = container->reasons,
		};
		*ident = container->ident;
		container->told = container->lost;
		container->told_reasons = container->reasons;
		container_drop(container);
		spin_unlock_bh(&container_lock);
		return true;
	}
	spin_unlock_bh(&container_lock);
	return false;
}

static void containers_log_losses(bool all)
{
	struct testbed_loss_entry entry;
	struct testbed_ident ident;

	while (container_take_loss(all, &entry, &ident)) {
		enum testbed_counter outcome;

		testbed_fill_header(&entry.header, TESTBED_KIND_LOSS, sizeof(entry), 0, &ident);
		outcome = testbed_log_entry("ctr-loss", &entry, sizeof(entry), TESTBED_COUNT_LOSSES);
		/* What cannot be said of the container is said of the machine. */
		testbed_count_for(NULL, outcome, 1);
	}
}

static void containers_log(struct work_struct *work)
{
	containers_log_losses(false);
}

void testbed_log_losses(void)
{
	containers_log_losses(true);
}

void testbed_count_for(const struct testbed_ident *ident, enum testbed_counter counter, u64 n)
{
	struct container *container;
	bool due = false;

	if (!n)
		return;
	testbed_tally(counter, n);
	if (testbed_fate_of(counter) != TESTBED_LOST)
		return;
	if (!ident) {
		testbed_lose(n);
		return;
	}
	spin_lock_bh(&container_lock);
	container = container_of_ident(ident);
	/* Who has no budget has no start in the log, perhaps, and without end are those in him. */
	if (container && counter == TESTBED_COUNT_FLOODED && container->outer &&
	    !container->outer->ended)
		container = container->outer;
	if (container) {
		container->lost += n;
		container->reasons |= container_reasons[counter];
		due = container_is_due(container);
	}
	spin_unlock_bh(&container_lock);
	if (!container)
		testbed_lose(n);
	if (due)
		queue_work(system_long_wq, &container_work);
}

/* ---- budgets ---- */

/* Take (@sign 1) one entry of @length from the budget of @ident, or give it back (-1). */
static bool container_charge(const struct testbed_ident *ident, enum testbed_budget budget,
			     u32 length, int sign)
{
	struct container *payer;
	bool allowed = true;

	spin_lock_bh(&container_lock);
	payer = container_of_ident(ident);
	if (payer && payer->outer)
		payer = payer->outer;
	if (payer) {
		if (sign > 0)
			allowed = budget == TESTBED_BUDGET_VIOLATIONS ?
				payer->violations < max_violations :
				payer->entries < max_entries && payer->bytes < max_entry_bytes;
		if (allowed && budget == TESTBED_BUDGET_VIOLATIONS)
			payer->violations += sign;
		else if (allowed)
			payer->entries += sign;
		if (allowed)
			payer->bytes += sign * (s64)length;
	}
	spin_unlock_bh(&container_lock);
	return allowed;
}

enum testbed_counter testbed_log_charged(const struct testbed_ident *ident,
					 enum testbed_budget budget, const char *event,
					 const void *entry, u32 length,
					 enum testbed_counter written)
{
	enum testbed_counter outcome;

	if (!container_charge(ident, budget, length, 1))
		return TESTBED_COUNT_FLOODED;
	mutex_lock(&container_turn);
	outcome = testbed_log_entry(event, entry, length, written);
	mutex_unlock(&container_turn);
	if (outcome != written)
		container_charge(ident, budget, length, -1);
	return outcome;
}

/* ---- the end ---- */

void testbed_forget_containers(void)
{
	struct container *container;
	struct hlist_node *next;
	int bucket;

	containers_log_losses(true);
	cancel_work_sync(&container_work);
	spin_lock_bh(&container_lock);
	hash_for_each_safe(containers, bucket, next, container, node) {
		hash_del(&container->node);
		kfree(container);
	}
	spin_unlock_bh(&container_lock);
}

/* What is left of it is its losses. */
void testbed_forget_container(u64 seq)
{
	struct container *container;

	testbed_forget_code(seq);
	testbed_leave_overlay(seq);
	spin_lock_bh(&container_lock);
	container = container_find(seq);
	if (container) {
		container->ended = true;
		container_drop(container);
	}
	spin_unlock_bh(&container_lock);
	testbed_tally(TESTBED_COUNT_ENDED, 1);
}

__bpf_kfunc_start_defs();

/* The last task of container @seq, which is the current one, ends. Does not sleep. */
__bpf_kfunc void testbed_end_container(u64 seq)
{
	if (!testbed_end_later(seq))
		testbed_forget_container(seq);
}

/* An event that a program counts for container @ident. Does not sleep. */
__bpf_kfunc void testbed_count_of(const struct testbed_ident *ident, u32 counter)
{
	if (counter < TESTBED_COUNTER_MAX)
		testbed_count_for(ident, counter, 1);
}

__bpf_kfunc_end_defs();
