"""What is in a dump of memory, whoever took it."""
