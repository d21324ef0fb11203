"""The gallery: one self-contained HTML page of examples, plain answers beside refined ones. Standard library only.

Every text is escaped and every image inline: a caption is what somebody wrote, and the page may be passed on.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from evaluation.examples import TOP, Answer, Example, Examples, Group, Shown, UsedNeighbour
from evaluation.figures import Figure, Section
from evaluation.refinement import SCORINGS, Mode

STYLE = Path(__file__).with_name("gallery.css")
_TITLES: dict[Group, str] = {"helped": "Where it helped", "harmed": "Where it harmed", "random": "Drawn at random"}
_WHAT: dict[Group, str] = {
    "helped": "wrong before, right at first place after",
    "harmed": "right before, not at first place after",
    "random": "whatever became of them",
}
_TEXT_LIMIT = 160


def gallery(
    tasks: Iterable[tuple[str, Sequence[str], Sequence[Section], Sequence[Examples]]], about: Sequence[str], mode: Mode
) -> str:
    """The page.

    Args:
        tasks: title, notes, tables and examples of each.
        about: what was evaluated, a sentence each.
        mode: that the examples show.
    """
    parts = [_head(about, mode)]
    for title, notes, sections, directions in tasks:
        parts.append(f"<h2>{escape(title)}</h2>")
        parts += [f'<p class="quiet small">{escape(note)}</p>' for note in notes]
        parts += [_table(section) for section in sections]
        for direction in directions:
            parts += _direction(direction)
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _head(about: Sequence[str], mode: Mode) -> str:
    sentences = "<br>".join(map(escape, about))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>RECO: what the memory changes</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style></head><body>
<h1>What the memory changes</h1>
<p class="quiet">{sentences}</p>
<p class="quiet small">Left, the {TOP} best answers of the frozen encoder (<i>none</i>); right, those of the mode
<i>{escape(mode)}</i>, by the first fusion. Examples are drawn at random from each group, by a fixed seed. Under a
neighbour stand its similarity to the query, and by how much the right answer's lead over the best wrong one shrinks
when that neighbour alone is left out: <span style="color:var(--good)">+</span> it helped,
<span style="color:var(--bad)">−</span> it stood in the way.</p>"""


def _table(section: Section) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in section.measures)
    rows = "".join(
        f"<tr><td>{scoring}</td>"
        + "".join(f"<td>{_figure(measure[scoring])}</td>" for measure in section.measures.values())
        + "</tr>"
        for scoring in SCORINGS
    )
    return f'<h3>{escape(section.title)}</h3><div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _figure(figure: Figure) -> str:
    gain = "" if figure.gain is None else signed(figure.gain)
    if figure.interval is not None:
        gain += f" [{', '.join(map(signed, figure.interval))}]"
    return f'{figure.mean:.1f} <span class="quiet small">{gain}</span>'


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a true minus, and no sign for what rounds to zero."""
    rounded = round(value, digits)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.{digits}f}"


def _direction(direction: Examples) -> list[str]:
    parts = []
    total = direction.counts["random"]
    for group, title in _TITLES.items():
        members = [example for example in direction.shown if example.group == group]
        count = direction.counts[group]
        number = f"{count:,} of {total:,} queries" if group != "random" else f"{len(members)} of {total:,} queries"
        parts.append(f"<h3>{title}: {escape(direction.title)}</h3>")
        shown = f", {len(members)} of them here" if group != "random" and count > len(members) else ""
        parts.append(f'<p class="quiet small">{number}: {_WHAT[group]}{shown}.</p>')
        parts += [_card(example) for example in members]
    return parts


def _card(example: Example) -> str:
    right = " / ".join(f"{_image(shown)}{_text(shown)}" for shown in example.right)
    ranks = f"{example.before:,} → {example.after:,}"
    return (
        f'<article class="card {example.group}"><div class="query">{_image(example.query)}'
        f"<b>{_text(example.query)}</b><div><span>right</span> {right}</div><div><span>rank</span> {ranks}</div></div>"
        f"<div><h4>frozen encoder</h4>{_answers(example.plain)}</div>"
        f"<div><h4>with the memory</h4>{_answers(example.refined)}</div>"
        + _used("What the memory found for the query", example.neighbours)
        + _used("What it found for the right answer", example.answer_neighbours)
        + "</article>"
    )


def _answers(answers: Sequence[Answer]) -> str:
    rows = []
    for place, answer in enumerate(answers):
        kind = "right" if answer.right else "wrong-first" if place == 0 else ""
        rows.append(
            f'<li class="{kind}">{_image(answer.shown)}<span>{_text(answer.shown)}</span>{answer.score:.3f}</li>'
        )
    return f'<ol class="answers">{"".join(rows)}</ol>'


def _used(title: str, neighbours: Sequence[UsedNeighbour]) -> str:
    if not neighbours:
        return ""
    rows = []
    for one in neighbours:
        worth = signed(one.influence, 4)
        kind = {"+": "does", "−": "undoes"}.get(worth[0], "quiet")
        influence = f' · <span class="{kind}">{worth}</span>'
        rows.append(
            f'<li>{_image(one.shown)}{_text(one.shown)}<div class="quiet">{one.similarity:.3f}{influence}</div></li>'
        )
    return f'<div class="used"><h4>{title}</h4><ol class="neighbours">{"".join(rows)}</ol></div>'


def _text(shown: Shown) -> str:
    text = shown.text if len(shown.text) <= _TEXT_LIMIT else f"{shown.text[: _TEXT_LIMIT - 1]}…"
    return escape(text)


def _image(shown: Shown) -> str:
    """Inline, if it is a JPEG as the builder makes them; anything else is not shown."""
    if not shown.thumbnail.startswith(b"\xff\xd8\xff"):
        return ""
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(shown.thumbnail).decode()}">'
