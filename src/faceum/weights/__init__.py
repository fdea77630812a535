"""The weights that ship with the package: their registry, their hashes, and how to load them."""
