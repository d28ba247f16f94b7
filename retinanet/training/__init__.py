"""Training, from the config to the last checkpoint."""
