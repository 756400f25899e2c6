"""Developer tools of livedump: set-up, virtual machines, demo, benchmarks. Never installed."""
