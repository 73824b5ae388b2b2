"""The few SVG elements that the drawings are made of; every text is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape


def text(x: float, y: float, value: str, style: str, anchor: str = "start", after: str = "") -> str:
    """Returns a line of text with its baseline at y; `after` follows it in the style "version"."""
    tail = f'<tspan class="version">{escape(after)}</tspan>' if after else ""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{style}" {where}>{escape(value)}{tail}</text>'


def path(commands: str, style: str) -> str:
    """Returns a path; its colours are those of its style."""
    return f'<path class="{style}" d="{commands}"/>'


def dot(x: float, y: float, radius: float, style: str) -> str:
    """Returns a filled circle."""
    return f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def box(x: float, y: float, width: float, height: float) -> str:
    """Returns a rectangle with round corners."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="9"/>'


def down(x: float, start: float, end: float) -> str:
    """Returns an arrow that points down, from y = start to y = end."""
    head = f"M{x - 4:.1f} {end - 8:.1f}L{x:.1f} {end - 1:.1f}L{x + 4:.1f} {end - 8:.1f}z"
    return path(f"M{x:.1f} {start + 3:.1f}V{end - 6:.1f}", "arc") + path(head, "head")


def document(parts: Sequence[str], width: float, height: float, style: str, title: str) -> Markup:
    """Returns a whole drawing that scales with the page.

    Args:
        parts: elements made by the functions above.
        width, height: the drawing's own units.
        style: its class in the style sheet.
        title: what it shows, for readers who cannot see it.
    """
    name = escape(title)
    return Markup(
        f'<svg class="{style}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )
