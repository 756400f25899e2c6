"use strict";
/* The comparison of two recordings: what changed first, then how. */
(() => {
  const { data, byId, dark, own, grouped, ns, element, note, choice, table, state, unpack, whenChanged } = livedump;

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
  const show = (row, value) => (Object.hasOwn(amounts, row.metric) ? amounts[row.metric] : ns)(value);
  // As compare.percent(): beside an interval that Python wrote.
  const percent = (share) => (share === null ? "–"
    : `${share < 0 ? "" : "+"}${(100 * share).toFixed(Math.abs(share) < 10 ? 1 : 0)}%`);

  /* By how much, up or down alike: half is as much as double. What came or went is the most. */
  const size = (row) => (row.before > 0 && row.after > 0 ? Math.abs(Math.log(row.after / row.before)) : row.before === row.after ? 0 : Infinity);
  const columns = [
    ["kind", (row) => element("code", {}, row.kind), "", (row) => row.kind], ["metric", (row) => row.metric, "", (row) => row.metric],
    ["A", (row) => show(row, row.before), "n"], ["B", (row) => show(row, row.after), "n"],
    ["B/A − 1", (row) => percent(row.change), "n", (row) => row.change],
    ["99 % interval", (row) => `${row.interval_text}${row.significant ? " *" : ""}`, "n"],
  ];
  const changed = data.changes.filter((row) => row.significant).sort((a, b) => size(b) - size(a));
  byId("changes").append(
    ...(changed.length ? [table(changed, columns, { first: 10 })]
      : [element("p", { class: "banner good" }, `Nothing changed by more than chance ${data.scope} explains, of what can be tested`)]),
    ...Object.entries(data.only).map(([kind, where]) => note(`Only ${where} has events of kind ${kind}.`)),
    note("Largest change first, of what is more than chance (*)."), ...data.legend.map((line) => note(line)));
  byId("all").append(table(data.changes, columns, { first: 16 }));

  const most = Object.entries(data.stacks).flatMap(([kind, rows]) => rows.map((row) => ({ kind, ...row })));
  byId("most").hidden = !most.length;
  byId("most").append(table(most, [
    ["kind", (row) => element("code", {}, row.kind), "", (row) => row.kind],
    ["A /s", (row) => rate(row.rate_a), "n", (row) => row.rate_a], ["B /s", (row) => rate(row.rate_b), "n", (row) => row.rate_b],
    ["A stalled /s", (row) => ns(row.stalled_a), "n", (row) => row.stalled_a],
    ["B stalled /s", (row) => ns(row.stalled_b), "n", (row) => row.stalled_b],
    ["A samples", (row) => grouped(row.samples_a), "n", (row) => row.samples_a],
    ["B samples", (row) => grouped(row.samples_b) + (row.few ? " (few)" : ""), "n", (row) => row.samples_b],
    ["stack, the innermost function first", (row) => row.stack.split(";").slice(-5).reverse().join(" < "), "wide", (row) => row.stack],
  ], { first: 20 }));

  /* ---- kinds, histograms ----------------------------------------------- */

  const timed = [...new Set(data.buckets.flatMap((buckets) => Object.keys(buckets)))];
  const kinds = [...new Set([...data.changes.map((row) => row.kind), ...timed, ...Object.keys(data.flames)])];
  const kindNow = () => state.oneOf("kind", kinds);
  byId("bar").hidden = !kinds.length;
  byId("latency").hidden = !timed.length;

  const sides = [["A", "--p4"], ["B", "--p3"]];
  const perSecond = (side, kind) => own(data.buckets[side], kind, [])
    .map(([low, high, count]) => [low, high, count / (data.lasted_ns[side] / 1e9)]);
  byId("histogram-legend").append(...sides.map(([side, colour]) => element("span", {}, element("i", { style: `background: var(${colour})` }), side)));
  const histogram = () => {
    const kind = kindNow(), target = byId("histogram"), nothing = !timed.includes(kind);
    byId("histogram-none").hidden = !nothing;
    byId("histogram-none").textContent = `${kind} is counted, but not timed.`;
    target.hidden = nothing;
    if (nothing) return;
    livedump.histogram(target, {
      series: sides.map(([side, colour], number) => ({ name: side, colour, buckets: perSecond(number, kind), fill: number === 0, dash: number ? "solid" : "dot" })),
      unit: "events a second", count: (value) => `${rate(value)}/s`,
    });
  };

  /* ---- flame graph ----------------------------------------------------- */

  const amount = (value, now) => (now.weight ? ns(value) : grouped(Math.round(value)));

  /* A frame is as wide as A and B together, so that what is gone is seen, too. */
  const rooted = ({ kind, weight }) => {
    const packed = own(data.flames, kind);
    if (!packed) return { name: kind, value: 0, children: [], parent: null, empty: "No stacks of this kind were recorded." };
    return unpack.tree(packed, 4, (weights) => ({ value: weights[weight] + weights[2 + weight], before: weights[2 + weight], after: weights[weight] }));
  };
  const colour = ({ before, after }) => {
    const change = (after - before) / (after + before || 1);
    const light = (dark.matches ? 68 : 92) - Math.round(38 * Math.abs(change));
    return `hsl(${change > 0 ? 8 : 212} ${Math.round(78 * Math.abs(change))}% ${light}%)`;
  };
  const describe = (node, now) => {
    const change = percent(node.before ? (node.after - node.before) / node.before : null);
    return `${node.name}: A ${amount(node.before, now)}, B ${amount(node.after, now)}, ${change}`;
  };
  const flame = livedump.flameGraph({ rooted, keys: ["value", "before", "after"], colour, describe });
  byId("stacks").hidden = !Object.keys(data.flames).length;
  if (data.flames_cut) {
    const { kept, frames } = data.flames_cut;
    byId("flame-cut").hidden = false;
    byId("flame-cut").textContent = `The ${grouped(kept)} heaviest of ${grouped(frames)} frames, to keep the page small; "(left out)" stands for the others.`;
  }

  /* ---- draw, and again when another kind is chosen --------------------- */

  const showKind = choice(byId("kinds"), kinds, (kind) => kind, (kind) => state.set({ kind: kind === kinds[0] ? null : kind, frame: null }));
  const draw = () => {
    if (!kinds.length) return;
    showKind(kindNow());
    histogram();
    flame.draw(kindNow());
  };
  state.listen((changed) => { if (changed.has("kind")) draw(); });
  whenChanged(draw);
  draw();
  livedump.views = { flame };
})();
