"""The oracle: judges snapshots by what QEMU saw in the guest's memory at the very instant.

The machine is paused on ``livedump_instant()``, inside the stop; QEMU dumps its memory; it runs on
under load while livedump drains. Then every page of RAM is compared. What a page is, the oracle
reads from its own dump (struct pages, page tables, lists of the kernel, with drgn), never from
livedump's word. docs/oracle.md says what it proves and what it does not.

Host: :mod:`gdb` and :mod:`capture` take the dumps; :mod:`core` and :mod:`tables` read them;
:mod:`kernel`, :mod:`pages` and :mod:`devices` say what each page is; :mod:`judge` compares;
:mod:`plan` and ``__main__`` run the matrix. Guest: :mod:`guest` and :mod:`churn`.
"""
