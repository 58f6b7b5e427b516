"""Raw files to packed shards: what is read, what is dropped and why, what is sampled, how it lies on disk.

Read it from `prepare.py` down. No text is ever in memory as a whole; of every document some 200 bytes are on
disk beside its text, and a few numbers in memory while they are sorted.
"""
