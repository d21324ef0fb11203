"""One file per group of routes. Each has a `router(service)` and speaks HTTP; nothing in here computes."""
