"""Horizontal bars as SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

ROW, LABEL, WIDTH, TOP = 28, 230, 760, 44


def bars(title: str, values: Mapping[str, float]) -> str:
    """One bar a value (>= 0), with a line at 1.0."""
    most = max(1.0, *values.values()) * 1.05
    scale = (WIDTH - LABEL - 60) / most
    one = LABEL + scale
    height = TOP + ROW * len(values) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" fill="#1a1a1a">{escape(title)}</text>',
    ]
    for row, (name, value) in enumerate(values.items()):
        y = TOP + ROW * row
        colour = "#2f7d4f" if value >= 1 else "#b7791f"
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 17}" text-anchor="end" fill="#1a1a1a">{escape(name)}</text>',
            f'<rect x="{LABEL}" y="{y + 4}" width="{value * scale:.1f}" height="{ROW - 9}" fill="{colour}"/>',
            f'<text x="{LABEL + value * scale + 6:.1f}" y="{y + 17}" fill="#1a1a1a">{value:.2f}</text>',
        ]
    bottom = height - 8
    parts.append(f'<path d="M{one:.1f} {TOP - 4}V{bottom}" stroke="#1a1a1a" stroke-dasharray="4 3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
