"""The oracle: judges snapshots by what QEMU saw in the guest's memory at the very instant.

The machine is paused on ``livedump_instant()``, inside the stop; QEMU dumps its memory; it runs on
under load while livedump drains. Then every page of RAM is compared. What a page is, the oracle
reads from its own dump (struct pages, page tables, lists of the kernel, with drgn), never from
livedump's word. docs/oracle.md says what it proves and what it does not.

``take/`` boots the machine and takes its memory, :mod:`take.guest` in there, the rest on the host.
``read/`` knows what is in a dump: pages, page tables, the kernel's own lists. ``judge/`` compares.
:mod:`plan` and ``__main__`` run the matrix, :mod:`rounds` many snapshots in one boot.
"""
