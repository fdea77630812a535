"""Analyze millions of images: a plan of shards, workers that may die, and one Parquet file per shard.

The command is `faceum batch`; docs/batch.md describes the folder that it writes.
"""
