"""Plots as inline SVG, drawn by the server: no script, no style attribute; the style sheet colours them.

Each function takes plain numbers and returns markup. Colours are classes, so that a dark page has dark plots.
"""
