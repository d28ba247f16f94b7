"""The keys of a config: their types, defaults, bounds and presets."""
