"use strict";
/*
 * Tables that can be sorted and show some of their rows first.
 * columns: [title, how to show a row, class, what to sort by]; a column without the last cannot be sorted.
 */
livedump.table = (rows, columns, { first = 12, total = rows.length, more = "" } = {}) => {
  const { element, grouped, note } = livedump;
  const body = element("tbody");
  const below = element("div", { class: "below" });
  let ordered = rows, shown = first;

  const fill = () => {
    body.replaceChildren(...ordered.slice(0, shown).map((row) => element("tr", {}, ...columns.map(
      ([, show, kind]) => element("td", { class: kind || "" }, show(row))))));
    below.replaceChildren();
    if (Math.min(shown, rows.length) === total) return;
    below.append(note(`${grouped(Math.min(shown, rows.length))} of ${grouped(total)}${shown < rows.length || !more ? "" : `: ${more}`}`));
    if (shown >= rows.length) return;
    const button = element("button", { type: "button" }, `Show ${grouped(Math.min(rows.length - shown, 8 * first))} more`);
    button.addEventListener("click", () => {
      shown += 8 * first;
      fill();
      const next = below.querySelector("button");
      if (next) next.focus();
    });
    below.append(button);
  };

  /* Numbers: the greatest first, as that is what one looks for; text from A. What is not known comes last. */
  const sorted = (by, falling) => [...rows].sort((one, other) => {
    const [a, b] = [by(one), by(other)], lacks = [a, b].map((value) => value === null || value === undefined);
    if (lacks[0] || lacks[1]) return lacks[0] - lacks[1];
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return falling ? -order : order;
  });
  const heads = columns.map(([title, , kind, by]) => {
    const head = element("th", { class: kind || "", scope: "col" });
    if (!by || rows.length < 2) { head.append(title); return head; }
    const button = element("button", { type: "button", class: "sort" }, title);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const falling = before ? before === "ascending" : typeof by(rows.find((row) => by(row) !== null) || rows[0]) !== "string";
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      ordered = sorted(by, falling);
      fill();
    });
    head.append(button);
    return head;
  });
  fill();
  // A region that scrolls must be reached by the keyboard, too.
  const scrolling = element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" },
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body));
  return element("div", {}, scrolling, below);
};
