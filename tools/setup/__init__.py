"""Everything a fresh Debian 12 machine needs: packages, the venv, kernels.

`python3 -m tools.setup`, with the system's Python: standard library only, safe to repeat.
"""
