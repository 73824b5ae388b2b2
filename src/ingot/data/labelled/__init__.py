"""Examples with answers: texts and their classes, words and their tags, questions, pairs, translations.

lines (a file, or the standard library) -> tasks (each line checked) -> split -> batches
"""
