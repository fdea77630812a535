"""The network: tensors in, tensors out. Needs the `torch` extra."""
