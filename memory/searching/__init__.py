"""Ranking by the stored rows: exact over all of them, or of candidates that lists propose (indexing/list_search.py)."""
