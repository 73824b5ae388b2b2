"""The report of a run and the cards of its models, drawn from what the artifacts' records say.

facts (read the artifacts) -> lineage, panels, sections, samples (give them shape) -> report (the page)
"""
