"""The built-in world: a procedural field guide and the tiny CLIP that learned a part of it."""
