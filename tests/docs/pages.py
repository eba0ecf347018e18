"""The repository's pages, and what is in them: links, code blocks, command lines."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs/README.md"
FOLDERS = ("docs", "ringback", "receiver", "submitter", "examples", "bench", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SEPARATORS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "2>", "(", ")"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to a file of the repository, and perhaps to a heading in it."""

    page: Path
    target: Path
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A `ringback …` command line. One within a sentence may leave arguments out."""

    page: Path
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {shlex.join(self.words)}"


def prose(page: Path) -> str:
    """Give a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    """Give the code blocks in these languages."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [match[3] for match in found if match[2] in languages]


def links(page: Path) -> Iterator[Link]:
    """Give the links that lead to files of the repository."""
    for address in LINK.findall(INLINE.sub("``", prose(page)) + _linked_code(page)):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = address.partition("#")
        yield Link(page=page, target=(page.parent / path).resolve() if path else page, anchor=anchor)


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as they are usually made."""
    headings = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def reachable() -> set[Path]:
    """Follow the links from the index, page by page."""
    found, waiting = set[Path](), [INDEX]
    while waiting:
        page = waiting.pop()
        if page in found or page.suffix != ".md" or not page.is_file():
            continue
        found.add(page)
        waiting += [link.target for link in links(page)]
    return found


def command_lines() -> Iterator[Line]:
    """Give every `ringback …` line of every page: from shell blocks, and from sentences."""
    for page in PAGES:
        for text in blocks(page, "sh"):
            yield from _commands(page, text.replace("\\\n", " ").splitlines(), whole=True)
        for text in blocks(page, "console"):
            typed = [line[2:] for line in text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
            yield from _commands(page, typed, whole=True)
        yield from _commands(page, INLINE.findall(prose(page)), whole=False)


def _linked_code(page: Path) -> str:
    """Give the links whose text is code, which `INLINE` would empty."""
    return " ".join(f"[]({address})" for address in re.findall(r"\[`[^`]*`\]\(([^)\s]+)\)", prose(page)))


def _commands(page: Path, texts: list[str], *, whole: bool) -> Iterator[Line]:
    for text in texts:
        if not re.search(r"\bringback ", text):
            continue
        words: list[str] = []
        for word in [*_words(text), ";"]:
            if word in SEPARATORS:
                if words[:1] == ["ringback"]:
                    yield Line(page=page, words=tuple(words), whole=whole)
                words = []
            elif words or not re.match(r"[A-Z_]+=", word):  # variables before the command
                words.append(word)


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.wordchars += ":…<>,+@%[]{}!"
    lexer.commenters = "#"
    return list(lexer)
