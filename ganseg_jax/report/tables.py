"""Tables as text: aligned for a terminal, Markdown for a file."""

from collections.abc import Sequence

Table = tuple[str, Sequence[str], Sequence[Sequence]]
"""(caption, header, rows); a row whose first cell starts with '*' is our own."""


def plain_table(table: Table) -> str:
    """Returns a table as aligned plain text."""
    caption, header, rows = table
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]

    def line(values: Sequence[str]) -> str:
        first, *others = values
        aligned = [first.ljust(widths[0])]
        aligned += [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        return "  ".join(aligned).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([caption, line(header), rule, *map(line, cells)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of texts as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 2 else f"{value:.4g}"
    return str(value)
