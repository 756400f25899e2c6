"use strict";
/*
 * A histogram of latencies. series: [{ name, colour: CSS variable, buckets: [[low, high, count], ...], fill }], each in its
 * own order of buckets; marks: [[name, ns], ...]; unit: of what is counted.
 */
livedump.histogram = (target, { series, marks = [], unit = "events", count = livedump.grouped }) => {
  const { css, ns, tick } = livedump;

  /* A step line that comes down to 0 where there is a gap; a logarithm knows no 0, so it begins at half a ns. */
  const stepped = (buckets) => {
    const x = [], y = [], text = [];
    const put = (at, value, says) => { x.push(at); y.push(value); text.push(says); };
    let end = null;
    for (const [low, high, value] of buckets) {
      const left = Math.max(low, 0.5);
      if (end === null) put(left, 0, "");
      else if (left > end) put(end, 0, "");
      put(left, value, `${ns(low)} to ${ns(high)}: ${count(value)}`);
      end = high;
    }
    if (end !== null) put(end, 0, "");
    return { x, y, text };
  };
  const lines = series.map((each) => ({
    ...stepped(each.buckets), name: each.name, type: "scatter", mode: "lines",
    line: { shape: "hv", width: each.fill ? 1.2 : 1.6, color: css(each.colour), dash: each.dash || "solid" },
    ...(each.fill ? { fill: "tozeroy" } : {}),
    hovertemplate: `${series.length > 1 ? `${each.name}: ` : ""}%{text}<extra></extra>`,
  }));
  const ends = lines.flatMap((line) => [line.x[0], line.x[line.x.length - 1]]).filter((value) => value !== undefined);
  const low = Math.floor(Math.log10(Math.min(...ends))), high = Math.ceil(Math.log10(Math.max(...ends)));
  const room = target.clientWidth < 600 ? 1 : 4;  // labels must not run into each other
  const steps = high - low > room ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = low; power <= high; power += 1) ticks.push(...steps.map((step) => step * 10 ** power));

  /* Of marks that stand too close to each other only the first has its name. */
  const span = Math.log10(Math.max(...ends)) - Math.log10(Math.min(...ends));
  const named = [];
  for (const [name, value] of marks) {
    const at = Math.log10(value);
    if (named.every(([, other]) => Math.abs(Math.log10(other) - at) > (span * 30) / target.clientWidth)) named.push([name, value]);
  }
  const shapes = marks.map(([, value]) => ({
    type: "line", x0: value, x1: value, yref: "paper", y0: 0, y1: 1, line: { color: css("--p3"), width: 1, dash: "dot" },
  }));
  Plotly.react(target, lines, {
    margin: { l: 60, r: 16, t: 26, b: 44 }, showlegend: false, hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: css("--soft"), size: 12, family: "system-ui, DejaVu Sans, sans-serif" },
    xaxis: {
      type: "log", title: { text: "latency", standoff: 8 }, tickvals: ticks, ticktext: ticks.map(tick),
      gridcolor: css("--line"), zeroline: false,
    },
    yaxis: { title: { text: unit }, gridcolor: css("--line"), zerolinecolor: css("--line"), rangemode: "tozero" },
    shapes,
    annotations: named.map(([name, value]) => ({
      x: Math.log10(value), yref: "paper", y: 1, yanchor: "bottom", text: name, showarrow: false,
      font: { size: 11, color: css("--bad") },
    })),
  }, { displayModeBar: false, responsive: true });
};
