"""The path of an item: admission, decoding, batches, encode, search, fuse. Async outside, threads inside, no HTTP."""
