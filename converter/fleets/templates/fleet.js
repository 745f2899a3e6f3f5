"use strict";
const table = document.getElementById("models");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const value = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
const filter = () => {
  const words = document.getElementById("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = document.getElementById("status").value;
  let shown = 0;
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word)) || (status !== "" && row.className !== status);
    shown += row.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = `${shown} of ${body.rows.length} models`;
};
const sort = (column) => {
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const numeric = heads[column].classList.contains("n");
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [value(one, column), value(other, column)];
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = numeric ? Number(a) - Number(b) : a.localeCompare(b);
    return down ? -order : order;
  });
  body.append(...rows);
};
heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
document.getElementById("words").addEventListener("input", filter);
document.getElementById("status").addEventListener("change", filter);
filter();
