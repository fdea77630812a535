"""Readers of public data sets in their published layouts, one set a file."""
