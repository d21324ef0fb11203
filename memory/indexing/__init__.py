"""Building the indices of a memory: which family, training, shards, and the recall that comes of it.

    options -> family -> training rows -> trained.faiss -> a shard for each segment -> recall -> search parameters

Imports of ours: this room only. What is imported from here is in building.py.
"""
