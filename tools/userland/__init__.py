"""Another release of Debian beside the host's: its root, made once, and commands run in it.

In there is all that this release's users have: compiler, QEMU, BCC, crash, Python. The checkout and
the cache folder are in the same places, with a build/ of its own; whatever runs is on a machine of
that release, and a machine that it boots has that userland.
"""
