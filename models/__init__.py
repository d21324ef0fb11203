"""The encoder, the fusion transformer and the two composed. Import from the modules: torch stays lazy."""
