"""What a memory promises on a volume that only RECO writes, and how a forgery is noticed by who kept the digest."""

import numpy as np

import memory
from memory import IndexOptions, Memory


def test_F12_no_change_of_ours_disturbs_what_is_mapped(root, factory):
    """A file cut short under a mapping ends the process; so files are only ever added and unlinked, never rewritten."""
    parts = [factory.make_rows(200, seed=1), factory.make_rows(100, seed=2)]
    factory.commit(root, parts, options=IndexOptions(factory="IVF8,SQ8"))
    queries = factory.unit_rows(4, factory.D, 0)
    with Memory.open(root) as opened:
        before = opened.search(queries, 20, modality="image", nprobe=8)
        memory.add_rows(root, factory.make_rows(5, seed=3), encoder=factory.encoder_record())
        memory.remove_keys(root, memory.KeyPatterns(["1-*"]))
        memory.compact(root)
        memory.reindex(root, IndexOptions(factory="exact"))
        memory.purge(root, memory.KeyPatterns(["2-7"]))
        memory.collect(root, keep=1)
        after = opened.search(queries, 20, modality="image", nprobe=8)
        np.testing.assert_array_equal(after.ids, before.ids)
        np.testing.assert_array_equal(after.values, before.values)


def test_F14_a_forged_memory_has_another_digest(built, factory):
    """Who can write the volume can make a memory that opens; who noted the digest of the right one notices."""
    noted = memory.read_manifest(built).digest
    path = next(built.glob("segments/*/items.arrow"))
    forged = path.read_bytes().replace(b"a photo of", b"no photo of"[:10])
    factory.replace_file(built, str(path.relative_to(built)), forged)
    with Memory.open(built) as opened:
        assert opened.captions()[0].startswith("no photo o")
        assert opened.digest != noted
