"""What images are told apart by: labels and templates, and the class embeddings that are made of them.

class_embeddings   labels in templates, embedded and refined; an image's scores against them
class_cache        class embeddings that were computed before
label_sets         labels that go together, under a name
"""
