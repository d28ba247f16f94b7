"""Checkpoints, and the conversion of other projects' weights."""
