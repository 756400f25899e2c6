"""Every indirect branch of the module, and why its target has an ENDBR64 when the branch is taken.

With kernel IBT an indirect call or jump to anything else is a fatal #CP. No machine that we test on
has IBT, so each branch is argued here; tools.lint.ibt fails on one that is not. The arguments rest
on what it checks as well: functions of the module whose address is taken begin with ENDBR64 and
are not sealed (the kernel overwrites ENDBR64 where nothing takes the address).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Argued:
    """An indirect branch as it is written.

    :ivar function: of the source that holds it, not what that is inlined in; ``*`` at the end for
        all whose names begin so
    :ivar file: its name
    :ivar calls: what its line says; empty where a macro of the kernel's headers wrote the call
    :ivar why: the targets, and why they are safe
    """

    function: str
    file: str
    calls: str
    why: str


_STRATEGY = (
    "const struct ld_strategy: ld_lazy and ld_eager only, whose members are functions of the module"
)
_PARTS = "const parts[] of main.c: its members are functions of the module"
_STEPS = "const steps[] of session.c: its members are functions of the module"
_HOOKS = "ld_hook_table[] of hooks/table.c, where alone these are set: to functions of the module"
_PAGES = "ld_page_fn: every caller passes a function of the module"
_PARTS_OF = "what ld_each_module_part() was given: never_at() of fault/armed.c"
_TOGETHER = "ld_part_fn: every caller passes a function of the module"
_WALK = "struct ld_walk: every walk's callbacks are functions of the module"

BRANCHES = (
    Argued("livedump_init", "main.c", "parts[i].init()", _PARTS),
    Argued("livedump_exit", "main.c", "parts[--parts_up].exit()", _PARTS),
    Argued(
        "tell",
        "session.c",
        "fn(event, status)",
        "what ld_session_on_event() was given: send_event() of genl.c, or NULL",
    ),
    Argued("take", "session.c", "steps[i].fn()", _STEPS),
    Argued("make_plan", "session.c", "session.strategy->prepare()", _STRATEGY),
    Argued("restore_tables", "session.c", "session.strategy->restore()", _STRATEGY),
    Argued("teardown", "session.c", "session.strategy->finish()", _STRATEGY),
    Argued("lead", "stop.c", "a->strategy->save()", _STRATEGY),
    Argued("lead", "stop.c", "a->strategy->protect(", _STRATEGY),
    Argued("protect_parts", "stop.c", "a->strategy->protect_part(", _STRATEGY),
    Argued("recopy_parts", "stop.c", "a->strategy->recopy_cpu(", _STRATEGY),
    Argued("recopy_parts", "stop.c", "a->strategy->recopy_part(", _STRATEGY),
    Argued("recopy_rest", "stop.c", "a->strategy->recopy()", _STRATEGY),
    Argued("recopy_all", "stop.c", "a->strategy->recopy_cpu(", _STRATEGY),
    Argued("recopy_all", "stop.c", "a->strategy->recopy_part(", _STRATEGY),
    Argued("recopy_all", "stop.c", "a->strategy->recopy()", _STRATEGY),
    Argued("fill_phases", "stop.c", "a->strategy->protected_parts()", _STRATEGY),
    Argued("fill_phases", "stop.c", "a->strategy->saved()", _STRATEGY),
    Argued("fill_phases", "stop.c", "a->strategy->recopied()", _STRATEGY),
    Argued("try_stop", "stop.c", "strategy->refresh()", _STRATEGY),
    Argued("ld_stop_run", "stop.c", "strategy->again()", _STRATEGY),
    Argued("ld_each_module_part", "compat.c", "fn(", _PARTS_OF),
    Argued("each_page", "sensitive.c", "fn(", _PAGES),
    Argued("ld_each_data_page", "sensitive.c", "fn(", _PAGES),
    Argued("take_parts", "together.c", "all->fn(", _TOGETHER),
    Argued("walk_entries", "pgwalk.c", "walk->leaf(", _WALK),
    Argued("walk_entries", "pgwalk.c", "walk->table(", _WALK),
    Argued("ld_walk_kernel", "pgwalk.c", "walk->table(", _WALK),
    Argued("notice", "hooks.c", "hook->enter(", _HOOKS),
    Argued("on_function", "hooks.c", "hook->enter(", _HOOKS),
    Argued("on_entry", "hooks.c", "hook->instead(", _HOOKS),
    Argued("sees", "hooks.c", "hook->provoke()", _HOOKS),
    Argued(
        "image_file_release",
        "image.c",
        "image.on_close(",
        "what ld_image_on_close() was given: file_closed() of session.c",
    ),
    Argued(
        "iterate",
        "iterator.c",
        "probe(func->data, address, regs, error_code)",
        "the other probes of exceptions:page_fault_kernel, in the kernel's own list: its iterator, "
        "__traceiter_page_fault_kernel(), calls the same pointers in the same way",
    ),
    Argued(
        "__traceiter_livedump_*",
        "main.c",
        "",
        "our tracepoints' iterators: probes are what tracepoint_probe_register() was given, by "
        "ftrace, perf and BPF; the kernel calls probes of its own tracepoints in the same way",
    ),
)

#: Calls through a member of these kernel variables, by the name in the relocation.
VARIABLES = {
    "pv_ops": "paravirt calls: module_finalize() patches them to direct calls or plain "
    "instructions before any of the module runs; what pv_ops held before is called "
    "indirectly by the kernel itself, so has ENDBR64",
}

#: Code whose address is taken without being the start of a function, by function.
LABELS = {
    "crash_setup_regs": "_THIS_IP_: the instruction pointer of a saved register set, never called",
}

#: Functions whose address is taken to be returned into, never called, and what gives the address
#: away: hooks put it into regs->ip, and leave by a return or IRET, which are not tracked.
RETURNED = {"ld_just_return_thunk": "ld_just_return"}

#: Functions of the kernel that are looked up by name, and where the address is kept. They may have
#: no ENDBR64, or a sealed one: only ld_call() may call them.
KERNEL_FUNCTIONS = {
    "kallsyms_lookup_name": "lookup_name",
    "set_memory_rw": "ld_syms.set_memory_rw",
    "idle_task": "ld_syms.idle_task",
    "get_online_mems": "ld_syms.get_online_mems",
    "put_online_mems": "ld_syms.put_online_mems",
    "put_task_stack": "ld_syms.put_task_stack",
    "find_vm_area": "ld_syms.find_vm_area",
}

#: Names that are looked up and never called: variables and marks of the linker.
KERNEL_DATA = {
    "__per_cpu_end",
    "__per_cpu_start",
    "_end",
    "_sdata",
    "_text",
    "arch_task_struct_size",
    "cached_stacks",
    "cpa_lock",
    "espfix_waddr",
    "init_mm",
    "nmi_state",
    "kprobes_all_disarmed",
    "ftrace_enabled",
    "pcpu_base_addr",
    "pcpu_unit_offsets",
    "pcpu_unit_size",
    "pr_dev_info",
    "tick_nohz_full_running",
    "vm_list",
    "vmcoreinfo_data",
    "vmcoreinfo_size",
    "vmemmap_optimize_enabled",
}

#: Sections that name functions without anybody calling them there: lists for patching, unwinding
#: and checking. Whatever is not here counts as taking the address.
METADATA = {
    ".altinstructions",
    ".call_sites",
    ".ibt_endbr_seal",
    ".orc_unwind_ip",
    ".parainstructions",
    ".retpoline_sites",
    ".return_sites",
    ".smp_locks",
    ".static_call_sites",
    "__bug_table",
    "__ex_table",
    "__jump_table",
    "__mcount_loc",
    "__patchable_function_entries",
    "_kprobe_blacklist",
}

#: Functions whose address is taken but never called: the trampolines of static calls are patched.
TRAMPOLINES = "__SCT__"
