"use strict";
/* What both pages use: the report (page.js) and the comparison (diff.js). */
const livedump = (() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* ---- text ------------------------------------------------------------ */

  const grouped = (value) => Number(value).toLocaleString("en-US");

  const ns = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    for (const [scale, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
      if (size < scale) continue;
      const scaled = value / scale;
      return `${size >= 1000 * scale ? grouped(Math.round(scaled)) : scaled.toPrecision(3)} ${unit}`;
    }
    return `${Math.round(value)} ns`;
  };
  const tick = (value) => ns(value).replace(/\.0+(?= )/, "");

  const element = (tag, options = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(options)) {
      if (key === "style") made.style.cssText = value;
      else if (key === "class") made.className = value;
      else made.setAttribute(key, value);
    }
    for (const child of children) made.append(child);
    return made;
  };

  /* columns: [title, how to show a row, class] */
  const table = (rows, columns) => {
    const head = element("tr", {}, ...columns.map(([title, , kind]) => element("th", { class: kind || "" }, title)));
    const body = rows.map((row) => element("tr", {}, ...columns.map(
      ([, show, kind]) => element("td", { class: kind || "" }, show(row)))));
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  };
  const scrolling = (made) => element("div", { class: "scroll" }, made);

  const facts = (target, pairs) => {
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      target.append(element("div", {}, element("dt", {}, name), element("dd", {}, String(value))));
    }
    return target;
  };

  const choice = (target, values, chosen, label, pick) => {
    const show = (value) => {
      for (const button of target.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    };
    for (const value of values) {
      const button = element("button", { type: "button", "data-value": value }, label(value));
      button.addEventListener("click", () => { show(value); pick(value); });
      target.append(button);
    }
    show(chosen);
  };

  /*
   * The flame graph and its controls. state: kind, weight (0: count, 1: stalled time) and root, the tree that
   * rooted(state) made for d3-flame-graph; its `empty` says why there is nothing. searched(sum, state): more on what a search found, may be left out.
   * Returns what draws it again.
   */
  const flameGraph = ({ kinds, kind, rooted, colour, describe, searched = () => "" }) => {
    const state = { kind, weight: 0, root: null };
    const target = byId("flame"), details = byId("flame-details"), field = byId("flame-search");
    let chart = null;

    /* The frame that the keyboard is at; only frames that are drawn can be. */
    let cursor = null;
    const drawn = () => d3.select(target).selectAll("g.frame");
    const goTo = (node) => {
      if (!node) return;
      cursor = node;
      drawn().classed("cursor", (each) => each === node).filter((each) => each === node)
        .each((each, index, groups) => groups[index].scrollIntoView({ block: "nearest" }));
      details.textContent = describe(node, state);
    };
    const neighbour = (key) => {
      const seen = new Set(drawn().data()), among = (nodes) => (nodes || []).filter((node) => seen.has(node));
      if (!seen.has(cursor)) return d3.select(target).datum();
      if (key === "ArrowDown") return cursor.parent;
      if (key === "ArrowUp") return d3.greatest(among(cursor.children), (node) => node.x1 - node.x0);
      const siblings = among(cursor.parent && cursor.parent.children).sort((a, b) => a.x0 - b.x0);
      return siblings[siblings.indexOf(cursor) + (key === "ArrowLeft" ? -1 : 1)];
    };
    const press = (event) => {
      if (!chart || event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key.startsWith("Arrow")) goTo(neighbour(event.key));
      else if (event.key === "Enter" && cursor) chart.zoomTo(cursor);
      else if (event.key === "Escape" || event.key === "Home") chart.resetZoom();
      else return;
      event.preventDefault();
    };

    const search = () => {
      const term = field.value.trim();
      if (!chart) return;
      if (term) chart.search(term); else chart.clear();
    };
    const draw = () => {
      target.replaceChildren();
      details.textContent = "";
      chart = cursor = null;
      state.root = rooted(state);
      if (!state.root.value) {
        const why = state.root.empty || "Nothing to weigh: this kind was counted, but not timed.";
        target.append(element("p", { class: "empty" }, why));
        return;
      }
      const whole = () => describe({ data: state.root, value: state.root.value }, state);
      chart = flamegraph()
        .width(target.clientWidth).cellHeight(18).minFrameSize(1).transitionDuration(0).sort(true)
        .selfValue(false).setColorMapper(colour).setLabelHandler((node) => describe(node, state))
        .setSearchMatch((node, term) => Boolean(term) && node.data.name.toLowerCase().includes(term.toLowerCase()))
        .setSearchHandler((found, sum) => { details.textContent = `search: ${found.length} frames${searched(sum, state)}`; })
        .onClick(goTo)  // and after each zoom
        .setDetailsHandler((text) => { details.textContent = text || whole(); });
      d3.select(target).datum(state.root).call(chart);
      details.textContent = whole();
      search();
    };

    target.addEventListener("keydown", press);
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target === field || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      field.focus();
    });
    field.addEventListener("input", search);
    byId("flame-reset").addEventListener("click", () => { if (chart) chart.resetZoom(); });
    choice(byId("flame-kinds"), kinds, kind, (name) => name, (name) => { state.kind = name; draw(); });
    choice(byId("flame-weights"), ["0", "1"], "0", (weight) => (weight === "0" ? "by count" : "by stalled time"), (weight) => {
      state.weight = Number(weight);
      draw();
    });
    draw();
    return draw;
  };

  /* A page is drawn again when its width or its colours change. */
  const whenChanged = (draw) => {
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width) return;
      width = window.innerWidth;
      draw();
    });
    dark.addEventListener("change", draw);
  };

  return { data, byId, dark, css, grouped, ns, tick, element, table, scrolling, facts, choice, flameGraph, whenChanged };
})();
