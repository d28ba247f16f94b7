"""Files read and written safely: atomic writes, locks, limits on size, plain YAML, downloads."""
