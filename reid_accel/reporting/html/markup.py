"""The bricks of `report.html`: text that is escaped, elements, sections, tables, bars.

Whatever comes from a run (titles, file names, warnings, the configuration) is escaped by `text`; only `Markup`,
which this room builds itself, is written as it stands.
"""

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """HTML that is ready to be written; every other string is escaped first."""


def text(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def joined(parts: Iterable[str], newline: bool = False) -> Markup:
    return Markup(("\n" if newline else "").join(text(part) for part in parts if part))


def element(tag: str, content: object, css_class: str = "", title: str = "") -> Markup:
    attributes = f' class="{text(css_class)}"' if css_class else ""
    attributes += f' title="{text(title)}"' if title else ""
    return Markup(f"<{tag}{attributes}>{text(content)}</{tag}>")


def section(title: str, *content: str, note: str = "") -> Markup:
    heading = joined([element("h2", title), element("p", note, "note") if note else ""])
    return Markup(f"<section>{heading}{joined(content, newline=True)}</section>")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], words: int = 1) -> Markup:
    """The first `words` columns hold words, the others numbers."""
    head = joined(element("th", name, "" if index < words else "n") for index, name in enumerate(headers))
    body = joined(
        element(
            "tr",
            joined(
                element("th" if index == 0 else "td", cell, "" if index < words else "n")
                for index, cell in enumerate(row)
            ),
        )
        for row in rows
    )
    return Markup(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def bar(fraction: float, baseline: float) -> Markup:
    """How far a fraction reaches, with a tick where the baseline stands."""
    reach, tick = (f"{100 * min(max(value, 0.0), 1.0):.1f}%" for value in (fraction, baseline))
    return Markup(f'<span class="bar"><i style="width:{reach}"></i><b style="left:{tick}"></b></span>')
