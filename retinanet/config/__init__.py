"""The keys of a config: types, defaults, bounds, descriptions and presets."""
