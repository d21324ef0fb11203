"""Rows of a unit to embeddings; what comes of a unit depends on the unit alone, never on who encodes it or when.

mapper                          a unit: which of its rows may be stored, in which batches
image_batches, caption_batches  its images in order, its captions by length
lanes/                          a batch: decoded and encoded, by threads or beside processes
decoding                        an image: bytes to hash, pixels and thumbnail
begun                           the batches that were done when a build was stopped
"""
