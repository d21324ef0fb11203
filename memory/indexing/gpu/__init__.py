"""Searching and training on a GPU, through faiss-gpu. Without it, or without a GPU, nothing here is used.

owner     the one thread that uses FAISS's GPU objects
rows      every row of a segment in the GPU's memory, compared with each query
lists     8-bit codes of a segment in the GPU's memory, where its rows are too many
placing   which of the two a memory gets, or why neither

The GPU proposes; similarity and order are those of the stored rows, as everywhere (searching/ranking.py).
"""
