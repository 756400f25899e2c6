"use strict";
/*
 * What the heat map looks like: cells on a canvas, axes, stops and losses over it, a legend. of: { kind, view: [from, to],
 * zero, zeroName } in ns since the start; text: how instants are written. Returns what turns pixels into times and back.
 */
livedump.heatDrawing = ({ target, legend, timeline, over, closeUp, stops, text }) => {
  const { css, grouped, tick, roundValues, element, sharp, unpack: { bucketLow, bucketAt } } = livedump;
  const margin = { left: 66, right: 14, top: 20, bottom: 46 }, rowHeight = 9;
  const lossHeight = over.losses.cells.length ? 20 : 0;

  /* Rows are the same wherever one looks: of four buckets, or as wide as bands are. */
  const rowsOf = (kind) => {
    const views = [over, closeUp].filter(Boolean).map((view) => timeline.heat(view, kind));
    const shift = Math.max(2, ...views.map((heat) => heat.shift)), all = views[0];
    const rows = Array.from(all.bands, (band) => Math.floor((band * 2 ** all.shift) / 2 ** shift));
    const lowest = rows.reduce((a, b) => Math.min(a, b), Infinity), highest = rows.reduce((a, b) => Math.max(a, b), 0);
    return { timed: all.timed, any: rows.length > 0, shift, lowest: Number.isFinite(lowest) ? lowest : 0, count: rows.length ? highest - lowest + 1 : 1 };
  };
  /* Faults by step and row of what is shown, and the most in a cell. */
  const sumsOf = (kind, view, rows) => {
    const heat = timeline.heat(view, kind), sums = new Map();
    for (let at = 0; at < heat.steps.length; at += 1) {
      const row = Math.floor((heat.bands[at] * 2 ** heat.shift) / 2 ** rows.shift) - rows.lowest, key = heat.steps[at] * 1024 + row;
      sums.set(key, (sums.get(key) || 0) + heat.counts[at]);
    }
    return { sums, most: [...sums.values()].reduce((a, b) => Math.max(a, b), 1) };
  };
  const strength = (count, most) => 0.15 + (0.85 * Math.log1p(count)) / Math.log1p(most);

  const paint = (canvas, shown) => {
    const { scale, rows, width, height, view, sums, most } = shown;
    const context = sharp(canvas, width, height), ratio = window.devicePixelRatio || 1;
    const edge = (step) => Math.round(scale(step * view.step_ns) * ratio) / ratio;  // else there are seams
    context.fillStyle = css("--accent");
    for (const [key, count] of sums) {
      const step = Math.floor(key / 1024), row = key % 1024, x = edge(step), end = Math.max(x + 1, edge(step + 1));
      if (end < 0 || x > width) continue;
      context.globalAlpha = strength(count, most);
      context.fillRect(x, (rows.count - 1 - row) * shown.rowHeight, end - x, shown.rowHeight);
    }
  };

  const showLegend = (most, any) => {
    const powers = [1];
    while (powers[powers.length - 1] * 20 < most) powers.push(powers[powers.length - 1] * 10);
    if (most > 1) powers.push(most);
    if (!any) { legend.replaceChildren("No fault of this kind is known by time."); return; }
    legend.replaceChildren("Faults in a cell:", ...powers.map((count) => element("span", {},
      element("i", { style: `background: var(--accent); opacity: ${strength(count, most).toFixed(3)}` }), grouped(count))));
  };

  /* The last tick's text would be cut off, and the first one's run into the axis' name. */
  const inside = (axis, width) => axis.selectAll(".tick text").attr("text-anchor", function anchor() {
    const x = Number(/translate\(([-\d.]+)/.exec(this.parentNode.getAttribute("transform"))[1]);
    const half = this.textContent.length * 3.2;
    return x + half > width + margin.right ? "end" : x < half ? "start" : "middle";
  });
  const drawTimes = (inner, shown, of) => {
    const { scale, width, height } = shown, few = Math.max(3, width / 110), below = height + lossHeight;
    const [from, to] = of.view, relative = scale.copy().domain([from - of.zero, to - of.zero]);
    const axis = inner.append("g").attr("class", "axis").attr("transform", `translate(0,${below})`);
    inside(axis.call(d3.axisBottom(relative).ticks(few).tickFormat((value) => text.signed(value))), width);
    const wall = d3.scaleUtc().domain([text.wall(from), text.wall(to)]).range([0, width]);
    const ticks = wall.ticks(few), apart = ticks.length > 1 ? ticks[1] - ticks[0] : (to - from) / 1e6;
    const format = d3.utcFormat(apart < 1000 ? "%H:%M:%S.%L" : apart < 60_000 ? "%H:%M:%S" : apart < 86_400_000 ? "%H:%M" : "%m-%d");
    const utc = inner.append("g").attr("class", "axis utc").attr("transform", `translate(0,${below + 24})`);
    inside(utc.call(d3.axisBottom(wall).tickValues(ticks).tickSize(3).tickFormat(format)), width);
    utc.select(".domain").remove();
    const names = inner.append("g").attr("class", "axis bands");
    names.append("text").attr("x", -10).attr("y", below + 16).text(of.zeroName);
    names.append("text").attr("x", -10).attr("y", below + 38).text("UTC");
  };

  const drawLatencies = (inner, shown) => {
    const { rows, height } = shown, left = inner.append("g").attr("class", "axis bands");
    const put = (y, what) => left.append("text").attr("x", -10).attr("y", y + 4).text(what);
    if (!rows.any) return;
    if (!rows.timed) { put(height / 2, "faults"); return; }
    const [low, high] = [shown.latencyAt(height), shown.latencyAt(0)];
    for (const value of roundValues(low, high, height / 14)) {
      const y = shown.yOf(value);
      put(y, tick(value));
      left.append("line").attr("class", "tick").attr("x1", -6).attr("x2", -1).attr("y1", y).attr("y2", y);
    }
  };

  /* Stops have their names where there is room, snapshots' and the longest first; the others' are shown when pointed at. */
  const drawStops = (inner, { scale, width, height }) => {
    const named = [];
    for (const stop of [...stops].sort((a, b) => a.rank - b.rank)) {
      const x = scale(stop.start_ns + stop.duration_ns), words = `stop ${grouped(stop.number)}`, half = words.length * 3.1 + 3;
      if (x < 0 || x > width) continue;
      inner.append("line").attr("class", "stop").attr("x1", x).attr("x2", x).attr("y1", -4).attr("y2", height);
      const at = Math.min(Math.max(x, half - margin.left), width + margin.right - half);
      if (named.some(([other, reach]) => Math.abs(other - at) < half + reach)) continue;
      named.push([at, half]);
      inner.append("text").attr("class", "stop").attr("x", at).attr("y", -7).text(words);
    }
  };

  /* A row of its own under the faults. */
  const drawLosses = (inner, { scale, width, height, view }) => {
    const row = inner.append("g").attr("transform", `translate(0,${height + 9})`);
    row.append("text").attr("class", "loss").attr("x", -10).attr("y", 9).text("losses");
    for (const step of new Set(view.losses.cells.map(([at]) => at))) {
      const [from, to] = [scale(step * view.step_ns), scale((step + 1) * view.step_ns)];
      if (from < 0 || from >= width) continue;
      row.append("rect").attr("class", "loss").attr("x", from).attr("width", Math.max(2, to - from)).attr("height", 10);
    }
  };

  return (of) => {
    const view = timeline.viewOf(of.view), rows = rowsOf(of.kind), tall = rows.timed ? rowHeight : 3 * rowHeight;
    const width = Math.max(80, target.clientWidth - margin.left - margin.right), height = rows.count * tall;
    const scale = d3.scaleLinear().domain(of.view).range([0, width]);
    const bucket = (y) => (rows.lowest + (height - y) / tall) * 2 ** rows.shift;
    const shown = {
      view, rows, width, height, scale, rowHeight: tall, margin, ...sumsOf(of.kind, view, rows),
      rowAt: (y) => Math.max(0, Math.min(rows.count - 1, Math.floor((height - y) / tall))),
      rowRange: (row) => [row, row + 1].map((each) => bucketLow((rows.lowest + each) * 2 ** rows.shift)),
      latencyAt: (y) => bucketLow(Math.round(bucket(y))),
      yOf: (value) => height - (bucketAt(value) / 2 ** rows.shift - rows.lowest) * tall,
    };
    const canvas = element("canvas", { style: `left: ${margin.left}px; top: ${margin.top}px`, "aria-hidden": "true" });
    target.replaceChildren(canvas);
    paint(canvas, shown);
    showLegend(shown.most, rows.any);
    const svg = d3.select(target).append("svg").attr("aria-hidden", "true").attr("width", target.clientWidth)
      .attr("height", height + lossHeight + margin.top + margin.bottom);
    const inner = svg.append("g").attr("transform", `translate(${margin.left},${margin.top})`);
    drawTimes(inner, shown, of);
    drawLatencies(inner, shown);
    if (lossHeight) drawLosses(inner, shown);
    drawStops(inner, shown);
    return { ...shown, inner };
  };
};
