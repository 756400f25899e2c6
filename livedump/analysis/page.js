"use strict";
(() => {
  const { data, byId, dark, css, grouped, ns, tick, element, table, scrolling, facts, choice, flameGraph, heatMap, spanTree, whenChanged } = livedump;

  /* ---- header ---------------------------------------------------------- */

  const meta = data.meta;
  const start = new Date(meta.clocks.start.realtime_ns / 1e6);
  byId("where").textContent = `${meta.host} · Linux ${meta.kernel.release}`;
  facts(byId("facts"), [
    ["Recorded", start.toISOString().replace("T", " ").slice(0, 19) + " UTC"],
    ["Duration", ns(data.duration_ns)],
    ["Suspended meanwhile", data.suspended_ns && ns(data.suspended_ns)],
    ["Command", meta.command && meta.command.argv.join(" ")],
    ["Exit status", meta.command && meta.command.status],
    ["Only faults of", Object.entries(meta.options.filter || {}).map(([what, whom]) => `${what} ${whom}`).join(", ")],
    ["CPUs", meta.cpus],
    ["Memory", meta.memory_bytes && `${(meta.memory_bytes / 2 ** 30).toFixed(1)} GiB`],
    ["Ended by", meta.ended_by],
  ]);

  /* ---- losses ---------------------------------------------------------- */

  const losses = byId("losses");
  if (data.losses.length) {
    losses.append(
      element("p", { class: data.events_lost ? "banner bad" : "note" }, data.losses_text),
      scrolling(table(data.losses, [
        ["where", (row) => row.probe], ["what", (row) => row.what, "wide"], ["count", (row) => grouped(row.count), "n"],
      ])));
  } else {
    losses.append(element("p", { class: "banner good" }, "Nothing that can be counted was lost"));
  }
  if (data.cow_check) {
    const check = data.cow_check;
    losses.append(element("p", { class: "note" },
      `Copy-on-write faults: ${grouped(check.module)} by the module's own count, ${grouped(check.seen)} seen by BPF, ` +
      `difference ${grouped(check.unseen)}` +
      (check.not_traced_by_module ? `, ${grouped(check.not_traced_by_module)} of them not traced by the module.` : ".")));
  }
  for (const text of data.unmeasured) losses.append(element("p", { class: "note" }, `Not countable: ${text}.`));
  for (const absent of data.absent) {
    losses.append(element("p", { class: "note" }, `Not recorded: ${absent.name}: ${absent.reason}.`));
  }
  if (data.flames_cut) {
    losses.append(element("p", { class: "note" },
      `Frames below ${(data.flames_cut * 100).toPrecision(2)} % are left out of the flame graph to keep the page small.`));
  }

  /* ---- downtime -------------------------------------------------------- */

  const colours = { rendezvous: "--p2", save: "--p1", protect: "--p3", flush: "--p4", recopy: "--p6", exit: "--p5" };
  byId("receipts").hidden = !data.receipts.length && !meta.triggers.length;
  for (const fired of meta.triggers) {
    const came = fired.done.file ? `${fired.done.file}, ${fired.done.verdict}`
      : fired.error ? `failed: ${fired.error}` : "not finished";
    byId("receipts").append(element("p", { class: "note" },
      `Triggered after ${ns(fired.slice * meta.slice_ns)} by ${fired.condition}: ${came}.`));
  }
  data.receipts.forEach((receipt, index) => {
    const whole = Math.max(1, Object.values(receipt.phases_ns).reduce((sum, value) => sum + value, 0));
    const bar = element("div", { class: "phases", role: "img", "aria-label": "Phases of the stop" });
    const legend = element("div", { class: "legend" });
    for (const [name, value] of Object.entries(receipt.phases_ns)) {
      const colour = `background: var(${colours[name]})`;
      if (value) bar.append(element("i", { style: `${colour}; width: ${(100 * value) / whole}%`, title: `${name} ${ns(value)}` }));
      legend.append(element("span", {}, element("i", { style: colour }), `${name} ${ns(value)}`));
    }
    const list = facts(element("dl", { class: "facts" }), [
      ["BPF's own measure, within that", receipt.bpf_stop_ns === null ? "not seen" : ns(receipt.bpf_stop_ns)],
      ["Difference", receipt.difference_ns === null ? null : ns(receipt.difference_ns)],
      ["Prepared in", ns(receipt.prepare_ns)],
      ["Entries protected", grouped(receipt.entries_protected)],
      ["Attempts", receipt.attempts],
      ["Held for", receipt.release_monotonic_ns && ns(receipt.release_monotonic_ns - receipt.snapshot_monotonic_ns)],
      ["Released in", receipt.release_ns && ns(receipt.release_ns)],
      ["Faults while held", receipt.faults !== null ? grouped(receipt.faults) : null],
      ["Pages lost", receipt.pages_lost !== null ? grouped(receipt.pages_lost) : null],
    ]);
    byId("receipts").append(element("div", { class: "receipt" },
      data.receipts.length > 1 ? element("h3", {}, `Snapshot ${index + 1}`) : "",
      element("p", { class: "big" }, `${ns(receipt.stop_ns)} `, element("small", {}, "the machine was stopped, by the module's own clock")),
      bar, legend, list));
  });

  /* ---- latency --------------------------------------------------------- */

  const latency = Object.fromEntries(data.latencies.map((row) => [row.kind, row]));
  const quantiles = ["p50", "p90", "p99", "p99.9"];
  byId("latency").hidden = !data.latencies.length;
  byId("percentiles").replaceWith(table(data.latencies, [
    ["kind", (row) => {
      const cell = element("span", {}, element("code", {}, row.kind));
      if (data.kinds[row.kind]) cell.append(element("span", { class: "what" }, data.kinds[row.kind]));
      return cell;
    }],
    ["count", (row) => grouped(row.count), "n"],
    ...quantiles.map((name) => [name, (row) => ns(row[`${name}_ns`]), "n"]),
    ["max", (row) => ns(row.max_ns), "n"],
    ["sum", (row) => ns(row.sum_ns), "n"],
  ]));

  const histogram = (kind) => {
    const x = [], y = [], text = [];
    let end = null;
    for (const [low, high, count] of data.buckets[kind]) {
      const left = Math.max(low, 0.5);
      if (end !== null && left > end) { x.push(end); y.push(0); text.push(""); }
      x.push(left); y.push(count); text.push(`${ns(low)} to ${ns(high)}`);
      end = high;
    }
    x.push(end); y.push(0); text.push("");
    x.unshift(x[0]); y.unshift(0); text.unshift("");
    const row = latency[kind];
    const marks = ["p50", "p99", "max"].map((name) => [name, row[`${name}_ns`]]).filter(([, value]) => value > 0);
    const low = Math.floor(Math.log10(x[0])), high = Math.ceil(Math.log10(end));
    const ticks = [];
    const room = byId("histogram").clientWidth < 600 ? 1 : 4;  // labels must not run into each other
    const steps = high - low > room ? [1] : [1, 2, 5];
    for (let power = low; power <= high; power += 1) ticks.push(...steps.map((step) => step * 10 ** power));
    Plotly.react(byId("histogram"), [{
      x, y, text, type: "scatter", mode: "lines", line: { shape: "hv", width: 1.2, color: css("--accent") },
      fill: "tozeroy", hovertemplate: "%{text}: %{y:,}<extra></extra>",
    }], {
      margin: { l: 56, r: 16, t: 26, b: 44 }, showlegend: false, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: css("--soft"), size: 12, family: "system-ui, DejaVu Sans, sans-serif" },
      xaxis: {
        type: "log", title: { text: "latency", standoff: 8 }, tickvals: ticks, ticktext: ticks.map(tick),
        gridcolor: css("--line"), zeroline: false,
      },
      yaxis: { title: { text: "events" }, gridcolor: css("--line"), zerolinecolor: css("--line"), rangemode: "tozero" },
      shapes: marks.map(([, value]) => ({
        type: "line", x0: value, x1: value, yref: "paper", y0: 0, y1: 1, line: { color: css("--p3"), width: 1, dash: "dot" },
      })),
      annotations: marks.map(([name, value]) => ({
        x: Math.log10(value), yref: "paper", y: 1, yanchor: "bottom", text: name, showarrow: false,
        font: { size: 11, color: css("--p3") },
      })),
    }, { displayModeBar: false, responsive: true });
  };

  /* ---- flame graph ----------------------------------------------------- */

  const hash = (name) => {
    let value = 0;
    for (let i = 0; i < name.length; i += 1) value = (value * 31 + name.charCodeAt(i)) >>> 0;
    return value;
  };
  const colour = (node) => {
    if (node.highlight) return "#d05ce3";
    const name = node.data.name;
    const spread = hash(name);
    if (node.depth === 0) return dark.matches ? "#8a929b" : "#c9cdd2";
    if (node.depth === 1) return `hsl(215 ${16 + spread % 12}% ${dark.matches ? 62 : 78}%)`;
    if (name.endsWith("]")) return `hsl(${172 + spread % 22} 42% ${dark.matches ? 56 : 68}%)`;
    return `hsl(${22 + spread % 26} ${58 + spread % 18}% ${(dark.matches ? 60 : 70) + spread % 8}%)`;
  };

  const shown = (node, weight) => {
    const made = { name: node.n, value: node.w[weight], children: [] };
    for (const child of node.c || []) if (child.w[weight]) made.children.push(shown(child, weight));
    return made;
  };
  const share = (value, state) => {
    const amount = state.weight ? ns(value) : `${grouped(value)} faults`;
    return `${amount}, ${((100 * value) / state.root.value).toFixed(2)} %`;
  };

  for (const [kind, [taken, faults]] of Object.entries(data.samples)) {
    if (taken < faults) {
      byId("stacks").append(element("p", { class: "note" },
        `${kind}: the stacks of ${grouped(taken)} faults were taken, by chance, and stand for ${grouped(faults)}.`));
    }
  }

  /* The span of time that the heat map has chosen; null: all. */
  const over = data.over_time;
  let chosen = null;
  /* Stacks are known by longer steps, where there are many. */
  const widened = ([from, to], step) => [Math.floor(from / step) * step, Math.ceil(to / step) * step];

  const flameKinds = Object.keys(data.flames);
  byId("stacks").hidden = !flameKinds.length;
  const flame = !flameKinds.length ? () => {} : flameGraph({
    kinds: flameKinds,
    kind: flameKinds.includes("cow") ? "cow" : flameKinds[0],
    rooted: (state) => {
      byId("flame-span").textContent = "";
      if (!chosen) return shown(data.flames[state.kind], state.weight);
      const { span, view, where } = chosen;
      const stacks = view.stacks[state.kind] || { every: 1, paths: [], cells: [], left_out: 0 };
      const whole = widened(span, stacks.every * view.step_ns);
      const rare = stacks.left_out ? `, without up to ${grouped(stacks.left_out)} faults of rare stacks` : "";
      byId("flame-span").textContent = `Only ${where(whole)}${rare}.`;
      return spanTree(stacks, view.step_ns, span, state.kind, state.weight);
    },
    colour,
    describe: (node, state) => `${node.data.name}: ${share(node.value, state)}`,
    searched: (sum, state) => `, ${share(sum, state)}`,
  });

  /* ---- over time ------------------------------------------------------- */

  byId("time").hidden = !Object.keys(over.heat).length;
  const began = meta.clocks.start.monotonic_ns;
  const heat = byId("time").hidden ? () => {} : heatMap({
    over,
    closeUp: data.close_up,
    aroundNs: data.around_ns,
    stops: data.stops.map((row, rank) => ({ ...row, start_ns: row.start_monotonic_ns - began, close: rank < data.close_stops }))
      .sort((a, b) => a.number - b.number),
    stopsTotal: data.totals.stops,
    select: (picked) => {
      chosen = picked;
      flame();
    },
  });

  /* ---- tables ---------------------------------------------------------- */

  const section = (id, rows, total, columns) => {
    byId(id).hidden = !rows.length;
    if (rows.length) byId(id).append(scrolling(table(rows, columns)));
    if (rows.length < total) byId(id).append(element("p", { class: "note" }, `${grouped(rows.length)} of ${grouped(total)}.`));
  };
  section("tasks", data.tasks, data.totals.tasks, [
    ["kind", (row) => element("code", {}, row.kind)], ["task", (row) => row.comm], ["pid", (row) => String(row.pid), "n"],
    ["cgroup", (row) => row.cgroup || "–", "wide"], ["faults", (row) => grouped(row.count), "n"],
    ["stalled", (row) => (row.stalled_ns ? ns(row.stalled_ns) : "–"), "n"],
  ]);
  const ofKind = {}, busiest = 8;
  for (const row of data.cpus) {
    ofKind[row.kind] = ofKind[row.kind] || { count: 0, shown: 0 };
    ofKind[row.kind].count += row.count;
  }
  section("cpus", data.cpus.filter((row) => ofKind[row.kind].shown++ < busiest), data.cpus.length, [
    ["kind", (row) => element("code", {}, row.kind)], ["CPU", (row) => String(row.cpu), "n"],
    ["faults", (row) => grouped(row.count), "n"], ["share", (row) => `${(100 * row.count / ofKind[row.kind].count).toFixed(1)}%`, "n"],
    ["stalled", (row) => (row.stalled_ns === null ? "–" : ns(row.stalled_ns)), "n"],
  ]);
  section("pages", data.pages, data.totals.pages, [
    ["page frame", (row) => element("code", {}, `0x${row.pfn.toString(16)}`)],
    ["faults", (row) => grouped(row.count), "n"], ["stalled", (row) => ns(row.stalled_ns), "n"],
    ...(data.pages.some((row) => row.was) ? [["was", (row) => [row.was, row.name].filter(Boolean).join(" "), "wide"]] : []),
  ]);
  const classes = Object.entries(data.page_classes).map(([was, count]) => `${grouped(count)} ${was}`);
  if (classes.length) byId("pages").append(element("p", { class: "note" }, `What all of them were: ${classes.join(", ")}.`));
  section("stops", data.stops, data.totals.stops, [
    ["stop", (row) => grouped(row.number), "n"],
    ["after", (row) => ns(row.start_monotonic_ns - meta.clocks.start.monotonic_ns), "n"],
    ["lasted", (row) => ns(row.duration_ns), "n"], ["ran", (row) => element("code", {}, row.symbol), "wide"],
    ["called by", (row) => `${row.comm} (${row.pid})`], ["cgroup", (row) => row.cgroup || "–"], ["CPU", (row) => String(row.cpu), "n"], ["through", (row) => element("code", {}, row.site)],
  ]);
  byId("about").append(scrolling(table(meta.probes, [
    ["probe", (row) => row.name], ["point", (row) => element("code", {}, row.point), "wide"],
    ["type", (row) => row.attach], ["why this one", (row) => row.why, "wide"],
  ])), facts(element("dl", { class: "facts" }), [
    ...Object.entries(meta.versions || {}), ["kernel", meta.kernel.version], ["clock source", meta.clocksource],
    ["boot", meta.boot_id],
  ]));

  /* ---- first paint, and again when width or colours change ------------- */

  const first = data.latencies.find((row) => row.kind === "cow") || data.latencies[0];
  let latencyKind = first && first.kind;
  if (latencyKind) {
    choice(byId("latency-kinds"), data.latencies.map((row) => row.kind), latencyKind, (kind) => kind, (kind) => {
      latencyKind = kind;
      histogram(kind);
    });
    histogram(latencyKind);
  }
  whenChanged(() => {
    if (latencyKind) histogram(latencyKind);
    heat();
    flame();
  });
})();
