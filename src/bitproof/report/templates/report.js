"use strict";
// Tables sort by a click on a head. Without this script they stay in the order of the page.
const MINUS = /\u2212/g, SPACES = /[\u00a0\s]/g, SUPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";
function numberOf(cell) {
  const small = cell.querySelector("small");
  let text = cell.textContent;
  if (small) text = text.slice(0, text.length - small.textContent.length);
  text = text.replace(MINUS, "-").replace(SPACES, "").replace(/^±/, "");
  const power = text.match(/^(?:([\d.]+)×)?10(⁻?)([⁰¹²³⁴-⁹]+)$/);
  if (power) {
    const digits = [...power[3]].map((one) => SUPER.indexOf(one)).join("");
    return Number(power[1] || 1) * 10 ** Number((power[2] ? "-" : "") + digits);
  }
  const found = text.match(/^[+-]?[\d.]+(?:e[+-]?\d+)?/);
  return found ? Number(found[0]) : NaN;
}
function sortBy(table, head, column) {
  const body = table.tBodies[0], rows = [...body.rows];
  const down = head.getAttribute("aria-sort") === "descending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "ascending" : "descending");
  const sign = down ? 1 : -1;
  const keys = new Map(rows.map((row) => [row, [numberOf(row.cells[column]), row.cells[column].textContent]]));
  const numeric = [...keys.values()].some(([value]) => !Number.isNaN(value));
  rows.sort((a, b) => {
    const [x, s] = keys.get(a), [y, t] = keys.get(b);
    if (!numeric) return sign * s.localeCompare(t);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  });
  body.append(...rows);
}
for (const table of document.querySelectorAll(".scroll table")) {
  const rows = table.tHead ? [...table.tBodies[0].rows] : [];
  const width = rows.length && table.tHead.rows[0].cells.length;
  if (rows.length < 3 || rows.some((row) => row.cells.length !== width)) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.classList.add("sorts");
    head.tabIndex = 0;
    head.title = "sort by this column";
    const act = (event) => { if (!event.target.closest("a")) sortBy(table, head, column); };
    head.addEventListener("click", act);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(event); }
    });
  });
}
// Names in a legend switch their lines off and on.
for (const figure of document.querySelectorAll("figure[data-series]")) {
  const count = Number(figure.dataset.series);
  for (const legend of figure.querySelectorAll(".role-legend")) {
    const names = [...legend.querySelectorAll(".role-legend-label text")];
    const symbols = [...legend.querySelectorAll(".role-legend-symbol")];
    if (names.length !== count) continue;
    names.forEach((name, number) => {
      const parts = [name, symbols[number]].filter(Boolean);
      const act = () => {
        const off = name.classList.toggle("off");
        parts.forEach((part) => part.classList.toggle("off", off));
        name.setAttribute("aria-pressed", String(!off));
        for (const mark of figure.querySelectorAll(`[data-s="${number}"]`)) mark.toggleAttribute("data-off", off);
      };
      name.setAttribute("tabindex", "0");
      name.setAttribute("role", "button");
      parts.forEach((part) => {
        for (let one = part; one !== legend; one = one.parentNode) one.removeAttribute("pointer-events");
        part.classList.add("toggle");
        part.addEventListener("click", act);
      });
      name.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
      });
    });
  }
}
// Values show at once; without this script the browser shows the same titles after a moment.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
for (const title of document.querySelectorAll("figure svg title")) {
  const mark = title.parentNode, text = title.textContent;
  title.remove();
  const show = (event) => {
    tip.textContent = text;
    tip.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const y = event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18;
    tip.style.left = `${Math.max(x, 8)}px`;
    tip.style.top = `${y}px`;
  };
  mark.addEventListener("pointermove", show);
  mark.addEventListener("pointerdown", show);
  mark.addEventListener("pointerleave", () => { tip.hidden = true; });
}
