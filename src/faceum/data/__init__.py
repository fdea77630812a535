"""Labelled faces for training: samples, packed files, sources, augmentation and batches."""
