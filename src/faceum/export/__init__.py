"""Turn a trained network into files for other runtimes, and check that the answers agree."""
