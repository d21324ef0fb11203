"""What a build did. Imports nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BuildResult:
    """What a build did: `rows` = `added` + `present` + `repeated` + all of `rejected`.

    Attributes:
        version: the memory's version now.
        digest: its content digest.
        created: whether this build made that version; False if nothing was new.
        num_items: items of the memory.
        rows: rows of the corpus.
        added: rows stored by this build.
        replaced: of these, rows that took the place of another pair of their key.
        present: rows that the memory held already.
        repeated: rows of the same key, image and caption as an earlier row of the corpus.
        rejected: rows not stored, by code; each with its reason in work/rejected.jsonl.
        rejected_earlier: of these, rows that were not looked at again, for the memory holds the rest of their unit.
        changed: of these, rows of another pair than the memory holds under their key: `upsert` replaces it.
        near_duplicates: of the added rows, those whose image is nearly that of an earlier row; listed in
            work/near_duplicates.jsonl.
        copies: of these, copies byte for byte.
        ignored: files and members that belong to no row.
        units: units of the plan: `units_encoded` now, `units_resumed` finished by an earlier run, the rest
            published.
    """

    version: int
    digest: str
    created: bool
    num_items: int
    rows: int
    added: int
    replaced: int
    present: int
    repeated: int
    rejected: dict[str, int]
    rejected_earlier: int
    changed: int
    near_duplicates: int
    copies: int
    ignored: int
    units: int
    units_encoded: int
    units_resumed: int
