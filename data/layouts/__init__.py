"""Readers of public data sets, each in the layout that its owner serves."""
