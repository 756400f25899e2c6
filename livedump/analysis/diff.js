"use strict";
(() => {
  const { data, byId, dark, grouped, ns, element, table, scrolling, choice, whenChanged } = livedump;

  const name = (meta) => `${meta.host}, Linux ${meta.kernel.release}` +
    (meta.command ? `: ${meta.command.argv.join(" ")}` : "");
  byId("where").append(`A: ${name(data.a)}`, element("br"), `B: ${name(data.b)}`);

  /* ---- tables ---------------------------------------------------------- */

  const amounts = { rate: (value) => `${value.toFixed(1)}/s`, stalled: (value) => `${ns(value)}/s` };
  const show = (row, value) => (amounts[row.metric] || ns)(value);
  const percent = (share) => (share === null ? "–" : `${share > 0 ? "+" : ""}${(100 * share).toFixed(1)} %`);
  const chance = (row) => (row.p_value === null ? "–" :
    `${row.p_value < 0.001 ? "< 0.001" : row.p_value.toFixed(3)}${row.significant ? " *" : ""}`);
  byId("changes").append(
    scrolling(table(data.changes, [
      ["kind", (row) => element("code", {}, row.kind)], ["metric", (row) => row.metric],
      ["A", (row) => show(row, row.before), "n"], ["B", (row) => show(row, row.after), "n"],
      ["B/A − 1", (row) => percent(row.change), "n"], ["p", chance, "n"],
    ])),
    element("p", { class: "note" },
      "p: how often chance alone would show such a change, if events were independent of each other; * below 0.01."));

  const most = Object.entries(data.stacks).flatMap(([kind, rows]) => rows.map((row) => ({ kind, ...row })));
  byId("most").hidden = !most.length;
  byId("most").append(scrolling(table(most, [
    ["kind", (row) => element("code", {}, row.kind)],
    ["A /s", (row) => row.rate_a.toFixed(1), "n"], ["B /s", (row) => row.rate_b.toFixed(1), "n"],
    ["stack, the innermost function first", (row) => row.stack.split(";").slice(-5).reverse().join(" < "), "wide"],
  ])));

  /* ---- flame graph ----------------------------------------------------- */

  const state = { kind: null, weight: 0, chart: null };
  const amount = (value) => (state.weight ? ns(value) : grouped(Math.round(value)));

  /* A frame is as wide as A and B together, so that what is gone is seen, too. */
  const shown = (node) => ({
    name: node.n, value: node.w[state.weight] + node.a[state.weight],
    before: node.a[state.weight], after: node.w[state.weight],
    children: (node.c || []).map(shown).filter((child) => child.value),
  });
  const colour = (node) => {
    if (node.highlight) return "#d05ce3";
    const { before, after } = node.data;
    const change = (after - before) / (after + before || 1);
    const light = (dark.matches ? 68 : 92) - Math.round(38 * Math.abs(change));
    return `hsl(${change > 0 ? 8 : 212} ${Math.round(78 * Math.abs(change))}% ${light}%)`;
  };
  const describe = (node) => {
    const { name: frame, before, after } = node.data;
    return `${frame}: A ${amount(before)}, B ${amount(after)}, ${percent(before ? (after - before) / before : null)}`;
  };

  const search = () => {
    const term = byId("flame-search").value.trim();
    if (!state.chart) return;
    if (term) state.chart.search(term); else state.chart.clear();
  };
  const flame = () => {
    const target = byId("flame");
    target.replaceChildren();
    state.chart = null;
    const root = shown(data.flames[state.kind]);
    if (!root.value) {
      target.append(element("p", { class: "empty" }, "Nothing to weigh: this kind was counted, but not timed."));
      return;
    }
    state.chart = flamegraph()
      .width(target.clientWidth).cellHeight(18).minFrameSize(1).transitionDuration(0).sort(true)
      .selfValue(false).setColorMapper(colour).setLabelHandler(describe)
      .setSearchMatch((node, term) => Boolean(term) && node.data.name.toLowerCase().includes(term.toLowerCase()))
      .setSearchHandler((found) => { byId("flame-details").textContent = `search: ${found.length} frames`; })
      .setDetailsHandler((text) => { byId("flame-details").textContent = text || describe({ data: root }); });
    d3.select(target).datum(root).call(state.chart);
    byId("flame-details").textContent = describe({ data: root });
    search();
  };

  const kinds = Object.keys(data.flames);
  byId("stacks").hidden = !kinds.length;
  byId("flame-search").addEventListener("input", search);
  byId("flame-reset").addEventListener("click", () => { if (state.chart) state.chart.resetZoom(); });
  if (kinds.length) {
    [state.kind] = kinds;
    choice(byId("flame-kinds"), kinds, state.kind, (kind) => kind, (kind) => { state.kind = kind; flame(); });
    choice(byId("flame-weights"), ["0", "1"], "0", (weight) => (weight === "0" ? "by count" : "by stalled time"), (weight) => {
      state.weight = Number(weight);
      flame();
    });
    flame();
    whenChanged(flame);
  }
})();
