"""Instruction and preference data of other people's formats: read, validate, convert, curate.

rows (lines of a file) -> formats (alpaca, sharegpt, openai, trl, ...) -> record (what a row means)
-> reshape (a preference as two judged answers, a chat as prompt and completion) -> formats -> rows
"""
