"""Layer 2. Face detectors, one a file: RGB picture in, boxes with five points and scores out."""
