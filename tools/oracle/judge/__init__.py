"""Every page of the image against the dump of the instant."""
