"""Evaluation: what the refined embeddings are worth, beside the frozen encoder and the controls.

Import from the modules: forms, checks and prompts can be asked before torch is loaded.
"""
