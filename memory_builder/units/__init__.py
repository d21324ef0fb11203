"""Finished units: kept on disk until a version holds them, and brought together in the plan's order.

store        a unit on disk, whole or not there
admission    which of its rows enter the memory
books        all units so far: what is stored, what it replaces, what is rejected, and whether that is too much
segmenting   units to the segments of a version
"""
