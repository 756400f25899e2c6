// SPDX-License-Identifier: GPL-2.0
/*
 * Which memory drivers hand to virtio devices to be written, for the oracle:
 * QEMU lists the buffers of one moment, this one all that come after it was
 * loaded.
 *
 * /proc/livedump_buffers: "TIME ADDRESS LENGTH" of each, a line: CLOCK_BOOTTIME in
 * ns, physical address and bytes. Reading fails when there was no room for all.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/scatterlist.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>

#define ROOM (1 << 20)

struct buffer {
	u64 given_ns;
	u64 address;
	u32 length;
};

static struct buffer *buffers;
static atomic_t count;

static void note(struct scatterlist *sg)
{
	int i = atomic_fetch_inc(&count);

	if (i < ROOM)
		buffers[i] = (struct buffer){
			.given_ns = ktime_get_boot_fast_ns(),
			.address = sg_phys(sg),
			.length = sg->length,
		};
}
NOKPROBE_SYMBOL(note);

/* virtqueue_add_sgs(vq, sgs, out_sgs, in_sgs, ...): lists, those to be written last. */
static int note_lists(struct kprobe *probe, struct pt_regs *regs)
{
	struct scatterlist **lists = (void *)regs->si, *sg;
	unsigned int i;

	for (i = regs->dx; i < (unsigned int)regs->dx + (unsigned int)regs->cx; i++)
		for (sg = lists[i]; sg; sg = sg_next(sg))
			note(sg);
	return 0;
}
NOKPROBE_SYMBOL(note_lists);

/* virtqueue_add_inbuf(vq, sg, num, ...) and its kin: one list, all of it to be written. */
static int note_list(struct kprobe *probe, struct pt_regs *regs)
{
	struct scatterlist *sg = (void *)regs->si;
	unsigned int i;

	for (i = 0; i < (unsigned int)regs->dx; i++, sg = sg_next(sg))
		note(sg);
	return 0;
}
NOKPROBE_SYMBOL(note_list);

static struct kprobe sgs = {
	.symbol_name = "virtqueue_add_sgs",
	.pre_handler = note_lists,
};
static struct kprobe inbuf = {
	.symbol_name = "virtqueue_add_inbuf",
	.pre_handler = note_list,
};
static struct kprobe inbuf_ctx = {
	.symbol_name = "virtqueue_add_inbuf_ctx",
	.pre_handler = note_list,
};
static struct kprobe *probes[] = { &sgs, &inbuf, &inbuf_ctx };

static int show_buffers(struct seq_file *out, void *unused)
{
	int i, all = atomic_read(&count);

	if (all > ROOM)
		return -EOVERFLOW;
	for (i = 0; i < all; i++)
		seq_printf(out, "%llu %llu %u\n", buffers[i].given_ns,
			   buffers[i].address, buffers[i].length);
	return 0;
}

static int __init buffers_init(void)
{
	int err;

	buffers = vzalloc(array_size(ROOM, sizeof(*buffers)));
	if (!buffers)
		return -ENOMEM;
	err = register_kprobes(probes, ARRAY_SIZE(probes));
	if (err)
		goto free;
	if (proc_create_single("livedump_buffers", 0400, NULL, show_buffers))
		return 0;
	err = -ENOMEM;
	unregister_kprobes(probes, ARRAY_SIZE(probes));
free:
	vfree(buffers);
	return err;
}

static void __exit buffers_exit(void)
{
	remove_proc_entry("livedump_buffers", NULL);
	unregister_kprobes(probes, ARRAY_SIZE(probes));
	vfree(buffers);
}

module_init(buffers_init);
module_exit(buffers_exit);

MODULE_DESCRIPTION("What virtio devices may write, for livedump's oracle");
MODULE_AUTHOR("The livedump developers");
MODULE_LICENSE("GPL");
