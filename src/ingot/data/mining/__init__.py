"""Mining: conversations that texts already hold, without a model to write them.

code (what a function does), sections (what stands under a heading), questions (and their answers),
dialogues (who said what) -> harvest (all of them over a corpus, each conversation once)
"""
