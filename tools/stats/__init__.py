"""``make stats``: how often `diff` is wrong, and how small a change it finds, on made-up loads.

:mod:`tools.stats.loads` makes recordings, :mod:`tools.stats.study` compares many pairs of them,
:mod:`tools.stats.__main__` has the cases, prints tables and keeps build/stats/stats.json.
"""
