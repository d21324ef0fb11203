"""Single items of the memory that is served: shown to people, found, put in and taken out. Free of routes.

items          by id or by chance, as plain JSON
image_bytes    their thumbnails, and the page's samples, as answers that a browser cannot misread
pair_lookup    by key, and what operators added
pair_changes   added and removed while the service runs, each change a version
"""
