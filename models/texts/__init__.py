"""Texts to token ids, by one set of rules for the service, the builder and the evaluation.

checking                  which texts are encoded
tokenizer                 open_clip's tokenizers behind one face
prompts                   class names in templates
names                     which of some names a text mentions
word_index                which of many texts hold some words

torch comes with the tokenizer only.
"""
