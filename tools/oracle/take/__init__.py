"""Boot a machine, take its memory at the instant, let livedump drain."""
