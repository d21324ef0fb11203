"""A memory as files (docs/memory-format.md): what stands in them, how they are written, and which versions there are.

durable, plain_files              writing that survives a power cut; opening that follows no link
strict_json                       the one form of a file that is hashed
rows, segments                    rows on their way in, and immutable on disk
named_arrays                      small arrays whose name is the hash of what they hold
deletes, removed                  what was taken out: row ids, and hashes of keys
encoder_record, families          which encoder made the rows; which kinds of indices there are
manifest, manifest_parser         a version, and the strict way back from its bytes
versions, publish                 which versions there are; the commit of the next
stamps                            what was hashed on this host already; kept outside the memory
work_files                        names in work/, which is part of no version

No FAISS. What these files are searched with is indexing/ and searching/.
"""
