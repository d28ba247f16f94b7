"""One file per command: it parses its options, makes one call into the core and shows the result.

The core and everything that prints is imported inside the functions, so that `--help` does not wait for it.
"""
