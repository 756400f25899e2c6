"use strict";
(() => {
  const { data, byId, dark, grouped, ns, element, table, scrolling, flameGraph, whenChanged } = livedump;

  const name = (meta) => `${meta.host}, Linux ${meta.kernel.release}` +
    (meta.command ? `: ${meta.command.argv.join(" ")}` : "");
  const named = (side, metas) => metas.map((meta, at) => `${side}${metas.length > 1 ? at + 1 : ""}: ${name(meta)}`);
  byId("where").append(...[...named("A", data.a), ...named("B", data.b)].flatMap((line) => [line, element("br")]));

  const differences = [...data.differences, ...data.losses];
  byId("differences").hidden = !differences.length;
  byId("differences").append(...differences.map((line) => element("li", {}, line)));

  /* ---- tables ---------------------------------------------------------- */

  /* What is rare is not 0: as conditions.rate_text(). */
  const rate = (value) => {
    if (value === null) return "–";
    if (value === 0) return "0";
    if (value < 1) return value.toFixed(2 - Math.floor(Math.log10(value)));
    return value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  };
  const amounts = { rate: (value) => `${rate(value)}/s`, stalled: (value) => `${ns(value)}/s` };
  const show = (row, value) => (amounts[row.metric] || ns)(value);
  // As compare.percent(): beside an interval that Python wrote.
  const percent = (share) => (share === null ? "–"
    : `${share < 0 ? "" : "+"}${(100 * share).toFixed(Math.abs(share) < 10 ? 1 : 0)}%`);
  byId("changes").append(
    element("p", {}, `Chance is told ${data.scope}.`),
    scrolling(table([...data.changes].sort((a, b) => !!b.significant - !!a.significant), [
      ["kind", (row) => element("code", {}, row.kind)], ["metric", (row) => row.metric],
      ["A", (row) => show(row, row.before), "n"], ["B", (row) => show(row, row.after), "n"],
      ["B/A − 1", (row) => percent(row.change), "n"], ["99 % interval", (row) => `${row.interval_text}${row.significant ? " *" : ""}`, "n"],
    ])),
    ...data.legend.map((line) => element("p", { class: "note" }, line)));

  const most = Object.entries(data.stacks).flatMap(([kind, rows]) => rows.map((row) => ({ kind, ...row })));
  byId("most").hidden = !most.length;
  byId("most").append(scrolling(table(most, [
    ["kind", (row) => element("code", {}, row.kind)],
    ["A /s", (row) => rate(row.rate_a), "n"], ["B /s", (row) => rate(row.rate_b), "n"],
    ["A stalled /s", (row) => ns(row.stalled_a), "n"], ["B stalled /s", (row) => ns(row.stalled_b), "n"],
    ["A samples", (row) => grouped(row.samples_a), "n"],
    ["B samples", (row) => grouped(row.samples_b) + (row.few ? " (few)" : ""), "n"],
    ["stack, the innermost function first", (row) => row.stack.split(";").slice(-5).reverse().join(" < "), "wide"],
  ])));

  /* ---- flame graph ----------------------------------------------------- */

  const amount = (value, state) => (state.weight ? ns(value) : grouped(Math.round(value)));

  /* A frame is as wide as A and B together, so that what is gone is seen, too. */
  const shown = (node, weight) => ({
    name: node.n, value: node.w[weight] + node.a[weight], before: node.a[weight], after: node.w[weight],
    children: (node.c || []).map((child) => shown(child, weight)).filter((child) => child.value),
  });
  const colour = (node) => {
    if (node.highlight) return "#d05ce3";
    const { before, after } = node.data;
    const change = (after - before) / (after + before || 1);
    const light = (dark.matches ? 68 : 92) - Math.round(38 * Math.abs(change));
    return `hsl(${change > 0 ? 8 : 212} ${Math.round(78 * Math.abs(change))}% ${light}%)`;
  };
  const describe = (node, state) => {
    const { name: frame, before, after } = node.data;
    const change = percent(before ? (after - before) / before : null);
    return `${frame}: A ${amount(before, state)}, B ${amount(after, state)}, ${change}`;
  };

  const kinds = Object.keys(data.flames);
  byId("stacks").hidden = !kinds.length;
  if (kinds.length) {
    const rooted = (state) => shown(data.flames[state.kind], state.weight);
    whenChanged(flameGraph({ kinds, kind: kinds[0], rooted, colour, describe }));
  }
})();
