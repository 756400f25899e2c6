"use strict";
/* The report: one choice of kind, of time and of latencies, and what follows from it. */
(() => {
  const { data, byId, dark, own, grouped, ns, element, note, choice, table, state, unpack, whenChanged } = livedump;
  const meta = data.meta, over = data.over_time, began = meta.clocks.start.monotonic_ns;

  /* ---- what there is --------------------------------------------------- */

  const latencies = new Map(data.latencies.map((row) => [row.kind, row]));
  const known = Object.keys(data.kinds);
  const rank = (kind) => (known.includes(kind) ? known.indexOf(kind) : known.length);
  const kinds = [...new Set([...latencies.keys(), ...Object.keys(over.heat), ...Object.keys(data.flames)])]
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  const first = kinds.includes("cow") ? "cow" : kinds[0];
  const kindNow = () => state.oneOf("kind", [first, ...kinds]);

  const marked = data.stops.slice(0, data.stops_marked).map((row, place) => (
    { ...row, start_ns: row.start_monotonic_ns - began, rank: place, close: place < data.close_stops }))
    .sort((a, b) => a.number - b.number);
  const timeline = livedump.timeline({ over, closeUp: data.close_up, aroundNs: data.around_ns, stops: marked });
  const heat = livedump.heatMap({
    timeline, over, closeUp: data.close_up, stops: marked, stopsTotal: data.totals.stops,
    startMs: meta.clocks.start.realtime_ns / 1e6, sleptNs: data.suspended_ns,
  });
  const chosen = () => {
    const { span, range } = heat.chosen();
    return { span, range, any: Boolean(span || range), words: heat.where(span, range) };
  };

  /* ---- latency --------------------------------------------------------- */

  const quantiles = { p50: 500, p90: 900, p99: 990, "p99.9": 999 };
  /* As in the text: of fewer, a percentile is but the maximum once more. */
  const told = (row, name) => row.count * (1000 - own(quantiles, name, 0)) >= 1000;
  const percentiles = () => {
    const { span, range, any, words } = chosen();
    const rows = any ? data.latencies.map(({ kind }) => timeline.latency(kind, span, range)) : data.latencies;
    const valueOf = (row, name) => (told(row, name) ? row[`${name}_ns`] : null);
    const value = (name) => [(row) => ns(valueOf(row, name)), "n", (row) => valueOf(row, name)];
    byId("percentiles").replaceChildren(table(rows, [
      ["kind", (row) => {
        const cell = element("span", row.kind === kindNow() ? { class: "chosen" } : {}, element("code", {}, row.kind));
        if (own(data.kinds, row.kind)) cell.append(element("span", { class: "what" }, data.kinds[row.kind]));
        return cell;
      }, "", (row) => row.kind],
      ["count", (row) => grouped(row.count), "n", (row) => row.count],
      ...Object.keys(quantiles).map((name) => [name, ...value(name)]),
      [any ? "max, below" : "max", ...value("max")], [any ? "sum, about" : "sum", ...value("sum")],
    ], { first: 100 }));
    const within = Math.max(...rows.map((row) => row.within || 0));
    byId("percentiles-note").textContent = any
      ? `Only ${words}. Percentiles and sum are from bands of latency, within ${(100 * within).toFixed(1)} %.`
      : "Of the whole recording, unless something is chosen above.";
  };
  const histogram = () => {
    const kind = kindNow(), { span, range, any } = chosen(), target = byId("histogram");
    const row = any ? timeline.latency(kind, span, range) : latencies.get(kind);
    const buckets = any ? row.buckets : own(data.buckets, kind, []);
    const nothing = !row || !buckets.length || row.timed === false;
    byId("histogram-none").hidden = !nothing;
    byId("histogram-none").textContent = row && row.timed !== false ? "Nothing there." : `${kind} is counted, but not timed.`;
    target.hidden = nothing;
    if (nothing) return;
    const marks = ["p50", "p99", "max"].map((name) => [name, row[`${name}_ns`]]).filter(([name, value]) => value > 0 && told(row, name));
    livedump.histogram(target, { series: [{ name: kind, colour: "--accent", buckets, fill: true }], marks });
  };

  /* ---- stacks ---------------------------------------------------------- */

  const hash = (name) => {
    let value = 0;
    for (let i = 0; i < name.length; i += 1) value = (value * 31 + name.charCodeAt(i)) >>> 0;
    return value;
  };
  /* The kind, tasks, modules' functions and user space's, all others. */
  const colour = (node) => {
    const { name, parent } = node, spread = hash(name);
    if (!parent || name === "(left out)") return dark.matches ? "#8a929b" : "#c9cdd2";
    const callers = state.get("shape") === "callers", task = callers ? !node.children.length : !parent.parent;
    if (task) return `hsl(215 ${16 + spread % 12}% ${dark.matches ? 62 : 78}%)`;
    if (name.endsWith("]")) return `hsl(${172 + spread % 22} 42% ${dark.matches ? 56 : 68}%)`;
    return `hsl(${22 + spread % 26} ${58 + spread % 18}% ${(dark.matches ? 60 : 70) + spread % 8}%)`;
  };
  const share = (value, now) => {
    const amount = now.weight ? ns(value) : `${grouped(value)} faults`;
    return `${amount}, ${((100 * value) / now.root.value).toFixed(2)} %`;
  };
  const trees = new Map();
  const rooted = ({ kind, weight }) => {
    const { span, range, any } = chosen(), said = byId("flame-span");
    said.textContent = "";
    const packed = own(data.flames, kind);
    if (!packed) return { name: kind, value: 0, children: [], parent: null, empty: "No stacks of this kind were recorded." };
    if (!any) {
      const key = `${weight} ${kind}`;  // a hundred thousand frames are unpacked once
      if (!trees.has(key)) trees.set(key, unpack.tree(packed, 2, (weights) => ({ value: weights[weight] })));
      return trees.get(key);
    }
    const { root, span: wide, leftOut, step } = timeline.tree(kind, span, range, weight);
    said.textContent = `Only ${heat.where(span && wide, range)}` +
      `${leftOut ? `, without up to ${grouped(leftOut)} faults of rare stacks` : ""}.` +
      `${range ? ` Of a stack only its mean latency in ${ns(step)} is known: that lies there.` : ""}`;
    return root;
  };
  const flame = livedump.flameGraph({
    rooted, keys: ["value"], colour,
    describe: (node, now) => `${node.name}: ${share(node.value, now)}`,
    searched: (sum, now) => `, ${share(sum, now)}`,
  });
  for (const [kind, [taken, faults]] of Object.entries(data.samples)) {
    if (taken >= faults) continue;
    const [count, stalled] = data.stack_errors[kind].map((share) => `±${(100 * share).toFixed(1)} %`);
    byId("stacks").append(note(`${kind}: the stacks of ${grouped(taken)} faults were taken, by chance, and stand for ${grouped(faults)}: ` +
      `all together exactly, each as an estimate. Standard error of the heaviest: ${count} of its count, ${stalled} of its stalled time.`));
  }

  /* ---- tables ---------------------------------------------------------- */

  const show = (id, ...parts) => byId(id).querySelector(".content").replaceChildren(...parts.filter(Boolean));
  const query = (name) => `the others: livedump-trace query 'SELECT * FROM ${name}'`;
  const faults = ["faults", (row) => grouped(row.count), "n", (row) => row.count];
  const stalled = ["stalled", (row) => (row.stalled_ns ? ns(row.stalled_ns) : "–"), "n", (row) => row.stalled_ns];
  const ofAll = (any) => (any ? note("Of the whole recording: when is not known.") : null);

  const tasks = () => {
    const kind = kindNow(), { span, range, any, words } = chosen(), parts = [];
    if (any) {
      const found = timeline.tasks(kind, span, range);
      parts.push(note(`By name, only ${words}: from the stacks that were taken, so they are estimates.`));
      parts.push(found.rows.length ? table(found.rows, [["task", (row) => row.comm, "", (row) => row.comm], faults, stalled])
        : element("p", { class: "empty" }, "No stack was taken there."));
    }
    const rows = data.tasks.filter((row) => row.kind === kind), total = own(data.totals.tasks, kind, 0);
    parts.push(any ? element("h3", {}, "Whole recording") : null);
    parts.push(rows.length ? table(rows, [
      ["task", (row) => row.comm, "", (row) => row.comm], ["pid", (row) => String(row.pid), "n", (row) => row.pid],
      ["cgroup", (row) => row.cgroup || "–", "wide", (row) => row.cgroup || ""], faults, stalled,
    ], { total, more: query("tasks") }) : element("p", { class: "empty" }, `No tasks are known of kind ${kind}.`));
    show("tasks", ...parts);
  };
  const cpus = () => {
    const kind = kindNow(), rows = data.cpus.filter((row) => row.kind === kind);
    const sum = rows.reduce((all, row) => all + row.count, 0), all = own(latencies.get(kind), "count", 0) || sum;
    byId("cpus").hidden = !rows.length;
    show("cpus", ofAll(chosen().any), table(rows, [
      ["CPU", (row) => String(row.cpu), "n", (row) => row.cpu], faults,
      ["share", (row) => `${((100 * row.count) / (rows.length < own(data.totals.cpus, kind, 0) ? all : sum)).toFixed(1)}%`, "n"],
      stalled,
    ], { first: 8, total: own(data.totals.cpus, kind, 0), more: query("cpus") }));
  };
  const pages = () => {
    byId("pages").hidden = !data.pages.length;
    const classes = Object.entries(data.page_classes).map(([was, count]) => `${grouped(count)} ${was}`);
    show("pages", ofAll(chosen().any), table(data.pages, [
      ["page frame", (row) => element("code", {}, `0x${row.pfn.toString(16)}`), "", (row) => row.pfn], faults, stalled,
      ...(data.pages.some((row) => row.was) ? [["was", (row) => [row.was, row.name].filter(Boolean).join(" "), "wide", (row) => row.was || ""]] : []),
    ], { total: data.totals.pages, more: query("pages") }),
    classes.length ? note(`What all of them were: ${classes.join(", ")}.`) : null);
  };
  const stops = () => {
    byId("stops").hidden = !data.stops.length;
    const { span } = chosen(), after = (row) => row.start_monotonic_ns - began;
    const rows = data.stops.filter((row) => !span || (after(row) < span[1] && after(row) + row.duration_ns > span[0]));
    show("stops", note(span ? `Only ${heat.where(span, null)}.` : "Those of snapshots, then the longest."), table(rows, [
      ["stop", (row) => grouped(row.number), "n", (row) => row.number], ["after", (row) => ns(after(row)), "n", after],
      ["lasted", (row) => ns(row.duration_ns), "n", (row) => row.duration_ns],
      ["ran", (row) => element("code", {}, row.symbol), "wide", (row) => row.symbol],
      ["called by", (row) => `${row.comm} (${row.pid})`, "", (row) => row.comm], ["cgroup", (row) => row.cgroup || "–", "", (row) => row.cgroup || ""],
      ["CPU", (row) => String(row.cpu), "n", (row) => row.cpu], ["through", (row) => element("code", {}, row.site), "", (row) => row.site],
    ], { first: 20, total: data.totals.stops, more: query("stops") }));
  };

  /* ---- draw, and again when something else is chosen ------------------- */

  const has = { heat: Object.keys(over.heat).length > 0, stacks: Object.keys(data.flames).length > 0 };
  byId("time").hidden = !has.heat;
  byId("stacks").hidden = !has.stacks;
  byId("latency").hidden = !data.latencies.length;
  byId("bar").hidden = !kinds.length;
  byId("tasks").hidden = !data.tasks.length;
  const showKind = choice(byId("kinds"), kinds, (kind) => kind, (kind) => state.set({ kind: kind === first ? null : kind, frame: null }));

  const said = () => {
    const { any, words } = chosen();
    byId("chosen").textContent = any ? `Only ${words}` : "All of the recording";
    byId("chosen-clear").hidden = !any;
  };
  byId("chosen-clear").addEventListener("click", () => state.set({ span: null, latency: null }));
  const follow = () => {
    said();
    if (has.stacks) flame.draw(kindNow());
    if (data.latencies.length) { percentiles(); histogram(); }
    tasks();
    cpus();
    pages();
    stops();
  };
  const draw = () => {
    if (!kinds.length) { pages(); stops(); return; }
    showKind(kindNow());
    if (has.heat) heat.draw(kindNow());
    follow();
  };
  state.listen((changed) => {
    const any = (...keys) => keys.some((key) => changed.has(key));
    if (any("kind")) { draw(); return; }
    if (any("view", "zero") && has.heat) heat.draw(kindNow());
    else if (any("span", "latency") && has.heat) heat.reselect();
    if (any("span", "latency", "zero")) follow();
  });
  whenChanged(draw);
  draw();
  livedump.views = { flame, heat, timeline };
})();
