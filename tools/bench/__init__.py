"""``make bench``: what a snapshot costs, as rows of build/bench/downtime.json.

:mod:`tools.bench.guest` samples inside a machine; :mod:`tools.bench.__main__` boots one for each
row and prints the table.
"""
