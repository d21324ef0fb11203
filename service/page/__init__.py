"""The page at /: its files and what it shows. Everything it loads comes from this service."""
