"""The page at /: its files, and the samples and figures that only it shows. All it loads comes from this service."""
