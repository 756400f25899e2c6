"""``make demo``: dump a stock kernel under load, and show what it cost.

:mod:`tools.demo.guest` runs inside the machine; the rest on the host.
"""
