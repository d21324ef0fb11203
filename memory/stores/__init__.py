"""What is kept in an object store: single objects, read as files, and memories, copied here before they are opened.

    address    which texts are addresses, and which of their schemes the operator allows
    stored     an object, or a folder of them: state, bytes, listing; the only module that knows fsspec (extra `remote`)
    fetching   a memory as a copy in a folder of this host, whole and checked

Credentials come from the environment and from the store's own configuration, never from an address.
"""

from memory.stores.address import SCHEMES, check_address, check_schemes, is_address, named_schemes
from memory.stores.fetching import RemoteMemories, newest_remote_version
from memory.stores.stored import ObjectState, StoredFolder, StoredObject, StoredReader, matched

__all__ = [
    "SCHEMES",
    "ObjectState",
    "RemoteMemories",
    "StoredFolder",
    "StoredObject",
    "StoredReader",
    "check_address",
    "check_schemes",
    "is_address",
    "matched",
    "named_schemes",
    "newest_remote_version",
]
