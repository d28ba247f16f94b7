"""The command line `retina`."""
