// SPDX-License-Identifier: GPL-2.0
#include <linux/elf.h>
#include <linux/elfcore.h>
#include <linux/mm.h>
#include <linux/proc_fs.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fault/armed.h"
#include "fault/cow.h"
#include "image.h"
#include "map/ram.h"
#include "stop/stop.h"
#include "test.h"

#define VMCOREINFO_NOTE "VMCOREINFO"
#define CORE_NOTE "CORE"

/* An open file, so that netlink can tell ours from others. */
struct reader {
	struct list_head list;
	struct file *file;
	struct mutex lock;		/* of the bounce page */
	void *bounce;			/* what one read sees of the file */
};

static struct {
	struct proc_dir_entry *entry;
	struct rw_semaphore gate;	/* readers in, close() out */
	bool open;
	void *header;
	size_t header_size;
	loff_t size;
	spinlock_t lock;		/* of readers */
	struct list_head readers;
	void (*on_close)(const struct file *file);
} image;

/* ---- headers and notes ---- */

static size_t note_size(const char *name, size_t desc)
{
	return sizeof(struct elf64_note) + ALIGN(strlen(name) + 1, 4) +
	       ALIGN(desc, 4);
}

static void *add_note(void *at, const char *name, u32 type, const void *desc,
		      size_t size)
{
	struct elf64_note *note = at;

	note->n_namesz = strlen(name) + 1;
	note->n_descsz = size;
	note->n_type = type;
	at += sizeof(*note);
	memcpy(at, name, note->n_namesz);
	at += ALIGN(note->n_namesz, 4);
	memcpy(at, desc, size);
	return at + ALIGN(size, 4);
}

static size_t phdrs_size(void)
{
	/* notes, one for each range of RAM, kernel text */
	return (2 + ld_ranges_count()) * sizeof(struct elf64_phdr);
}

static size_t notes_size(void)
{
	return num_online_cpus() *
		       note_size(CORE_NOTE, sizeof(struct elf_prstatus)) +
	       note_size(VMCOREINFO_NOTE, ld_syms.vmcoreinfo_size) +
	       note_size(LIVEDUMP_NOTE_NAME, sizeof(struct livedump_report));
}

int ld_image_prepare(void)
{
	image.header_size = PAGE_ALIGN(sizeof(struct elf64_hdr) +
				       phdrs_size() + notes_size());
	image.header = vzalloc(image.header_size);
	if (!image.header)
		return -ENOMEM;
	image.size = image.header_size + PFN_PHYS(ld_ranges_pages());
	ld_cow_mark_own(image.header, image.header_size);
	return 0;
}

void ld_image_free(void)
{
	vfree(image.header);
	image.header = NULL;
	image.header_size = 0;
	image.size = 0;
}

static void fill_ehdr(struct elf64_hdr *ehdr, int phnum)
{
	memcpy(ehdr->e_ident, ELFMAG, SELFMAG);
	ehdr->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr->e_ident[EI_DATA] = ELFDATA2LSB;
	ehdr->e_ident[EI_VERSION] = EV_CURRENT;
	ehdr->e_type = ET_CORE;
	ehdr->e_machine = EM_X86_64;
	ehdr->e_version = EV_CURRENT;
	ehdr->e_phoff = sizeof(*ehdr);
	ehdr->e_ehsize = sizeof(*ehdr);
	ehdr->e_phentsize = sizeof(struct elf64_phdr);
	ehdr->e_phnum = phnum;
}

/* p_align stays 0: crash takes the file for a kdump by that. */
static void fill_load(struct elf64_phdr *phdr, loff_t offset, u64 vaddr,
		      u64 paddr, u64 bytes)
{
	phdr->p_type = PT_LOAD;
	phdr->p_flags = PF_R | PF_W | PF_X;
	phdr->p_offset = offset;
	phdr->p_vaddr = vaddr;
	phdr->p_paddr = paddr;
	phdr->p_filesz = bytes;
	phdr->p_memsz = bytes;
}

/* File offset of a physical address; 0 when it is not RAM. */
static loff_t offset_of(phys_addr_t paddr)
{
	loff_t offset = image.header_size;
	int i;

	for (i = 0; i < ld_ranges_count(); i++) {
		const struct ld_range *range = ld_range_at(i);
		u64 start = PFN_PHYS(range->start_pfn);
		u64 end = PFN_PHYS(range->end_pfn);

		if (paddr >= start && paddr < end)
			return offset + (paddr - start);
		offset += end - start;
	}
	return 0;
}

static void fill_loads(struct elf64_phdr *phdr)
{
	u64 text = __pa(ld_syms.text);
	loff_t offset = image.header_size;
	int i;

	for (i = 0; i < ld_ranges_count(); i++) {
		const struct ld_range *range = ld_range_at(i);
		u64 paddr = PFN_PHYS(range->start_pfn);
		u64 bytes = PFN_PHYS(range->end_pfn) - paddr;

		fill_load(phdr++, offset, (unsigned long)__va(paddr), paddr,
			  bytes);
		offset += bytes;
	}
	/*
	 * The kernel's own mapping of its image: the same bytes of the file. Last,
	 * so that who does not sort finds the lowest RAM first.
	 */
	fill_load(phdr, offset_of(text), ld_syms.text, text,
		  ld_syms.end - ld_syms.text);
}

static void *fill_notes(void *at, const struct livedump_report *report)
{
	int cpu;

	for_each_online_cpu(cpu)
		at = add_note(at, CORE_NOTE, NT_PRSTATUS,
			      &ld_stop_cpu(cpu)->status,
			      sizeof(struct elf_prstatus));
	at = add_note(at, VMCOREINFO_NOTE, 0, ld_syms.vmcoreinfo_data,
		      ld_syms.vmcoreinfo_size);
	return add_note(at, LIVEDUMP_NOTE_NAME, LIVEDUMP_NOTE_TYPE, report,
			sizeof(*report));
}

static void set_size(loff_t size)
{
	struct reader *reader;

	proc_set_size(image.entry, size);
	spin_lock(&image.lock);
	list_for_each_entry(reader, &image.readers, list)
		i_size_write(file_inode(reader->file), size);
	spin_unlock(&image.lock);
}

static void *notes_at(void)
{
	return image.header + sizeof(struct elf64_hdr) + phdrs_size();
}

void ld_image_update(const struct livedump_report *report)
{
	down_write(&image.gate);
	fill_notes(notes_at(), report);
	up_write(&image.gate);
}

void ld_image_open(const struct livedump_report *report)
{
	struct elf64_hdr *ehdr = image.header;
	struct elf64_phdr *phdr = image.header + sizeof(*ehdr);
	void *notes = notes_at();

	fill_ehdr(ehdr, 2 + ld_ranges_count());
	phdr->p_type = PT_NOTE;
	phdr->p_offset = notes - image.header;
	phdr->p_filesz = fill_notes(notes, report) - notes;
	phdr->p_memsz = phdr->p_filesz;
	fill_loads(phdr + 1);

	down_write(&image.gate);
	image.open = true;
	up_write(&image.gate);
	set_size(image.size);
}

void ld_image_close(void)
{
	down_write(&image.gate);
	image.open = false;
	up_write(&image.gate);
	set_size(0);
}

/* ---- reading ---- */

static unsigned long pfn_at(loff_t offset)
{
	unsigned long pages = offset >> PAGE_SHIFT;
	int i;

	for (i = 0; i < ld_ranges_count(); i++) {
		const struct ld_range *range = ld_range_at(i);
		unsigned long count = range->end_pfn - range->start_pfn;

		if (pages < count)
			return range->start_pfn + pages;
		pages -= count;
	}
	return 0;
}

/*
 * The page as it was at the instant. In place is right only if nobody saved it
 * meanwhile: savers publish before they let the writer go on.
 */
static const void *page_at_instant(unsigned long pfn, void *bounce)
{
	u32 slot = ld_cow_slot(pfn);

	if (slot == LD_SLOT_NONE) {
		ld_point(LD_POINT_READ, pfn);
		if (!ld_ranges_is_there(pfn) ||
		    copy_from_kernel_nofault(bounce, __va(PFN_PHYS(pfn)),
					     PAGE_SIZE))
			/* Poisoned, perhaps. If it was saved there is a copy. */
			ld_cow_vanish(pfn);
		/* The copy before the slot; pairs with ld_cow_save()'s cmpxchg */
		smp_rmb();
		slot = ld_cow_slot(pfn);
		if (slot == LD_SLOT_NONE || ld_is_mutant(LD_MUTANT_RECHECK))
			return bounce;
	}
	if (slot >= LD_SLOT_SPECIAL)
		return page_address(ZERO_PAGE(0));
	return ld_cow_page(slot);
}

/*
 * Fill the bounce page with the page of the file at @pos. The gate is closed
 * to release for one page only, and never while user memory is touched: that
 * may wait for anybody. Return: 0, -EINTR or -ENODATA.
 */
static int fetch_page(struct reader *reader, loff_t pos)
{
	loff_t start = pos & PAGE_MASK;
	const void *from;
	int err = 0;

	if (down_read_killable(&image.gate))
		return -EINTR;
	if (!image.open) {
		err = -ENODATA;
	} else if (start < image.header_size) {
		memcpy(reader->bounce, image.header + start, PAGE_SIZE);
	} else {
		unsigned long pfn = pfn_at(start - image.header_size);

		from = page_at_instant(pfn, reader->bounce);
		if (from != reader->bounce)
			memcpy(reader->bounce, from, PAGE_SIZE);
		ld_armed_clean_table(pfn, reader->bounce);
	}
	up_read(&image.gate);
	return err;
}

/* Copy up to the end of one page. */
static ssize_t read_some(struct reader *reader, loff_t pos,
			 struct iov_iter *to)
{
	size_t within = pos & ~PAGE_MASK;
	int err = fetch_page(reader, pos);
	size_t bytes;

	if (err)
		return err;
	bytes = copy_to_iter(reader->bounce + within,
			     min_t(size_t, PAGE_SIZE - within,
				   iov_iter_count(to)), to);
	return bytes ?: -EFAULT;
}

static ssize_t image_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct reader *reader = iocb->ki_filp->private_data;
	loff_t size = i_size_read(file_inode(iocb->ki_filp));
	ssize_t done = 0;

	if (!READ_ONCE(image.open))
		return -ENODATA;
	if (mutex_lock_killable(&reader->lock))
		return -EINTR;
	while (iov_iter_count(to) && iocb->ki_pos < size) {
		ssize_t bytes = read_some(reader, iocb->ki_pos, to);

		if (bytes < 0) {
			done = done ?: bytes;
			break;
		}
		iocb->ki_pos += bytes;
		done += bytes;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	mutex_unlock(&reader->lock);
	return done;
}

static loff_t image_llseek(struct file *file, loff_t offset, int whence)
{
	return fixed_size_llseek(file, offset, whence,
				 i_size_read(file_inode(file)));
}

/* ---- open files ---- */

static int image_file_open(struct inode *inode, struct file *file)
{
	struct reader *reader;
	int err;

	if (!capable(CAP_SYS_ADMIN) || !capable(CAP_SYS_RAWIO))
		return -EPERM;
	err = security_locked_down(LOCKDOWN_KCORE);
	if (err)
		return err;
	reader = kzalloc(sizeof(*reader), GFP_KERNEL);
	if (!reader)
		return -ENOMEM;
	reader->bounce = vmalloc(PAGE_SIZE);
	if (!reader->bounce) {
		kfree(reader);
		return -ENOMEM;
	}
	mutex_init(&reader->lock);
	reader->file = file;
	file->private_data = reader;
	spin_lock(&image.lock);
	list_add(&reader->list, &image.readers);
	i_size_write(inode, image.open ? image.size : 0);
	spin_unlock(&image.lock);
	return 0;
}

static int image_file_release(struct inode *inode, struct file *file)
{
	struct reader *reader = file->private_data;

	if (image.on_close)
		image.on_close(file);
	spin_lock(&image.lock);
	list_del(&reader->list);
	spin_unlock(&image.lock);
	vfree(reader->bounce);
	kfree(reader);
	return 0;
}

void ld_image_on_close(void (*fn)(const struct file *file))
{
	image.on_close = fn;
}

bool ld_image_is_file(const struct file *file)
{
	struct reader *reader;
	bool found = false;

	spin_lock(&image.lock);
	list_for_each_entry(reader, &image.readers, list)
		found |= reader->file == file;
	spin_unlock(&image.lock);
	return found;
}

static const struct proc_ops image_ops = {
	.proc_open = image_file_open,
	.proc_release = image_file_release,
	.proc_read_iter = image_read,
	.proc_lseek = image_llseek,
};

int ld_image_init(void)
{
	init_rwsem(&image.gate);
	spin_lock_init(&image.lock);
	INIT_LIST_HEAD(&image.readers);
	image.entry = proc_create("livedump", 0400, NULL, &image_ops);
	return image.entry ? 0 : -ENOMEM;
}

void ld_image_exit(void)
{
	proc_remove(image.entry);
	image.entry = NULL;
}
