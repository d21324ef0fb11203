"""Bytes of an image to pixels, by one set of rules for the service and the builder (docs/api.md has the codes).

preprocessor              bytes to the encoder's input
decoding                  bytes to upright RGB, and what is refused before a pixel is decoded
headers, orientation      what a file says of itself, read without decoding it
fast_resize               open_clip's resize by torch's kernels
thumbnails                the small picture that a memory may keep

A process that only decodes loads no torch.
"""
