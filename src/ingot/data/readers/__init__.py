"""Readers: one file per kind of file, each turning a `Source` into documents, or saying why it does not.

source <- reading (limits and encodings) <- unpacked (bounded decompression) <- the readers
"""
