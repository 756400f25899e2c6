"""Load generators: processes, files, forks and network, for tests and the demo.

``python -m tools.guest.load`` runs them until SIGTERM and prints what each of them did.
"""
