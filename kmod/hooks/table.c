// SPDX-License-Identifier: GPL-2.0
/* The one table of what is hooked; docs/kernels.md has the kernels it is from. */
#include "hooks/hook.h"

#define CALL(name, group_, enter_, ...)                                       \
	{ .symbol = name, .group = LD_HOOK_##group_, .followed = true,        \
	  .enter = enter_, ##__VA_ARGS__ }
/* Called with a spinlock held that lasts until what it announces is done. */
#define ENTRY(name, group_, enter_)                                           \
	{ .symbol = name, .group = LD_HOOK_##group_, .enter = enter_ }
#define INSTEAD(name, module_, instead_)                                      \
	{ .symbol = name, .module = module_, .group = LD_HOOK_OPTIONAL,       \
	  .followed = true, .instead = instead_ }

struct ld_hook ld_hook_table[] = {
	CALL("__change_page_attr_set_clr", ATTRIBUTES, ld_enter_cpa,
	     .provoke = ld_provoke_cpa),
	CALL("__text_poke", TEXT, ld_enter_text_poke,
	     .provoke = ld_provoke_text_poke),

	CALL("vmap_small_pages_range_noflush", VMAP_PAGES, ld_enter_vmap_pages,
	     .provoke = ld_provoke_vmap),
	CALL("vmap_range_noflush", VMAP_RANGE, ld_enter_vmap_range),
	CALL("memremap_pages", OPTIONAL, ld_enter_unseen),
	/* Struct pages of a huge page are mapped anew (HVO). */
	CALL("vmemmap_remap_range", OPTIONAL, ld_enter_unseen),

	ENTRY("page_add_anon_rmap", RMAP_ANON, ld_enter_anon_whole),
	ENTRY("folio_add_anon_rmap_ptes", RMAP_ANON, ld_enter_anon_part),
	ENTRY("folio_add_anon_rmap_pmd", OPTIONAL, ld_enter_anon_whole),
	ENTRY("page_add_new_anon_rmap", RMAP_NEW_ANON, ld_enter_anon_whole),
	ENTRY("folio_add_new_anon_rmap", RMAP_NEW_ANON, ld_enter_anon_whole),
	ENTRY("page_add_file_rmap", RMAP_FILE, ld_enter_file_page),
	ENTRY("folio_add_file_rmap_range", RMAP_FILE, ld_enter_file_part),
	ENTRY("folio_add_file_rmap_ptes", RMAP_FILE, ld_enter_file_part),
	ENTRY("folio_add_file_rmap_pmd", OPTIONAL, ld_enter_file_whole),

	/* The innermost that has a name: what is above it may be inlined. */
	CALL("remap_pfn_range", PFNMAP, ld_enter_remap),
	CALL("remap_pfn_range_notrack", OPTIONAL, ld_enter_remap),
	CALL("remap_pfn_range_internal", OPTIONAL, ld_enter_remap),
	CALL("do_remap_pfn_range", OPTIONAL, ld_enter_remap),
	/* 7.3: of remap_pfn_range(), and of what mmap_prepare() asked for. */
	CALL("remap_pfn_range_track", OPTIONAL, ld_enter_remap),
	CALL("vmf_insert_pfn_prot", OPTIONAL, ld_enter_insert_pfn),
	CALL("insert_pfn", OPTIONAL, ld_enter_insert_pfn),
	CALL("__vm_insert_mixed", OPTIONAL, ld_enter_insert_pfn),
	CALL("vmf_insert_mixed", OPTIONAL, ld_enter_insert_pfn),
	CALL("vmf_insert_mixed_mkwrite", OPTIONAL, ld_enter_insert_pfn),
	CALL("vmf_insert_pfn_pmd_prot", OPTIONAL, ld_enter_insert_pmd),
	CALL("vmf_insert_pfn_pmd", OPTIONAL, ld_enter_insert_pmd),
	CALL("vmf_insert_pfn_pud_prot", OPTIONAL, ld_enter_insert_pud),
	CALL("vmf_insert_pfn_pud", OPTIONAL, ld_enter_insert_pud),
	CALL("__apply_to_page_range", OPTIONAL, ld_enter_apply),

	ENTRY("balloon_page_enqueue", OPTIONAL, ld_enter_balloon),
	ENTRY("balloon_page_enqueue_one", OPTIONAL, ld_enter_balloon),
	INSTEAD("page_reporting_process", NULL, ld_instead_of_reporting),
	/*
	 * A virtual machine is in the list of them, where we look, only some time
	 * after the first; before the second it is in any case.
	 */
	INSTEAD("kvm_arch_init_vm", "kvm", ld_instead_of_vm),
	INSTEAD("kvm_arch_vcpu_create", "kvm", ld_instead_of_vm),
	{}
};
