"""What a build tells: while it runs, when it ends, and in the files of work/ that people read.

progress, build_result   what programs are told, on the way and at the end
ledger                   the count of all rows, and when too many are rejected
near_duplicates          work/near_duplicates.jsonl: added images that the memory nearly had
build_log                work/build-log.jsonl: when which unit was finished
"""
