"""Texts to token ids, by one set of rules for the service, the builder and the evaluation.

checking                  which texts are encoded
tokenizer                 open_clip's tokenizers behind one face
prompts                   class names in templates

torch comes with the tokenizer only.
"""
