"""Layer 2. The network: tensors in, tensors out. Needs the `torch` extra."""
