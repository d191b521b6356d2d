"""Looks and behaviour of the page of lesions; the data are in its rows."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --line: #d8dce0; --soft: #f4f6f8; --ink: #1b1f24; --back: #fff; --warn: #8a5a00;
  --bad: #b3261e; --link: #0b62b0 }
@media (prefers-color-scheme: dark) { :root { --line: #363c44; --soft: #1e2329; --ink: #e4e7eb; --back: #14181c;
  --warn: #f0b74a; --bad: #ff8a80; --link: #7cb8f5 } }
* { box-sizing: border-box }
body { margin: 0; padding: 1rem 1.25rem; font: 14px/1.45 system-ui, sans-serif; color: var(--ink);
  background: var(--back); font-variant-numeric: tabular-nums }
h1 { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere } h2 { font-size: 1rem; margin: 1rem 0 .3rem }
header p { margin: .2rem 0 .7rem }
input { font: inherit; padding: .3rem .5rem; width: min(22rem, 70vw) }
output { margin-left: .6rem; opacity: .75 }
.wide { overflow-x: auto; margin-top: .8rem }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .45rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line) }
th { background: var(--soft); vertical-align: bottom; font-weight: 600 }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: inherit;
  cursor: pointer }
th[aria-sort=ascending] button::after { content: " \\25B2" }
th[aria-sort=descending] button::after { content: " \\25BC" }
.text, [data-key=warnings], [data-key=raters], .picture { text-align: left }
td.text, td[data-key=raters] { overflow-wrap: anywhere; min-width: 5.2rem }
td[data-key=lesion] { font-weight: 600; min-width: 5rem }
td[data-key=size], td[data-key=spacing] { white-space: nowrap }
[data-key=warnings] { min-width: 13rem; color: var(--warn) } th[data-key=warnings] { color: inherit }
.bad, #failed b { color: var(--bad) }
ul { margin: 0; padding-left: 1.1rem } img { display: block; background: #000; height: auto }
#failed li { overflow-wrap: anywhere }
@media (max-width: 700px) {
  body { padding: .7rem } thead tr { display: flex; flex-wrap: wrap; gap: .2rem .8rem }
  th { padding: .2rem .3rem; border: 0 } th:first-child { display: none }
  table, thead, tbody { display: block } tbody tr { display: grid; grid-template-columns: 1fr 1fr; gap: .1rem .8rem;
    padding: .6rem 0; border-bottom: 1px solid var(--line) }
  tbody tr[hidden] { display: none }
  td { border: 0; padding: 0; text-align: left } td:empty { display: none }
  td:not(.picture)::before { content: attr(data-title) ": "; opacity: .7; font-weight: 400 }
  .picture, td[data-key=warnings], td[data-key=lesion] { grid-column: 1 / -1 } img { width: 100% }
}
"""

SCRIPT = """
"use strict";
(() => {
  const body = document.querySelector("#lesions tbody"), rows = [...body.rows];
  const heads = [...document.querySelectorAll("th[data-key]")], filter = document.getElementById("filter");
  const read = () => new URLSearchParams(location.hash.slice(1));
  const write = state => history.replaceState(null, "", "#" + state);
  const value = (row, key) => row.querySelector(`td[data-key="${key}"]`).dataset.value;
  function apply() {
    const state = read(), key = state.get("sort"), sign = state.get("dir") === "desc" ? -1 : 1;
    const head = heads.find(h => h.dataset.key === key), words = (state.get("q") || "").toLowerCase();
    for (const h of heads) h.setAttribute("aria-sort",
      h !== head ? "none" : sign < 0 ? "descending" : "ascending");
    const text = head && head.classList.contains("text");
    const order = !head ? rows : [...rows].sort((a, b) => {
      const u = value(a, key), v = value(b, key);
      if (u === "" || v === "") return (u === "") - (v === "");
      return sign * (text ? u.localeCompare(v, "en", {numeric: true}) : u - v);
    });
    body.append(...order);
    let shown = 0;
    for (const row of rows) shown += !(row.hidden = !row.textContent.toLowerCase().includes(words));
    document.getElementById("shown").textContent = `${shown} of ${rows.length} shown`;
    if (document.activeElement !== filter) filter.value = state.get("q") || "";
  }
  for (const head of heads) head.querySelector("button").addEventListener("click", () => {
    const state = read(), again = state.get("sort") === head.dataset.key && state.get("dir") !== "desc";
    state.set("sort", head.dataset.key);
    state.set("dir", again ? "desc" : "asc");
    write(state);
    apply();
  });
  filter.addEventListener("input", () => {
    const state = read();
    if (filter.value) state.set("q", filter.value); else state.delete("q");
    write(state);
    apply();
  });
  addEventListener("hashchange", apply);
  apply();
})();
"""
