"""The boot matrix: one short run of the guest tests on every kind of machine.

``make matrix`` prints one table and keeps it in build/matrix/.
"""
