"""The command `retina`."""
