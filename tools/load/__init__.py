"""Load generators: processes, files, forks and network, for tests and the demo.

``python -m tools.load`` runs them until SIGTERM and prints what each of them did.
"""
