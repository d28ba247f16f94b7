"""One file per command. Slow imports are inside the functions, so that `--help` does not wait for them."""
