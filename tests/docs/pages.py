"""The pages of the documentation as data: code blocks with what is said of them, links, and headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "client" / "README.md", *(ROOT / "docs").glob("*.md")]
)
_FENCE = re.compile(r"^```(\w*)\s*$")
_NOTE = re.compile(r"^<!--\s*(.*?)\s*-->$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of code.

    Attributes:
        page, line: where it begins.
        language: of a fence; "" for one without, and for an indented block.
        note: the comment right before it, which says how the test treats it.
        code: its text.
    """

    page: Path
    line: int
    language: str
    note: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    found, note, lines = [], "", page.read_text(encoding="utf-8").splitlines()
    place = 0
    while place < len(lines):
        line, start = lines[place], place
        fence = _FENCE.match(line)
        if fence:
            end = next(number for number in range(place + 1, len(lines)) if lines[number].startswith("```"))
            found.append(Block(page, start + 1, fence[1], note, "\n".join(lines[place + 1 : end])))
            place, note = end + 1, ""
            continue
        if line.startswith("    ") and (place == 0 or not lines[place - 1].strip()):
            while place < len(lines) and (lines[place].startswith("    ") or not lines[place].strip()):
                place += 1
            code = "\n".join(one[4:] for one in lines[start:place]).rstrip()
            found.append(Block(page, start + 1, "", note, code))
            note = ""
            continue
        comment = _NOTE.match(line)
        note = comment[1] if comment else (note if not line.strip() else "")
        place += 1
    return found


def links(page: Path) -> list[str]:
    """Targets of the links of a page, code left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return _LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in titles}
