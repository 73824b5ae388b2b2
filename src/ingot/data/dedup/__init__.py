"""Deduplication: drop what repeats something earlier: whole texts, exactly or nearly, paragraphs, passages.

`exact` and `near` name the texts to drop; `paragraphs` and `substrings` cut repeated parts out of them. In
each, of two the earlier stays, and the result is the same however many processes made the signatures.
"""

from ingot.data.dedup.exact import Duplicate, exact_duplicates, text_hash
from ingot.data.dedup.minhash import MinHash, MinHashConfig
from ingot.data.dedup.near import near_duplicates, near_duplicates_of
from ingot.data.dedup.shingles import jaccard, shingles

__all__ = [
    "Duplicate",
    "MinHash",
    "MinHashConfig",
    "exact_duplicates",
    "jaccard",
    "near_duplicates",
    "near_duplicates_of",
    "shingles",
    "text_hash",
]
