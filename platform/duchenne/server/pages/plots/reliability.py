"""The reliability diagram: how often what was predicted with a probability is so, and how many rows stand behind it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from duchenne.server.pages.plots.svg import Scale, figure, line, tag, text

WIDTH, HEIGHT = 340.0, 330.0
LEFT, RIGHT, TOP, BOTTOM, HISTOGRAM = 40.0, 14.0, 10.0, 38.0, 40.0
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_plot(bins: Sequence[tuple[int, float, float]], ece: float | None) -> Markup:
    """Bins of (rows, mean probability, share of positive labels), and the expected calibration error."""
    if not bins:
        return Markup("")
    low = HEIGHT - BOTTOM - HISTOGRAM
    x, y = Scale(0.0, 1.0, LEFT, WIDTH - RIGHT), Scale(0.0, 1.0, low, TOP)
    most = max(rows for rows, _, _ in bins)
    tall = Scale(0.0, float(most), 0.0, HISTOGRAM - 8)
    grid = "".join(f"M{x(tick):.1f} {TOP}V{low}M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" for tick in TICKS)
    places = [(x(predicted), y(frequency)) for _, predicted, frequency in bins]
    parts = [
        tag("path", d=grid, cls="grid"),
        tag("path", d=line([(x(0), y(0)), (x(1), y(1))]), cls="dashed"),
        tag("path", d=line(places), cls="line"),
        *(tag("circle", cx=at, cy=height, r=3.6, cls="dot") for at, height in places),
        *(
            tag("rect", x=at - 8, y=HEIGHT - BOTTOM - tall(rows), width=16.0, height=tall(rows), cls="h3")
            for (at, _), (rows, _, _) in zip(places, bins, strict=True)
        ),
        *(text(x(tick), HEIGHT - BOTTOM + 15, f"{tick:g}", anchor="middle") for tick in TICKS),
        *(text(LEFT - 6, y(tick) + 4, f"{tick:g}", anchor="end") for tick in TICKS),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "predicted probability; bars: rows", "label", "middle"),
        tag("text", "share of positive labels", x=0, y=0, cls="label", text_anchor="middle",
            transform=f"translate(11 {(low + TOP) / 2:.0f}) rotate(-90)"),
    ]  # fmt: skip
    said = "" if ece is None else f"; expected calibration error {ece:.3f}"
    return figure("reliability", WIDTH, HEIGHT, f"Reliability in {len(bins)} bins, all AUs and folds{said}", *parts)
