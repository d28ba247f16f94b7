"""Safe reading and writing of files: atomic writes, locks, size limits, plain YAML, downloads."""
