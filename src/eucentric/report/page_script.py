"""What the pages do: sort tables, move through slices. Without it they show the same, in one order and one slice."""

SCRIPT = """
(() => {
"use strict";
const known = (text) => text !== "" && text !== "not known";
const compare = (a, b) => {
  const [m, n] = [Number(a), Number(b)];
  return Number.isNaN(m) || Number.isNaN(n) ? a.localeCompare(b, "en", { numeric: true }) : m - n;
};
const said = document.createElement("p");
said.setAttribute("role", "status");
said.className = "hint";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    if (head.hasAttribute("data-fixed")) return;
    const name = head.textContent.trim();
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      const text = (row) => row.cells[column].textContent.trim();
      const rows = [...body.rows];
      const ordered = rows.filter((row) => known(text(row))).sort((a, b) => compare(text(a), text(b)));
      if (way === "descending") ordered.reverse();
      body.append(...ordered, ...rows.filter((row) => !known(text(row))));
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", way);
      said.textContent = `Sorted by ${name}, ${way}.`;
      table.parentElement.after(said);
    });
  });
}
for (const box of document.querySelectorAll(".slider")) {
  const images = [...box.querySelectorAll("img")];
  const [input, output, button] = ["input", "output", "button"].map((name) => box.querySelector(name));
  let timer = 0;
  const show = () => {
    const place = Number(input.value);
    images.forEach((image, number) => { image.hidden = number !== place; });
    output.textContent = images[place].dataset.label;
    input.setAttribute("aria-valuetext", images[place].dataset.label);
  };
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; button.setAttribute("aria-pressed", "false"); };
  let step = 1;
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      const place = Number(input.value);
      if (place + step < 0 || place + step >= images.length) step = -step;
      input.value = place + step;
      show();
    }, 120);
  });
  input.addEventListener("input", () => { if (timer) stop(); show(); });
  show();
  box.querySelector(".controls").hidden = images.length < 2;
}
})();
"""
