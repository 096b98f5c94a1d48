"""What the yeast set is, without reading it (Elisseeff and Weston 2001)."""

YEAST_ROWS, YEAST_FEATURES, YEAST_LABELS = 2417, 103, 14
