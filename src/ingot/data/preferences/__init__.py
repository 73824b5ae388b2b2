"""Preferences that people give: pairs of answers, a page to judge them on, and how far judges agree.

pairs (what is judged) -> labelling (a local page) -> judgements (who said what) -> agreement, and the
pairs of a preference set
"""
