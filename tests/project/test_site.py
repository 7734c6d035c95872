"""The site that `make docs` builds: each page has its place and its contents, and nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog import errors
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from tests.project.test_docs import DOCS, FENCE, named

pytestmark = pytest.mark.lint

CHECKOUT = DOCS.parent


def words(page: Path) -> int:
    """What is read: without the bars of tables and the signs of Markdown."""
    return len(re.findall(r"\S*\w\S*", page.read_text()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does: a link or an anchor that leads nowhere, or a page without a place, is an error."""
    built = tmp_path_factory.mktemp("site")
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", built]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return built


def test_every_page_is_built_with_a_table_of_contents(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        html = (site / page.relative_to(DOCS)).with_suffix(".html").read_text()
        headings = re.findall(r"^##+ .+$", FENCE.sub("", page.read_text()), re.MULTILINE)
        assert headings, f"{named(page)} has no headings"
        contents = html.partition("md-sidebar--secondary")[2].partition("md-content")[0]
        assert contents.count("md-nav__link") >= len([each for each in headings if each.startswith("## ")]), named(page)


def test_nothing_of_a_page_comes_from_elsewhere(site: Path) -> None:
    """It reads the same without a network, and tells no other site who reads it."""
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(https?:|//)[^\"]*\"[^>]*>")
    for page in site.rglob("*.html"):
        found = [each[0] for each in loaded.finditer(page.read_text()) if 'rel="canonical"' not in each[0]]
        assert found == [], page.name


def test_signatures_link_to_types_and_errors(site: Path) -> None:
    html = (site / "reference" / "log-proof.html").read_text()
    assert "on_stream" in html.partition('id="eventlogverify"')[2].partition("</table>")[0]
    assert 'href="results.html#verified"' in html
    assert 'href="errors.html#prooferror"' in html


def test_code_is_rendered_as_code(site: Path) -> None:
    """A note to the tests in a fence would show the whole block as a paragraph."""
    for page in site.rglob("*.html"):
        assert "```" not in page.read_text(), page.name


def test_links_that_leave_the_docs_lead_to_the_repository(site: Path) -> None:
    html = (site / "how-to" / "agent-server.html").read_text()
    assert re.search(r'href="https://github\.com/[^"]+/blob/main/examples/agent-server/README\.md"', html)


def test_the_index_has_each_method_setting_error_table_metric_and_term(site: Path) -> None:
    html = (site / "a-z.html").read_text()
    entries = {re.sub(r"<[^>]+>", "", each).casefold() for each in re.findall(r"<li>(.+?): <a", html)}
    methods = {name for cls in (EventLogSaver, EventLog) for name in dir(cls) if not name.startswith("_")}
    settings = {field.alias or name for name, field in Settings.model_fields.items()}
    terms = set(re.findall(r"^## (.+)$", (DOCS / "glossary.md").read_text(), re.MULTILINE))
    names = (methods - {"config_specs", "serde"}) | settings | set(errors.__all__) | terms
    names |= {"streams", "checkpoints", "snapshots", "eventlog.append.size", "maintain", "append_checkpoint_v1"}
    assert {name for name in names if name.casefold() not in entries} == set()


def test_pages_are_short() -> None:
    found = {page.relative_to(DOCS).as_posix(): words(page) for page in DOCS.rglob("*.md")}
    assert {name: count for name, count in found.items() if count > 1_500} == {}
    assert words(CHECKOUT / "README.md") <= 900
    assert words(CHECKOUT / "CONTRIBUTING.md") <= 1_500


def test_how_to_guides_end_with_how_to_check_it() -> None:
    for page in (DOCS / "how-to").glob("*.md"):
        headings = re.findall(r"^## (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
        assert headings[-1] == "How to check it", named(page)


#: Words of sentences that a reader has to decode: their subject is a riddle.
RIDDLES = re.compile(r"\b(whoever|anew|nobody|somebody|whose)\b", re.IGNORECASE)


def test_sentences_have_a_concrete_subject() -> None:
    """In the documentation, and in docstrings, comments and messages of the product."""
    folders = ("docs", "eventlog", "projections", "snapshots", "langgraph", "sql", "examples", "demo")
    files = [path for folder in folders for path in (CHECKOUT / folder).rglob("*")]
    texts = {".html", ".js", ".md", ".py", ".sql", ".yml"}
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in [*files, *CHECKOUT.glob("*.md")]
        if path.suffix in texts and path.is_file() and not path.name.endswith(".min.js")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if RIDDLES.search(line)
    ]
    assert found == []
