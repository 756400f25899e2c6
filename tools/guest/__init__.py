"""What runs inside a machine beside livedump: loads, modules, and the witness's view."""
