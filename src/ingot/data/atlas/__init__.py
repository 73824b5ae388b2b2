"""The atlas: a map of a corpus on one page. What is alike lies together; clusters carry their words.

vectors (words weighed, then condensed) -> neighbours -> layout (places on the map), clusters (and their
names), copies -> atlas -> page
"""
