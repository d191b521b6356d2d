"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
    const text = head.classList.contains("text"), value = row => row.cells[column].dataset.value;
    for (const other of heads) other.setAttribute("aria-sort", other !== head ? "none" : down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => {
      const u = value(a), v = value(b);
      if (u === "" || v === "") return (u === "") - (v === "");
      return sign * (text ? u.localeCompare(v, "en", {numeric: true}) : u - v);
    }));
  }));
}
