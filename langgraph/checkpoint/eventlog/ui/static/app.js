// Functions beyond links and forms: keys, marking two steps, live updates, copying, retrying.
// Pages work without this script, except for these. Nothing here writes HTML: content of the log is inserted as text,
// or comes as a page from the server.
"use strict";

(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (text) => { const said = $("#said"); if (said) said.textContent = text; };

  // --- rows: j and k move, Enter opens as on any link ------------------------------------

  const rows = () => $$("[data-row]").filter((row) => row.getClientRects().length);
  const focusable = (row) => $("[data-open]", row) || row;
  const current = () => document.activeElement?.closest("[data-row]") || null;

  function move(by) {
    const all = rows();
    if (!all.length) return;
    const at = all.indexOf(current());
    const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by;
    if (next >= all.length) { $("[data-more]")?.focus(); return; }
    const row = all[Math.max(0, next)];
    focusable(row).focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  // --- two marked steps open their diff --------------------------------------------------

  let marked = [];

  function showMarks() {
    for (const row of $$("[data-checkpoint]")) {
      const is = marked.includes(row.dataset.checkpoint);
      row.classList.toggle("is-marked", is);
      $("[data-mark]", row)?.setAttribute("aria-pressed", String(is));
    }
    const bar = $("#compare");
    if (!bar) return;
    bar.hidden = marked.length === 0;
    $(".text", bar).textContent = "One step is marked. Mark another one to see the diff.";
  }

  function mark(row) {
    const timeline = $("#timeline");
    const id = row?.dataset.checkpoint;
    if (!timeline || !id) return;
    marked = marked.includes(id) ? marked.filter((each) => each !== id) : [...marked, id];
    showMarks();
    if (marked.length < 2) { say(marked.length ? "Step marked" : "Step unmarked"); return; }
    const order = $$("[data-checkpoint]").map((each) => each.dataset.checkpoint);
    const sign = timeline.dataset.newest === "1" ? -1 : 1;
    const [before, after] = [...marked].sort((a, b) => sign * (order.indexOf(a) - order.indexOf(b)));
    marked = [];
    const url = new URL(timeline.dataset.diff, location.href);
    url.searchParams.set("before", before);
    url.searchParams.set("after", after);
    location.assign(url);
  }

  // --- keys ------------------------------------------------------------------------------

  const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || $("dialog[open]")) return;
    const act = {
      "/": () => { const search = $("[data-search]"); search?.focus(); search?.select(); },
      j: () => move(1),
      k: () => move(-1),
      d: () => mark(current()),
      "[": () => $("a[rel=prev]")?.click(),
      "]": () => $("a[rel=next]")?.click(),
      "?": () => $("#keys")?.showModal(),
      Escape: () => { if (marked.length) { marked = []; showMarks(); say("Unmarked"); } },
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-keys], [data-mark], [data-unmark], [data-copy]");
    if (!target) return;
    if ("keys" in target.dataset) $("#keys").showModal();
    else if ("mark" in target.dataset) mark(target.closest("[data-row]"));
    else if ("unmark" in target.dataset) { marked = []; showMarks(); }
    else copy(target);
  });

  async function copy(button) {
    const source = $(button.dataset.copy);
    // Marks of hidden characters are not part of the text. If there are any, the server sends the text separately.
    const text = source.dataset.text ?? source.textContent;
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
      button.classList.add("is-done");
      setTimeout(() => button.classList.remove("is-done"), 1500);
    } catch {
      // Without a secure context there is no clipboard: select the text, so that the reader can copy it.
      getSelection().selectAllChildren(source);
      say("Selected: press Ctrl+C to copy");
    }
  }

  // --- raw JSON: fetched when it is opened, shown as text ---------------------------------

  document.addEventListener("toggle", async (event) => {
    const details = event.target;
    const url = details.dataset?.json;
    if (!url || !details.open || details.dataset.loaded) return;
    details.dataset.loaded = "1";
    const pre = $("pre", details);
    try {
      const answer = await fetch(url, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      pre.textContent = JSON.stringify(await answer.json(), null, 2);
    } catch (error) {
      delete details.dataset.loaded;
      trouble(`The JSON was not loaded: ${error.message}. Close and open it to try again.`);
    }
  }, true);

  // --- errors of requests ------------------------------------------------------------------

  let hide;
  function trouble(text) {
    const toast = $("#trouble");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(hide);
    hide = setTimeout(() => { toast.hidden = true; }, 8000);
  }

  document.addEventListener("htmx:responseError", (event) => {
    const { status, response } = event.detail.xhr;
    const page = new DOMParser().parseFromString(response || "", "text/html");
    const message = $("#error .what", page)?.textContent.trim();
    trouble(message || `The server answered ${status}. Try again.`);
  });
  document.addEventListener("htmx:sendError", () => trouble("The server does not answer. Try again."));
  document.addEventListener("htmx:afterSettle", showMarks);

  // --- live: the server says that the thread has changed, and the rows are fetched again ---

  const live = $("[data-live]");
  let pause = 1000;

  function setLive(state, text) {
    live.hidden = false;
    live.dataset.state = state;
    $(".text", live).textContent = text;
  }

  let source = null, reopen, late;

  function unfollow() {
    source?.close();
    source = null;
    clearTimeout(reopen);
    isHere();
  }

  function isHere() {
    clearTimeout(late);
    late = undefined;
  }

  // A hidden tab holds no connection: a browser has only six of them for a server.
  function follow() {
    unfollow();
    if (document.hidden) return;
    source = new EventSource(live.dataset.live);
    source.addEventListener("open", () => {
      isHere();
      const wasLost = live.dataset.state === "lost";
      setLive("on", "Live");
      pause = 1000;
      // The page missed changes while it was hidden.
      if (wasLost) refresh();
    });
    source.addEventListener("changed", () => { setLive("on", "Live"); refresh(); });
    source.addEventListener("away", () => setLive("lost", "The database is away, trying again"));
    source.addEventListener("error", () => {
      const lost = () => setLive("lost", "Connection lost, trying again");
      // A browser reconnects by itself only after a lost connection, not after a refusal. The server ends each stream
      // after a minute: that alone is not shown.
      if (source?.readyState === EventSource.CONNECTING) { late ??= setTimeout(lost, 3000); return; }
      isHere();
      lost();
      reopen = setTimeout(follow, pause);
      pause = Math.min(pause * 2, 15000);
    });
  }

  let isRefreshing = false, again = false;

  async function refresh() {
    if (isRefreshing) { again = true; return; }
    isRefreshing = true;
    try {
      do {
        again = false;
        await fetchRows();
      } while (again);
    } catch {
      setLive("lost", "Connection lost, trying again");
    } finally {
      isRefreshing = false;
    }
  }

  async function fetchRows() {
    const timeline = $("#timeline");
    if (!timeline) { location.reload(); return; }
    const isNewest = timeline.dataset.newest === "1";
    const pages = $$("[data-page]", timeline).map((row) => row.dataset.page);
    // New events are on the first page if the newest come first, else on the last: only if that page is shown.
    const isAtEnd = isNewest || !$("li.more", timeline);
    const answer = await fetch(isNewest ? pages[0] : pages.at(-1), { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["summary", "asks"]) renew(id, page);
    if (!isAtEnd) return;
    const rows = $$("#timeline > li", page);
    // More than one page of rows is new: the rows between are on neither page.
    if (isNewest && !rows.some((row) => row.id && document.getElementById(row.id))) { location.reload(); return; }
    const come = merge(timeline, rows, isNewest);
    showMarks();
    if (come) say(`${come} new ${come === 1 ? "step" : "steps"}`);
  }

  function renew(id, page) {
    const [old, now] = [document.getElementById(id), page.getElementById(id)];
    if (old && now && old.outerHTML !== now.outerHTML) old.replaceWith(document.adoptNode(now));
    else if (old && !now) old.remove();
    else if (!old && now) $("#summary")?.after(document.adoptNode(now));
  }

  // Unchanged rows stay, with the focus and their open parts.
  function merge(timeline, rows, isNewest) {
    let come = 0;
    let place = isNewest ? timeline.firstElementChild : null;
    for (const row of rows) {
      if (row.classList.contains("more")) {
        if (!isNewest && !$("li.more", timeline)) { timeline.append(adopt(row)); }
        continue;
      }
      const old = document.getElementById(row.id);
      if (!old) {
        adopt(row).classList.add("is-new");
        timeline.insertBefore(row, isNewest ? place : null);
        come += row.matches(".step") ? 1 : 0;
      } else {
        if (signature(old) !== signature(row)) {
          const hadFocus = old.contains(document.activeElement);
          const open = $$("details", old).map((each) => each.open);
          if (open.some(Boolean)) $$("details", row).forEach((each, at) => { each.open = open[at] ?? each.open; });
          old.replaceWith(adopt(row));
          if (hadFocus) focusable(row).focus({ preventScroll: true });
        }
        if (isNewest) place = document.getElementById(row.id).nextElementSibling;
      }
    }
    return come;
  }

  const adopt = (row) => { document.adoptNode(row); window.htmx?.process(row); return row; };

  // Keep the reader's marks and open parts; the rest comes from the server.
  function signature(row) {
    const copy = row.cloneNode(true);
    copy.classList.remove("is-marked", "is-new");
    copy.removeAttribute("data-page");
    for (const each of $$("[aria-pressed]", copy)) each.setAttribute("aria-pressed", "false");
    for (const each of $$("details[open]", copy)) each.removeAttribute("open");
    return copy.outerHTML.replace(/class=""/g, "");
  }

  if (live && "EventSource" in window) {
    follow();
    addEventListener("pagehide", unfollow);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { unfollow(); return; }
      follow();
      refresh();
    });
  }

  // --- the database is away: request the page until it answers -----------------------------

  const away = $("[data-retry]");
  if (away) {
    const seconds = Number(away.dataset.retry) || 3;
    const again = async () => {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (answer.status !== 503) { location.reload(); return; }
      } catch { /* The server is away too: the next round asks again. */ }
      setTimeout(again, seconds * 1000);
    };
    setTimeout(again, seconds * 1000);
  }
})();
