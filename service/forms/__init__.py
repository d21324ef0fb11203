"""What a request may look like: JSON, multipart, a raw image, OpenAI's fields. Each becomes items and options."""
