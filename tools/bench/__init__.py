"""``make bench``: what a snapshot costs, as build/bench/{downtime,fault}.json, tables and a chart.

:mod:`tools.bench.rows` says which machines; :mod:`tools.bench.guest` samples stops inside one,
:mod:`tools.bench.fault` faults, :mod:`tools.bench.slowdown` a load while a snapshot is held.
:mod:`tools.bench.summary` judges the samples, :mod:`tools.bench.__main__` boots, prints and keeps.
"""
