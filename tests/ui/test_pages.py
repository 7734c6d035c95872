"""Each page of the viewer, as a reader uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import Site, run_site

pytestmark = pytest.mark.ui

OpenPage = Callable[..., Any]


@pytest.mark.gate
def test_threads_show_their_status_and_the_pending_interrupt(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads?q=order-")
    row = page.get_by_role("row").filter(has_text="order-1043")
    expect(row).to_contain_text("waiting for an answer")
    expect(row).to_contain_text("Refund 89.00 EUR for order 1043?")
    expect(page.get_by_role("row").filter(has_text="order-1041")).to_contain_text("failed")
    expect(page.get_by_role("row").filter(has_text="order-1042")).to_contain_text("idle")


@pytest.mark.gate
def test_searching_an_id_narrows_the_list(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.root)
    page.get_by_label("Thread id").fill("order-104")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody [data-row]")).to_have_count(4)
    expect(page).to_have_url(f"{site.root}/threads?q=order-104&filter=&status=")
    page.get_by_label("Thread id").fill("no such thread")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No thread matches.")).to_be_visible()


def test_threads_are_filtered_by_metadata_and_status(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads")
    page.get_by_label("Metadata", exact=True).fill("channel=web")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody [data-row]")).to_have_count(3)
    page.get_by_label("Metadata", exact=True).fill("customer=edsger")
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody [data-row]")).to_have_count(1)
    expect(page.locator("tbody [data-row]")).to_contain_text("order-1041")
    page.get_by_role("link", name="remove the filter channel=web").click()
    expect(page.locator(".chosen li")).to_have_count(1)
    expect(page.get_by_label("Status")).to_have_value("failed")


def test_older_threads_come_beneath_the_others(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads")
    rows = page.locator("tbody [data-row]")
    before = rows.count()
    page.get_by_role("link", name="Older threads").click()
    expect(rows.nth(before)).to_be_visible()
    ids = page.locator("tbody [data-open]").all_inner_texts()
    assert len(ids) == len(set(ids))
    assert page.url == f"{site.root}/threads"


def test_older_threads_are_a_page_without_scripts(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads", java_script_enabled=False)
    first = page.locator("[data-open]").first.inner_text()
    page.get_by_role("link", name="Older threads").click()
    expect(page.locator("tbody [data-row]").first).to_be_visible()
    assert page.locator("[data-open]").first.inner_text() != first


@pytest.mark.gate
def test_a_timeline_shows_steps_with_their_tasks(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1041"))
    steps = page.locator("li.step")
    expect(steps.first).to_contain_text("input")
    failed = page.locator("li.step.has-error")
    expect(failed).to_contain_text("tools")
    expect(failed).to_contain_text("error")
    expect(page.locator("#summary")).to_contain_text("failed")
    assert page.locator(".tasks .after").count() > 0
    assert page.locator(".timeline .at .after").count() > 3


def test_a_timeline_shows_branches_with_their_tips(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1040", "?newest=1"))
    expect(page.locator(".branches")).to_contain_text("3 branches")
    expect(page.locator("li.step.is-tip")).to_have_count(3)
    assert page.locator("li.step .tag", has_text="fork").count() >= 2
    assert page.locator(".lane.turn").count() >= 2
    page.locator(".branches a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Step")


def test_operations_stand_in_the_timeline_where_they_happened(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1039"))
    record = page.locator("li.record")
    expect(record).to_contain_text("Erased in part")
    expect(record).to_contain_text("retention")
    record.get_by_text("Record", exact=True).click()
    expect(record.locator(".tree").first).to_be_visible()
    page.goto(site.thread("order-1039-copy"))
    expect(page.locator("li.record").first).to_contain_text("order-1039")


def test_a_step_leads_into_its_subgraph(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1042"))
    page.locator(".subgraphs a").first.click()
    expect(page.locator(".namespaces [aria-current]")).to_contain_text("refund")
    expect(page.locator("li.step").first).to_be_visible()
    page.locator("li.step [data-open]").last.click()
    expect(page.get_by_label("About this checkpoint")).to_contain_text("refund:")


def test_a_long_timeline_is_paged(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("long", "?newest=1"))
    steps = page.locator("li.step")
    before = steps.count()
    page.get_by_role("link", name="Earlier steps").click()
    expect(steps.nth(before)).to_be_visible()
    ids = page.locator("li.step").evaluate_all("rows => rows.map(row => row.id)")
    assert len(ids) == len(set(ids)) > before


@pytest.mark.gate
def test_a_checkpoint_shows_first_what_changed(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043", "?newest=1"))
    page.locator("li.step [data-open]").first.click()
    headings = page.locator("main h2").all_inner_texts()
    assert headings[0].startswith("Interrupt")
    assert [each.split()[0] for each in headings[1:4]] == ["Changed", "Messages", "State"]
    expect(page.locator(".notice.interrupts")).to_contain_text("waits for an answer")
    expect(page.locator(".notice.interrupts")).to_contain_text("Refund 89.00 EUR")


def test_messages_are_a_conversation(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043", "?newest=1"))
    page.locator("li.step [data-open]").first.click()
    talk = page.locator("section[aria-labelledby=messages-title] .message")
    expect(talk.nth(0)).to_contain_text("Hello, I have a question")
    expect(talk.nth(1)).to_contain_text("find_order")
    expect(talk.nth(1)).to_contain_text("gpt-5")
    expect(talk.nth(1)).to_contain_text("240 in, 18 out")
    expect(talk.nth(2)).to_contain_text("tool")
    expect(talk.nth(2)).to_contain_text("call_1")


def test_an_answered_interrupt_says_who_answered(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1042"))
    page.locator("li.step", has=page.locator(".tag", has_text="interrupt, answered")).locator(
        "[data-open]"
    ).first.click()
    notice = page.locator(".notice.interrupts")
    expect(notice.get_by_text("answered", exact=True)).to_be_visible()
    expect(notice).to_contain_text("Answer by clerk@shop.example")
    expect(notice).to_contain_text("approve")


def test_an_error_is_shown_with_its_node(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1041", "?newest=1"))
    page.locator("li.step [data-open]").first.click()
    expect(page.locator(".notice.is-failed")).to_contain_text("tools")
    expect(page.locator(".notice.is-failed pre")).to_contain_text("the carrier does not answer")


def test_config_is_copied_as_python(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"), permissions=["clipboard-read", "clipboard-write"])
    page.locator("li.step [data-open]").first.click()
    page.get_by_role("button", name="Copy the config").click()
    expect(page.locator("#said")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    names: dict[str, Any] = {}
    exec(copied, names)
    assert names["config"]["configurable"]["thread_id"] == "order-1043"


def test_raw_json_is_a_click_away(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    page.locator("li.step [data-open]").first.click()
    page.get_by_text("Raw JSON").click()
    pre = page.locator("[data-json] pre")
    expect(pre).to_contain_text('"thread_id": "order-1043"')
    assert json.loads(pre.inner_text())["thread_id"] == "order-1043"


def test_every_page_has_its_document_as_json(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    addresses = [f"{site.root}/threads", page.url, f"{site.root}/log", site.thread("order-1043", "/proof")]
    for address in addresses:
        page.goto(address)
        link = page.get_by_role("link", name="JSON", exact=True).get_attribute("href")
        answer = page.request.get(page.evaluate("href => new URL(href, location.href).href", link))
        assert answer.ok, link
        assert isinstance(answer.json(), dict)


def test_previous_and_next_walk_through_a_thread(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1041"))
    page.locator("li.step [data-open]").first.click()
    expect(page.get_by_role("link", name="Previous")).to_have_count(0)
    first = page.url
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Previous").click()
    expect(page).to_have_url(first)


def test_a_cut_value_opens_whole(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("long", "?newest=1"))
    page.locator("li.step [data-open]").first.click()
    channel = page.locator("details.channel", has=page.locator("summary .name", has_text="values"))
    channel.locator("> summary").click()
    expect(channel).not_to_contain_text("299")
    channel.get_by_role("link", name="Show all of it").click()
    expect(page.locator("details.channel.whole")).to_contain_text("299")


@pytest.mark.gate
def test_a_diff_shows_what_differs(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    ids = page.locator("[data-checkpoint]").evaluate_all("rows => rows.map(row => row.dataset.checkpoint)")
    page.goto(site.thread("order-1043", f"/diff?before={ids[1]}&after={ids[-1]}"))
    expect(page.locator("main")).to_contain_text("desk lamp")
    assert page.locator(".value.added").count() >= 3
    page.get_by_role("link", name="Swap").click()
    expect(page).to_have_url(site.thread("order-1043", f"/diff?before={ids[-1]}&after={ids[1]}"))
    assert page.locator(".value.removed").count() >= 3


def test_a_diff_is_chosen_in_a_form(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043", "/diff"))
    page.get_by_label("Checkpoint before").select_option(index=3)
    page.get_by_label("Checkpoint after").select_option(index=1)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Common ancestor")).to_be_visible()


def test_the_state_at_a_time_is_that_of_the_moment(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    steps = page.locator("li.step").all()
    times = [step.locator("time").first.get_attribute("datetime") for step in steps]
    time = times[2]
    # A time in whole milliseconds includes all of its millisecond, in which a fast machine saves several.
    last = max(number for number, each in enumerate(times) if each == time)
    checkpoint = steps[last].get_attribute("data-checkpoint")
    page.get_by_role("link", name="At a time").click()
    page.get_by_label("Time", exact=False).fill(str(time))
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#checkpoint-id")).to_have_text(str(checkpoint))
    page.get_by_label("Time", exact=False).fill("2001-01-01T00:00:00Z")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("The thread had no checkpoint at that time.")).to_be_visible()


@pytest.mark.gate
def test_a_thread_is_verified_now(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043", "/proof"))
    page.get_by_role("button", name="Verify this thread now").click()
    expect(page.locator("#verified")).to_contain_text("No event was changed")
    assert page.url == site.thread("order-1043", "/proof")


def test_a_thread_is_verified_without_scripts(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043", "/proof"), java_script_enabled=False)
    page.get_by_role("button", name="Verify this thread now").click()
    expect(page.locator("#verified")).to_contain_text("No event was changed")


def test_erased_ranges_are_on_the_page_of_proof(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1039", "/proof"))
    expect(page.get_by_role("table").first).to_contain_text("retention")


def test_the_log_shows_partitions_and_figures(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/log")
    expect(page.get_by_role("heading", name="Partitions")).to_be_visible()
    expect(page.locator("main")).to_contain_text("events_")


def test_a_deleted_thread_says_when_and_by_whom(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads?status=deleted")
    page.get_by_role("link", name="order-1038").click()
    expect(page.locator("main")).to_contain_text("privacy@shop.example")


def test_unknown_addresses_are_pages_too(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.root)
    for address in (site.thread("nobody"), site.thread("order-1043", "/checkpoints/none"), f"{site.root}/nothing"):
        answer = page.goto(address)
        assert answer.status == 404
        expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
        expect(page.get_by_role("link", name="All threads")).to_be_visible()
    open_page.troubles.clear()  # type: ignore[attr-defined]  # Chromium reports each 404 as an error.


@pytest.mark.gate
def test_an_export_is_one_file_that_loads_nothing(site: Site, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(site.thread("order-1043"))
    with page.expect_download() as started:
        page.get_by_role("link", name="Export HTML").click()
    file = tmp_path / "thread.html"
    started.value.save_as(file)
    text = file.read_text()
    assert "<script" not in text
    assert 'href="' not in text
    requests: list[str] = []
    exported = open_page("about:blank", offline=True)
    exported.on("request", lambda request: requests.append(request.url))
    exported.goto(file.as_uri())
    expect(exported.locator("h1")).to_contain_text("order-1043")
    expect(exported.locator("body")).to_contain_text("Refund 89.00 EUR for order 1043?")
    assert exported.locator("li.step").count() > 5
    assert exported.evaluate("getComputedStyle(document.querySelector('.timeline')).listStyleType") == "none"
    assert requests == [file.as_uri()]


def test_json_lines_have_the_thread(site: Site, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(site.thread("order-1043"))
    with page.expect_download() as started:
        page.get_by_role("link", name="JSON lines").click()
    file = tmp_path / "thread.jsonl"
    started.value.save_as(file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) > 5


def test_a_mounted_viewer_stays_below_its_path(shown: str, open_page: OpenPage) -> None:
    with run_site(shown, prefix="/admin/threads-of") as site:
        page = open_page(f"{site.root}/threads?q=order-1043")
        page.get_by_role("link", name="order-1043").click()
        page.locator("li.step [data-open]").first.click()
        page.get_by_role("link", name="Threads").first.click()
        assert page.url.startswith(f"{site.root}/threads")
        assert page.locator("link[rel=stylesheet]").first.get_attribute("href").startswith("/admin/threads-of/static/")
