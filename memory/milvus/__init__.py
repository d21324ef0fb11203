"""A memory kept in Milvus: one entity = id, key, caption, image vector, text vector; search one, read the other.

Only `connection` and `pushing` import pymilvus (extra `milvus`), and only when they are used. A push copies a FAISS
memory into a collection of its own; a second collection holds the record that says what it is. docs/milvus.md.
"""

from memory.milvus.connection import MilvusServer, connect
from memory.milvus.indices import INDEX_TYPES, IndexChoice, choose_index
from memory.milvus.milvus_memory import MilvusMemory
from memory.milvus.pushing import Push, push

__all__ = ["INDEX_TYPES", "IndexChoice", "MilvusMemory", "MilvusServer", "Push", "choose_index", "connect", "push"]
