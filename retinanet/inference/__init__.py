"""Trained detectors at work on pictures, by torch or exported."""
