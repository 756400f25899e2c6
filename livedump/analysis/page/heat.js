"use strict";
/*
 * The heat map's hands: what is chosen in it by mouse and keyboard, what is said of it. The choice is in livedump.state:
 * span and view (seconds since the start), latency (ns), zero (number of a stop). stops: [{start_ns, duration_ns, number,
 * rank, close}] of stopsTotal. Returns { draw, chosen, where }.
 */
livedump.heatMap = ({ timeline, over, closeUp, stops, stopsTotal, startMs, sleptNs }) => {
  const { byId, grouped, ns, tick, element, state, heatDrawing } = livedump;
  const target = byId("heat"), details = byId("heat-details"), zeros = byId("heat-zeros");
  const { whole } = timeline, aroundNs = livedump.data.around_ns;
  const tip = element("div", { class: "tip", hidden: "" });
  let kind = "", brush = null, layer = null, shown = null;

  /* ---- what is chosen ---- */

  const seconds = (span) => (span ? span.map((value) => value / 1e9).join(",") : null);
  const nanoseconds = (key) => {
    const span = state.span(key);
    return span && span.map((value) => Math.max(0, Math.min(whole, Math.round(value * 1e9))));
  };
  const proper = (span) => (span && span[1] > span[0] ? span : null);
  const chosen = () => ({
    span: proper(nanoseconds("span")),
    range: state.span("latency"),
    view: proper(nanoseconds("view")) || [0, whole],
    stop: stops.find((stop) => String(stop.number) === state.get("zero")) || null,
  });
  const zeroOf = ({ stop }) => (stop ? stop.start_ns + stop.duration_ns : 0);
  const select = (span, range) => state.set({ span: seconds(span), latency: range && range.join(",") });
  const look = ([from, to]) => {
    const length = Math.min(whole, Math.max(to - from, 4 * (closeUp || over).step_ns));
    const first = Math.max(0, Math.min(whole - length, from));
    state.set({ view: length >= whole ? null : seconds([first, first + length]) });
  };

  /* ---- in words ---- */

  /* Slices must be told from each other, late in the recording, too. */
  const exact = (value) => {
    if (value < 1e9) return tick(value);
    const digits = Math.max(1, Math.min(6, Math.ceil(-Math.log10((closeUp || over).step_ns / 1e9))));
    return `${Number((value / 1e9).toFixed(digits)).toLocaleString("en-US", { maximumFractionDigits: digits })} s`;
  };
  const signed = (value) => `${value < 0 ? "−" : ""}${value ? exact(Math.abs(value)) : "0"}`;
  const wall = (at) => new Date(startMs + at / 1e6);
  const clock = (at) => `${wall(at).toISOString().slice(11, 23)} UTC`;
  const times = ([from, to]) => `${signed(from - zeroOf(chosen()))} to ${signed(to - zeroOf(chosen()))}`;
  const latencies = ([low, high]) => `${tick(low)} to ${tick(high)}`;
  const zeroName = () => (chosen().stop ? `stop ${grouped(chosen().stop.number)}` : "start");
  /* A span (null: all that is shown) and a range, or nothing. */
  const where = (span, range) => [
    span && `${times(span)} ${chosen().stop ? `from ${zeroName()}` : "of the recording"}`, range && `latencies of ${latencies(range)}`,
  ].filter(Boolean).join(", ");

  const describe = () => {
    const { span, range, view } = chosen(), part = span || view;
    const lost = timeline.lost(part).map(([name, sum]) => `${name}: ${grouped(sum)}`).join("; ");
    const whose = span || range ? "selected" : view[0] > 0 || view[1] < whole ? "shown" : "all";
    details.textContent = `${whose}: ${times(part)}${range ? `, ${latencies(range)}` : ""}, ` +
      `${grouped(timeline.count(kind, part, range))} faults${lost && `; losses: ${lost}`}`;
    byId("heat-clear").disabled = !span && !range;
    byId("heat-zoom").disabled = !span;
    byId("heat-out").disabled = view[0] <= 0 && view[1] >= whole;
  };
  /* How fine it is, and what is left out. */
  const explain = () => {
    const close = stops.filter((stop) => stop.close).length, says = [`Each column is ${tick(shown.view.step_ns)}.`];
    if (shown.view === over && close && closeUp) {
      says.push(`From ${close < stops.length ? `${close} of the stops` : "a stop"} it is ${tick(closeUp.step_ns)}.`);
    }
    if (stops.length < stopsTotal) {
      says.push(`${stops.length} of ${grouped(stopsTotal)} stops are marked: those of snapshots, then the longest.`);
    }
    if (sleptNs) says.push(`The machine slept for ${ns(sleptNs)} meanwhile: UTC is right until then.`);
    byId("heat-columns").textContent = says.join(" ");
  };

  /* ---- by mouse ---- */

  /* To whole steps of what is shown, at least one. */
  const stepped = ([from, to]) => {
    const step = timeline.viewOf([Math.min(from, to), Math.max(from, to)]).step_ns, most = Math.ceil(whole / step);
    const first = Math.max(0, Math.min(most - 1, Math.round(from / step)));
    const end = Math.min(most, Math.max(first + 1, Math.round(to / step)));
    return [first * step, end * step];
  };
  /* Whoever draws a line means a span of time, or of latencies; whoever draws a rectangle both. */
  const brushed = ([[x0, y0], [x1, y1]]) => {
    const flat = y1 - y0 < 1.5 * shown.rowHeight, thin = x1 - x0 < 4;
    const [top, bottom] = [shown.rowAt(y0 + 0.01), shown.rowAt(y1 - 0.01)];
    const range = !shown.rows.timed || (flat && !thin) || (top === shown.rows.count - 1 && bottom === 0) ? null
      : [shown.rowRange(bottom)[0], shown.rowRange(top)[1]];
    const span = thin && range ? null : stepped([shown.scale.invert(x0), shown.scale.invert(x1)]);
    select(span, range);
  };
  const move = () => {
    const { span, range, view } = chosen();
    const [from, to] = (span || view).map((at) => Math.max(0, Math.min(shown.width, shown.scale(at))));
    const [bottom, top] = range ? range.map((at) => Math.max(0, Math.min(shown.height, shown.yOf(at)))) : [shown.height, 0];
    layer.call(brush.move, (span || range) && to > from && bottom > top ? [[from, top], [to, bottom]] : null);
  };

  const point = (event) => {
    const [x, y] = d3.pointer(event, shown.inner.node()), { view, sums, rows } = shown;
    if (x < 0 || x > shown.width || y < 0 || y > shown.height) { tip.hidden = true; return; }
    const step = Math.floor(shown.scale.invert(x) / view.step_ns), span = [step * view.step_ns, (step + 1) * view.step_ns];
    const row = shown.rowAt(y), stop = stops.find((each) => Math.abs(shown.scale(each.start_ns + each.duration_ns) - x) < 3);
    const lines = [
      times(span), clock(span[0]),
      ...(rows.timed ? [`${latencies(shown.rowRange(row))}: ${grouped(sums.get(step * 1024 + row) || 0)} faults`] : []),
      `all in this column: ${grouped(timeline.count(kind, span, null))}`,
      ...timeline.lost(span).map(([name, sum]) => `lost: ${name}: ${grouped(sum)}`),
      ...(stop ? [`stop ${grouped(stop.number)}: ${ns(stop.duration_ns)}, ${stop.symbol}`] : []),
    ];
    tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
    tip.hidden = false;
    const left = x + shown.margin.left + 14, room = target.clientWidth - tip.offsetWidth;
    tip.style.left = `${left > room ? Math.max(0, left - tip.offsetWidth - 28) : left}px`;
    tip.style.top = `${y + shown.margin.top + 14}px`;
  };

  /* ---- by keyboard ---- */

  /* Left and right move the span, with Shift its end; up and down the shortest latency, with Shift the longest. */
  const moveTime = (way, end) => {
    const { span, range, view } = chosen(), step = timeline.viewOf(view).step_ns, by = way * step;
    const [from, to] = span || [view[0], view[0] + step];
    const moved = stepped(end ? [from, Math.max(from + step, to + by)] : [from + by, to + by]);
    if (moved[0] < view[0] || moved[1] > view[1]) look(moved[0] < view[0] ? [view[0] - step, view[1] - step] : [view[0] + step, view[1] + step]);
    select(moved, range);
  };
  const moveLatency = (way, end) => {
    const { span, range } = chosen(), { rows } = shown;
    if (!rows.timed) return;
    let [bottom, top] = range ? [shown.rowAt(shown.yOf(range[0]) - 0.01), shown.rowAt(shown.yOf(range[1]) + 0.01)] : [0, rows.count - 1];
    if (end) top = Math.max(bottom, Math.min(rows.count - 1, top + way));
    else bottom = Math.max(0, Math.min(top, bottom + way));
    select(span, bottom === 0 && top === rows.count - 1 ? null : [shown.rowRange(bottom)[0], shown.rowRange(top)[1]]);
  };
  const zoomBy = (factor) => {
    const { span, view } = chosen(), middle = span ? (span[0] + span[1]) / 2 : (view[0] + view[1]) / 2;
    const half = ((view[1] - view[0]) * factor) / 2;
    look([middle - half, middle + half]);
  };
  const zoomIn = () => { const { span } = chosen(); if (span) look(span); };
  const zoomOut = () => state.set({ view: null, zero: null });
  target.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const keys = {
      ArrowLeft: () => moveTime(-1, event.shiftKey), ArrowRight: () => moveTime(1, event.shiftKey),
      ArrowUp: () => moveLatency(1, event.shiftKey), ArrowDown: () => moveLatency(-1, event.shiftKey),
      Escape: () => select(null, null), Enter: zoomIn, "+": () => zoomBy(0.5), "-": () => zoomBy(2), 0: zoomOut,
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  byId("heat-clear").addEventListener("click", () => select(null, null));
  byId("heat-zoom").addEventListener("click", zoomIn);
  byId("heat-out").addEventListener("click", zoomOut);
  target.addEventListener("dblclick", zoomOut);
  target.addEventListener("pointermove", point);
  target.addEventListener("pointerleave", () => { tip.hidden = true; });
  // The wheel scrolls the page; with Ctrl it zooms, as in maps.
  target.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { view } = chosen(), at = shown.scale.invert(d3.pointer(event, shown.inner.node())[0]), factor = event.deltaY > 0 ? 1.25 : 0.8;
    look([at - (at - view[0]) * factor, at + (view[1] - at) * factor]);
  }, { passive: false });

  zeros.append(...[["", "the start"], ...stops.map(({ number, duration_ns }) => [String(number), `stop ${grouped(number)} (${ns(duration_ns)})`])]
    .map(([value, name]) => element("option", { value }, name)));
  zeros.addEventListener("change", () => {
    const stop = stops.find((each) => String(each.number) === zeros.value), end = stop && stop.start_ns + stop.duration_ns;
    const view = stop ? [Math.max(0, end - aroundNs[0]), Math.min(whole, end + aroundNs[1])] : null;
    state.set({ zero: zeros.value, view: view && seconds(view) });
  });

  /* ---- draw ---- */

  const drawing = heatDrawing({ target, legend: byId("heat-legend"), timeline, over, closeUp, stops, text: { signed, wall } });
  const draw = (of) => {
    kind = of;
    const { view } = chosen();
    zeros.value = chosen().stop ? state.get("zero") : "";
    shown = drawing({ kind, view, zero: zeroOf(chosen()), zeroName: zeroName() });
    target.append(tip);
    tip.hidden = true;
    // d3's own selection is none where one has moved straight on: so by where the pointer was.
    const within = (value, most) => Math.max(0, Math.min(most, value));
    const at = (event) => {
      const [x, y] = d3.pointer(event.sourceEvent, shown.inner.node());
      return [within(x, shown.width), within(y, shown.height)];
    };
    let start = null;
    brush = d3.brush().extent([[0, 0], [shown.width, shown.height]]).on("start", (event) => {
      if (event.sourceEvent) start = at(event);
    }).on("end", (event) => {
      if (!event.sourceEvent) return;
      const [[x0, y0], [x1, y1]] = event.selection || d3.transpose(d3.transpose([start, at(event)]).map((pair) => d3.extent(pair)));
      if (Math.hypot(x1 - x0, y1 - y0) >= 3) brushed([[x0, y0], [x1, y1]]);
      else select(null, null);
      move();  // also where the choice is the same as before
    });
    layer = shown.inner.append("g").attr("class", "brush").call(brush);
    reselect();
    explain();
  };
  const reselect = () => { move(); describe(); };
  return { draw, reselect, chosen, where };
};
