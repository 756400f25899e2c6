"""A recording as it is on disk: its tables, how they are written, read and recovered.

No kernel and no BPF in here: a recording can be read anywhere.
"""
