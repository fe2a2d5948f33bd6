"""A run as one HTML page without any other file: markup, charts, drawings of cells, and the page around them.

Everything here takes plain arrays and JSON values, and returns `Markup`. Texts are escaped wherever they come from.
"""
