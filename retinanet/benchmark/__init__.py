"""How long a detector takes for one image."""
