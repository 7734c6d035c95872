"""Changes pages before MkDocs renders them. They are written for GitHub and for the tests of their snippets.

* A link that leaves docs/ leads to the repository.
* The note of a fenced block (``python no-run: needs an API key``) is removed: it is for the tests, and would end the
  fence.
* The content of a list's item is indented by four spaces, as MkDocs needs it; GitHub needs two or three.
* The page a-z.md gets its entries: they are collected from the headings and tables of all pages.
* The name of a type in a signature leads to the section of the reference that has the type (`::: path`), or the error.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pydoc import locate
from typing import Any, NamedTuple

from markdown.extensions.toc import unique

__all__ = ["on_page_markdown"]

_INDEX = "a-z.md"

_LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^( *)```(\S*).*$")

#: The page of the errors, and their module.
_ERRORS = ("reference/errors.md", "eventlog.errors")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs calls it for each page; returns the text to render."""
    if page.file.src_uri == _INDEX:
        page.meta["search"] = {"exclude": True}
        opening = markdown.partition("\n## ")[0]
        return "\n".join([opening, *_index(files, config["mdx_configs"]["toc"]["slugify"])])
    for name, path in _types(page.file.src_uri, markdown):
        config["plugins"]["autorefs"].register_anchor(page, path, name.lower())
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    return "\n".join(_lines(markdown.split("\n"), folder, config["extra"]["repository"]))


def _types(uri: str, markdown: str) -> Iterator[tuple[str, str]]:
    """The types that have sections on a page: the name, and the path of the class where it is defined."""
    heading = ""
    for line in markdown.split("\n"):
        if line.startswith("##"):
            heading = line.lstrip("#").strip(" `")
            if uri == _ERRORS[0] and heading.isidentifier():
                yield heading, f"{_ERRORS[1]}.{heading}"
        elif line.startswith("::: ") and isinstance(found := locate(line[4:]), type):
            yield heading, f"{found.__module__}.{found.__qualname__}"


def _lines(lines: list[str], folder: str, repository: str) -> Iterator[str]:
    fence: str | None = None  # the indentation of the block that is open
    shift, after_blank = "", True
    for line in lines:
        if after_blank and fence is None:
            # The first line of a paragraph or block within an item of a list.
            shift = {2: "  ", 3: " "}.get(len(line) - len(line.lstrip(" ")), "")
        if match := _FENCE.match(line):
            if fence is None:
                fence = match[1]
                if match[2]:
                    line = f"{match[1]}```{match[2]}"
            elif match[1] == fence and not match[2]:
                fence = None
        elif fence is None:
            line = _LINK.sub(lambda link: _target(link, folder, repository), line)
        yield shift + line if line else line
        after_blank = fence is None and not line


def _target(link: re.Match[str], folder: str, repository: str) -> str:
    path, anchor = link[1], link[2] or ""
    resolved = posixpath.normpath(posixpath.join(folder, path))
    return link[0] if resolved == "docs" or resolved.startswith("docs/") else f"{repository}{resolved}{anchor}"


# --- a-z.md

_HEADING = re.compile(r"^(#{1,4}) +(.+?) *$")
_ROW = re.compile(r"^\| *([^|]+?) *\|")
_CODE = re.compile(r"`([^`]+)`")
#: The name at the start of ``log.prune(thread_ids, *, dry_run=False)``, ``eventlog project run`` or a metric.
_NAME = re.compile(
    r"^(?:await )?(?:eventlog |(?:[A-Z]\w*|log|saver|checkpointer)\.)?(\w[\w-]*(?:\.\w+)*(?: [a-z][a-z-]*)*)"
)
#: ``EventLog``, ``EventLog.prune``, but not ``Connections``.
_API = re.compile(r"[A-Z]\w*[a-z][A-Z]\w*(?:\.\w+)?")

#: By the beginning of a page's path: the kind of a name that stands as code in its headings.
_KINDS = {
    "reference/savers": "method",
    "reference/migrating-saver": "method",
    "reference/log": "method",
    "reference/results": "type",
    "reference/settings": "setting",
    "reference/cli": "command",
    "reference/errors": "error",
    "reference/schema": "table",
    "reference/operational-tables": "table",
    "reference/functions": "function",
}
#: Tables of the reference with one of these words above their first column: an entry of this kind for each row.
_COLUMNS = {each: each for each in ("method", "type", "setting", "error", "function", "metric")} | {
    "made with": "method"
}
_CODE_KINDS = {*_KINDS.values(), *_COLUMNS.values(), "class"}
#: Pages with entries for their parts, not only for the whole page.
_IN_DETAIL = ("reference/", "how-to/")
#: Its headings are those of other pages.
_NOT_IN_DETAIL = "reference/cli-json.md"
#: Headings that say nothing without their page.
_GENERAL = {"compare", "details", "example", "how to check it", "methods", "options", "overview"}
#: A heading on more pages than this is part of a pattern.
_MOST_PAGES = 3


class _Entry(NamedTuple):
    name: str
    kind: str
    """Empty for a topic: its link has the page's title."""
    page: str
    """The page's title."""
    target: str


def _index(files: Any, slugify: Any) -> Iterator[str]:
    """The entries of all pages, a heading for each letter."""
    found: dict[str, list[_Entry]] = {}
    for file in files.documentation_pages():
        if file.src_uri not in (_INDEX, "index.md") and not file.src_uri.startswith("benchmarks/"):
            for entry in _entries(file.src_uri, file.content_string, slugify):
                found.setdefault(entry.name.casefold(), []).append(entry)
    letter = ""
    for key in sorted(found, key=_order):
        entries = found[key]
        if len(entries) > _MOST_PAGES and not any(each.kind for each in entries):
            continue
        first = _order(key)[0][:1].upper()
        first = first if first.isalpha() else "0 to 9"
        if first != letter:
            letter = first
            yield from ("", f"## {letter}", "")
        name = next((f"`{each.name}`" for each in entries if each.kind in _CODE_KINDS), entries[0].name)
        yield f"* {name}: " + " · ".join(_links(entries))


def _links(entries: list[_Entry]) -> Iterator[str]:
    """One link for each kind on each page; the page's title where the kind does not tell them apart."""
    chosen = {(each.kind, each.page): each for each in reversed(entries)}
    kinds = [each.kind for each in chosen.values()]
    for each in reversed(chosen.values()):
        label = each.kind or each.page
        if each.kind and kinds.count(each.kind) > 1:
            label = f"{each.kind} ({each.page})"
        yield f"[{label}]({each.target})"


def _order(name: str) -> tuple[str, str]:
    return re.sub(r"^(?:an?|the) |^\W+|[^\w ]", "", name), name


def _entries(path: str, markdown: str, slugify: Any) -> Iterator[_Entry]:
    """Of one page: of its title, its headings and the rows of some tables."""
    kind = next((kind for start, kind in _KINDS.items() if path.startswith(start)), "")
    anchors: set[str] = set()
    rows: list[_Entry] = []  # after the headings, which tell more of the same name
    title, target, column, is_open = "", path, "", False
    for line in markdown.split("\n"):
        is_open ^= line.lstrip().startswith("```")
        if is_open:
            continue
        if match := _HEADING.match(line):
            column, level = "", len(match[1])
            text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", match[2])
            anchor = unique(slugify(re.sub(r"[`*]", "", text), "-"), anchors)
            title, target = title or text, f"{path}#{anchor}"
            names = list(_heading_names(text, kind))
            if level == 1:
                yield _Entry(text, _section(path), title, path)
            elif names:
                yield from (_Entry(name, _kind_of(name, kind), title, target) for name in names)
            elif path == "glossary.md":
                yield _Entry(text, "term", title, target)
            elif (
                level == 2
                and path.startswith(_IN_DETAIL)
                and path != _NOT_IN_DETAIL
                and text.casefold() not in _GENERAL
            ):
                yield _Entry(text, "", title, target)
        elif match := _ROW.match(line):
            column = column or match[1]
            if column in _COLUMNS and match[1] != column and path.startswith("reference/"):
                rows += (_Entry(name, _kind_of(name, _COLUMNS[column]), title, target) for name in _names(match[1]))
        else:
            column = ""
    yield from rows


def _heading_names(text: str, kind: str) -> Iterator[str]:
    """Of a heading that is code, as a command's, or that names a method or a class, as ``EventLog.prune``."""
    if text.startswith("`") and kind:
        yield from _names(text)
    elif (kind == "method" and _API.fullmatch(text)) or (kind == "type" and text.isidentifier()):
        yield text.rpartition(".")[2]


def _names(text: str) -> Iterator[str]:
    for code in _CODE.findall(text):
        if match := _NAME.match(code):
            yield match[1]


def _kind_of(name: str, kind: str) -> str:
    return "class" if kind == "method" and name[0].isupper() else kind


def _section(path: str) -> str:
    return {"how-to": "guide", "reference": "reference", "explanation": "explanation"}.get(path.split("/")[0], "page")
