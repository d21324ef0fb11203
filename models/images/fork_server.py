"""Imported by the server of forks alone, before it forks: what its children need, loaded once.

A supervisor that ends a service asks every process of it to end. Whoever decodes has to go on until the last image is
answered, and this server with it, because without it its children count as dead. Both end with the process that they
work for.
"""

import signal

import open_clip.transform  # noqa: F401 - what the preprocessor is made of

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
