"""The HTTP service: routes speak HTTP, the batcher knows time and capacity, the engine computes.

Imports nothing here, so that `import service` stays free of torch; start at `service.app.create_app`.
"""
