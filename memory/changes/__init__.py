"""Everything that makes one version of a memory from another, each in one commit that may be killed at any step.

adding, removing, rollback                  a few pairs in; items out of every search; an older version again
compaction, reindexing                      the same items without what is dead; the same rows, other indices
purging, receipts, holdings, traces         items out of every file there is, and what is told of that
garbage                                     what no version names
difference                                  what two versions do not share
key_patterns, near_duplicates               which items are meant
"""
