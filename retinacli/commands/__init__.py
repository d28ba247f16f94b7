"""One file per command: it parses, makes one call into the core and renders the result."""
