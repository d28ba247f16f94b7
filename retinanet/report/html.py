"""Values, tables and pages as HTML: whatever is not markup of ours is shown as text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from retinanet.messages import printable

LONGEST = 22  # letters of a name in a figure or picture


class Html(str):
    """Markup, which `html` leaves as it is."""


def html(value: object) -> Html:
    """`value` so that a page shows it and does not obey it; None as a dash, control characters spelled out."""
    if isinstance(value, Html):
        return value
    return Html(escape("\u2013" if value is None else printable(value)))


def shortened(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\u2026"


def table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], text_columns: int = 1, wide: bool = False
) -> Html:
    """In a box of its own, in which it can be moved sideways. The first column names its row.

    text_columns: how many, from the left, are text and not numbers. wide: over the page's whole width.
    """
    sides = ["text" if index < text_columns else "number" for index in range(len(columns))]
    head = "".join(f'<th scope="col" class="{s}">{html(c)}</th>' for c, s in zip(columns, sides, strict=True))
    lines = []
    for first, *rest in rows:
        cells = "".join(f'<td class="{s}">{html(c)}</td>' for c, s in zip(rest, sides[1:], strict=True))
        lines.append(f'<tr><th scope="row" class="text">{html(first)}</th>{cells}</tr>\n')
    return Html(
        f'<div class="scroll" tabindex="0"><table{" class=wide" if wide else ""}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(lines)}</tbody></table></div>\n"
    )


def page(title: str, facts: Mapping[str, object], sections: Mapping[str, Html], style: str) -> str:
    """A page that can neither load nor run anything. facts: a table on top. sections: title -> body. style: CSS."""
    slugs = {name: re.sub(r"\W+", "-", name.lower()).strip("-") for name in sections}
    links = "".join(f'<li><a href="#{slug}">{html(name)}</a></li>' for name, slug in slugs.items())
    bodies = "".join(
        f'<section id="{slugs[name]}" aria-labelledby="{slugs[name]}-title">\n'
        f'<h2 id="{slugs[name]}-title">{html(name)}</h2>\n{body}</section>\n'
        for name, body in sections.items()
    )
    rows = "".join(f'<tr><th scope="row">{html(k)}</th><td>{html(v)}</td></tr>\n' for k, v in facts.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{html(title)}</h1>
<table class="facts">{rows}</table>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{bodies}</main>
</body>
</html>
"""
