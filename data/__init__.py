"""Pixels: read, check, split, cache and augment pictures and their masks."""
