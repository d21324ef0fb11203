"""Who may come in, and what is around every request: the connection, its limits and deadlines, keys, and the frame."""
