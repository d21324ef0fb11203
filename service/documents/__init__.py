"""Pages made from the code: OpenAPI, /docs, docs/api.md, docs/settings.md. Nothing here answers for a model."""
