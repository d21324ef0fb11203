"""Bytes of an image to pixels, by one set of rules for the service and the builder (docs/api.md has the codes).

preprocessor              bytes to the encoder's input
decoding                  bytes to upright RGB, and what is refused before a pixel is decoded
headers, orientation      what a file says of itself, read without decoding it
fast_resize               open_clip's resize by torch's kernels
thumbnails                the small picture that a memory may keep
raw_pixels                what the preprocessor leaves to the encoder's device, if asked for raw pixels
decode_process            what runs in the service's processes that decode beside a GPU
child_process             how a process that only decodes begins, the builder's too
"""
