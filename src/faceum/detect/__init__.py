"""Face detectors, one a file: RGB image in, boxes with five points and scores out."""
