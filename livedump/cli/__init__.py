"""The commands: the only part that imports click and rich, prints, and exits."""
