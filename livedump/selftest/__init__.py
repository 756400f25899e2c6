"""The self-test: what a real machine can show and an emulated one cannot (docs/untested.md).

It takes a few short snapshots under a load of its own and checks what can be checked from user
space. :mod:`livedump.selftest.record` keeps the results; the doctor asks it whether this kernel,
module and CPU have passed.
"""
