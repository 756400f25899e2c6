"use strict";
/*
 * Latency over time: a canvas of faults by step and latency, under a brush. over: see overtime.py; closeUp: the same, with
 * every slice, but only around (aroundNs: [before, after]) stops that are `close`; null: over has every slice. stops:
 * [{start_ns, duration_ns, number, close}] since the recording began, of stopsTotal. select(chosen): of a span of time,
 * { span: [from_ns, to_ns], view: over or closeUp, where: what it is in words }, or null. Returns what draws it again.
 */
livedump.heatMap = ({ over, closeUp, aroundNs, stops, stopsTotal, select }) => {
  const { byId, css, grouped, tick, element, choice } = livedump;
  const target = byId("heat"), details = byId("heat-details");
  const margin = { left: 62, right: 12, top: 18, bottom: 26 }, rowHeight = 9;
  const lossHeight = over.losses.cells.length ? 20 : 0;
  const kinds = Object.keys(over.heat), whole = over.step_ns * over.steps;
  const state = {
    kind: kinds.includes("cow") ? "cow" : kinds[0], stop: null, zero: 0, from: 0, to: whole, view: over, span: null, spanView: over,
  };
  let brush = null, layer = null, scale = null;

  /* Slices must be told from each other, late in the recording, too. */
  const exact = (value) => (value > 1e10 && value % 1e9 ? `${grouped((value / 1e9).toFixed(1))} s` : tick(value));
  const signed = (value) => `${value < 0 ? "−" : ""}${value ? exact(Math.abs(value)) : "0"}`;
  const whereInTime = ([from, to]) => `${signed(from - state.zero)} to ${signed(to - state.zero)}`;
  const heatOf = (view) => view.heat[state.kind] || { bands: [], cells: [] };
  const counted = (view, [from, to]) => heatOf(view).cells.reduce(
    (sum, [step, , count]) => (step * view.step_ns >= from && step * view.step_ns < to ? sum + count : sum), 0);
  /* What was lost in a span of time, and how many. */
  const lostIn = (view, [from, to]) => {
    const sums = view.losses.names.map(() => 0);
    for (const [step, number, count] of view.losses.cells) {
      if (step * view.step_ns >= from && step * view.step_ns < to) sums[number] += count;
    }
    return view.losses.names.map((name, number) => [name, sums[number]]).filter(([, sum]) => sum)
      .map(([name, sum]) => `${name}: ${grouped(sum)}`).join("; ");
  };
  const describe = () => {
    const span = state.span || [0, whole], view = state.span ? state.spanView : over;
    const lost = lostIn(view, span);
    details.textContent = `${state.span ? "selected" : "all"}: ${whereInTime(span)}, ${grouped(counted(view, span))} faults` +
      `${lost && `; losses: ${lost}`}`;
  };
  /* How fine it is, and what is left out. */
  const explain = () => {
    const close = stops.filter((stop) => stop.close).length, says = [`Each column is ${tick(state.view.step_ns)}.`];
    if (state.view === over && close) {
      says.push(`From ${close < stops.length ? `${close} of the stops` : "a stop"} it is ${tick(closeUp.step_ns)}.`);
    }
    if (stops.length < stopsTotal) {
      says.push(`${stops.length} of ${grouped(stopsTotal)} stops are shown: those of snapshots, then the longest.`);
    }
    byId("heat-columns").textContent = says.join(" ");
  };
  const choose = (span) => {
    state.span = span;
    state.spanView = state.view;
    byId("heat-clear").disabled = !span;
    describe();
    const where = (some) => `${whereInTime(some)} ${state.stop ? `from stop ${grouped(state.stop.number)}` : "of the recording"}`;
    select(span && { span, view: state.view, where });
  };
  /* To whole steps of what is shown, at least one. */
  const stepped = ([from, to]) => {
    const { step_ns: step, steps } = state.view;
    const least = Math.floor(state.from / step), most = Math.min(steps, Math.ceil(state.to / step));
    const first = Math.max(least, Math.min(most - 1, Math.round(from / step)));
    const end = Math.min(most, Math.max(first + 1, Math.round(to / step)));
    return [first * step, end * step];
  };
  const move = (span) => layer.call(brush.move, span && span.map(scale));

  /* In rows of all latencies of the recording, wherever one looks. */
  const paint = (canvas, rows) => {
    const stepNs = state.view.step_ns, heat = heatOf(state.view);
    const lowest = Math.max(0, over.heat[state.kind].bands.indexOf(heat.bands[0]));
    const context = canvas.getContext("2d");
    const most = Math.log1p(heat.cells.reduce((max, [, , count]) => Math.max(max, count), 1));
    const width = Math.max(1, scale(stepNs) - scale(0));
    context.fillStyle = css("--accent");
    for (const [step, band, count] of heat.cells) {
      const x = scale(step * stepNs);
      if (x + width < 0 || x > canvas.width) continue;
      context.globalAlpha = 0.15 + (0.85 * Math.log1p(count)) / most;
      context.fillRect(x, (rows - 1 - band - lowest) * rowHeight, width, rowHeight);
    }
  };

  /* A row of its own under the faults; what was lost is in the tooltip, too. */
  const paintLosses = (row, width) => {
    row.append("text").attr("class", "loss").attr("x", -8).attr("y", 9).text("losses");
    const view = state.view;
    for (const step of new Set(view.losses.cells.map(([at]) => at))) {
      const span = [step * view.step_ns, (step + 1) * view.step_ns];
      if (scale(span[0]) < 0 || scale(span[0]) >= width) continue;
      row.append("rect").attr("class", "loss").attr("x", scale(span[0])).attr("width", Math.max(2, scale(span[1]) - scale(span[0])))
        .attr("height", 10).append("title").text(`${whereInTime(span)}: ${lostIn(view, span)}`);
    }
  };

  const draw = () => {
    const heat = over.heat[state.kind], rows = Math.max(1, heat.bands.length);
    const width = Math.max(80, target.clientWidth - margin.left - margin.right), height = rows * rowHeight;
    scale = d3.scaleLinear().domain([state.from, state.to]).range([0, width]);
    const canvas = element("canvas", { width, height, style: `left: ${margin.left}px; top: ${margin.top}px` });
    target.replaceChildren(canvas);
    paint(canvas, rows);

    const svg = d3.select(target).append("svg").attr("width", target.clientWidth).attr("height", height + lossHeight + margin.top + margin.bottom);
    const inner = svg.append("g").attr("transform", `translate(${margin.left},${margin.top})`);
    const axis = scale.copy().domain([state.from - state.zero, state.to - state.zero]);
    inner.append("g").attr("class", "axis").attr("transform", `translate(0,${height + lossHeight})`)
      .call(d3.axisBottom(axis).ticks(Math.max(2, width / 110)).tickFormat(signed));
    const labels = heat.bands.map((low, band) => [low, band]).filter(([, band]) => band % 8 === 0);
    const left = inner.append("g").attr("class", "axis bands");
    for (const [low, band] of labels.length ? labels : [[null, 0]]) {
      left.append("text").attr("x", -8).attr("y", (rows - band) * rowHeight).text(low === null ? "faults" : tick(low));
    }
    if (lossHeight) paintLosses(inner.append("g").attr("transform", `translate(0,${height + 9})`), width);
    for (const stop of stops) {
      const x = scale(stop.start_ns + stop.duration_ns);
      if (x < 0 || x > width) continue;
      inner.append("line").attr("class", "stop").attr("x1", x).attr("x2", x).attr("y1", -4).attr("y2", height);
      inner.append("text").attr("class", "stop").attr("x", x).attr("y", -6).text(`stop ${stop.number}`);
    }

    brush = d3.brushX().extent([[0, 0], [width, height]]).on("end", (event) => {
      if (!event.sourceEvent) return;
      const span = event.selection && stepped(event.selection.map(scale.invert));
      choose(span);
      if (span) move(span);
    });
    layer = inner.append("g").attr("class", "brush").call(brush);
    if (state.span) move(state.span);
    describe();
    explain();
  };

  /* Left and right move the span, with Shift its end; Escape drops it. */
  target.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") { move(null); choose(null); return; }
    if (!way) return;
    event.preventDefault();
    const by = way * state.view.step_ns, [from, to] = state.span || [state.from, state.from + state.view.step_ns];
    const span = stepped(event.shiftKey ? [from, to + by] : [from + by, to + by]);
    choose(span);
    move(span);
  });
  byId("heat-clear").addEventListener("click", () => { move(null); choose(null); });
  choice(byId("heat-kinds"), kinds, state.kind, (kind) => kind, (kind) => { state.kind = kind; draw(); });
  const zeros = ["start", ...stops.map((stop) => `stop ${grouped(stop.number)}`)];
  choice(byId("heat-zeros"), zeros, "start", (name) => `from ${name}`, (name) => {
    const stop = stops[zeros.indexOf(name) - 1];
    state.stop = stop;
    state.zero = stop ? stop.start_ns + stop.duration_ns : 0;
    state.view = stop && stop.close && closeUp ? closeUp : over;
    const [before, after] = aroundNs;
    [state.from, state.to] = stop ? [Math.max(0, state.zero - before), Math.min(whole, state.zero + after)] : [0, whole];
    draw();
  });
  choose(null);
  draw();
  return draw;
};

/* The stacks of a kind in a span of time as a tree for d3-flame-graph. weight: 0 count, 1 stalled time. */
livedump.spanTree = (stacks, stepNs, [from, to], name, weight) => {
  const root = { name, value: 0, children: [], byName: new Map(), empty: "No stack was taken in this span of time." };
  for (const [step, number, ...weights] of stacks.cells) {
    const begins = step * stepNs, value = weights[weight];
    if (begins >= to || begins + stacks.every * stepNs <= from) continue;
    root.empty = "";
    if (!value) continue;
    let node = root;
    node.value += value;
    for (const frame of stacks.paths[number]) {
      let child = node.byName.get(frame);
      if (!child) {
        child = { name: frame, value: 0, children: [], byName: new Map() };
        node.byName.set(frame, child);
        node.children.push(child);
      }
      child.value += value;
      node = child;
    }
  }
  return root;
};
