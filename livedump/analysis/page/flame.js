"use strict";
/*
 * The flame graph and its controls. kinds: that have stacks. rooted({ kind, weight }): the tree of a kind by weight (0 count,
 * 1 stalled time), whose `empty` says why there is nothing. keys: the weights of a node. describe(node, state): in words.
 * colour(node, depth). searched(sum, state): more on what a search found. Returns { draw, frames }.
 */
livedump.flameGraph = ({ rooted, keys, colour, describe, searched = () => "" }) => {
  const { byId, choice, element, flameDrawing, state, unpack } = livedump;
  const target = byId("flame"), details = byId("flame-details"), field = byId("flame-search");
  const shapes = { flame: "flame", icicle: "icicle", callers: "callers (reversed)" };
  const weights = { count: "by count", stalled: "by stalled time" };
  const drawing = flameDrawing(target, colour);
  const now = { kind: "", weight: 0, root: null };
  let focus = null, cursor = null, found = null;

  const shape = () => state.oneOf("shape", Object.keys(shapes));
  const say = (text) => { details.textContent = text; };
  const paint = () => drawing.draw({ focus, cursor, found, upward: shape() === "flame" });
  const drawn = () => drawing.frames().map((each) => each.node);

  /* ---- where one is: a path of names, as it is in the URL ---- */

  const pathOf = (node) => {
    const names = [];
    for (let frame = node; frame && frame.parent; frame = frame.parent) names.unshift(frame.name);
    return names;
  };
  const nodeOf = (names) => {
    let node = now.root;
    for (const name of names) node = node && node.children.find((child) => child.name === name);
    return node || now.root;
  };
  const framed = () => {
    try { return JSON.parse(state.get("frame") || "[]").map(String); } catch (error) { return []; }
  };
  const zoom = (node) => {
    const path = pathOf(node);
    state.set({ frame: path.length ? JSON.stringify(path) : null });
  };

  /* ---- search ---- */

  /* A regular expression; what is none is looked for as it is. */
  const matcher = (term) => {
    const literal = state.get("literal") === "1";
    if (!literal) {
      try {
        const expression = new RegExp(term, "i");
        return { test: (name) => expression.test(name), as: "" };
      } catch (error) { /* as it is */ }
    }
    const lower = term.toLowerCase();
    return { test: (name) => name.toLowerCase().includes(lower), as: literal ? "" : " (no regular expression: as it is)" };
  };
  const search = () => {
    const term = state.get("search");
    found = null;
    if (!term || !now.root) return;
    const { test, as } = matcher(term);
    found = new Set();
    let sum = 0;
    const waiting = [[now.root, false]];
    while (waiting.length) {
      const [node, inside] = waiting.pop(), hit = test(node.name);
      if (hit) found.add(node);
      if (hit && !inside) sum += node.value;
      for (const child of node.children) waiting.push([child, inside || hit]);
    }
    say(`search: ${found.size} frames${searched(sum, now)}${as}`);
  };

  /* ---- keyboard, mouse ---- */

  const goTo = (node) => {
    if (!node) return;
    cursor = node;
    paint();
    drawing.reveal(node);
    say(describe(node, now));
  };
  const neighbour = (key) => {
    const seen = new Set(drawn()), among = (nodes) => (nodes || []).filter((node) => seen.has(node));
    if (!seen.has(cursor)) return now.root;
    const deeper = shape() === "flame" ? "ArrowUp" : "ArrowDown";
    if (key === deeper) return d3.greatest(among(cursor.children), (node) => node.value);
    if (key === "ArrowUp" || key === "ArrowDown") return cursor.parent;
    const siblings = among(cursor.parent && cursor.parent.children);
    return siblings[siblings.indexOf(cursor) + (key === "ArrowLeft" ? -1 : 1)];
  };
  const press = (event) => {
    if (!now.root || !now.root.value || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key.startsWith("Arrow")) goTo(neighbour(event.key));
    else if (event.key === "Enter" && cursor) zoom(cursor);
    else if (event.key === "Escape" || event.key === "Home") { cursor = now.root; zoom(now.root); goTo(now.root); }
    else if (event.key === "c") copy();
    else return;
    event.preventDefault();
  };

  /* As Firefox's profiler does: the innermost function first, one a line. */
  const stackText = (node) => {
    const names = pathOf(node);
    return (shape() === "callers" ? names : names.reverse()).join("\n");
  };
  const copy = async () => {
    const node = cursor || focus;
    if (!node || node === now.root) { say("Choose a frame first: its stack is copied."); return; }
    const text = stackText(node);
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) {
      const area = element("textarea", { style: "position: fixed; opacity: 0", "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say(`copied: ${text.split("\n").length} frames, ${node.name}`);
  };

  const draw = () => {
    const shown = shape();
    showShape(shown);
    showWeight(state.oneOf("weight", Object.keys(weights)));
    now.weight = state.oneOf("weight", Object.keys(weights)) === "count" ? 0 : 1;
    now.root = rooted(now);
    byId("flame-literal").setAttribute("aria-pressed", String(state.get("literal") !== "1"));
    if (field.value !== state.get("search")) field.value = state.get("search");
    found = null;
    say("");
    if (!now.root.value) {
      const why = now.root.empty || "Nothing to weigh: this kind was counted, but not timed.";
      target.replaceChildren(element("p", { class: "empty" }, why));
      focus = cursor = null;
      return;
    }
    const { empty } = now.root;
    if (shown === "callers") now.root = unpack.callers(now.root, keys);
    now.root.empty = empty;
    focus = nodeOf(framed());
    cursor = cursor && nodeOf(pathOf(cursor));
    if (cursor === now.root) cursor = null;
    say(describe(cursor || focus, now));
    search();
    paint();
  };

  const showShape = choice(byId("flame-shapes"), Object.keys(shapes), (name) => shapes[name], (name) => {
    cursor = null;
    state.set({ shape: name === "flame" ? null : name, frame: null });
  });
  const showWeight = choice(byId("flame-weights"), Object.keys(weights), (name) => weights[name],
    (name) => state.set({ weight: name === "count" ? null : name }));
  target.addEventListener("keydown", press);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === field || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    field.focus();
  });
  field.addEventListener("input", () => state.set({ search: field.value.trim() }));
  byId("flame-literal").addEventListener("click", () => state.set({ literal: state.get("literal") === "1" ? null : "1" }));
  byId("flame-reset").addEventListener("click", () => zoom(now.root));
  byId("flame-copy").addEventListener("click", copy);
  const hovered = ({ node, nodes }) => describe(node, now) +
    (nodes.length > 1 ? ` and ${nodes.length - 1} more, too narrow to be told apart: zoom in` : "");
  drawing.canvas.addEventListener("mousemove", (event) => {
    const hit = drawing.at(event);
    drawing.canvas.title = hit ? hovered(hit) : "";
    drawing.canvas.style.cursor = hit ? "pointer" : "";
    if (hit) say(hovered(hit));
  });
  drawing.canvas.addEventListener("mouseleave", () => { if (now.root) say(describe(cursor || focus, now)); });
  drawing.canvas.addEventListener("click", (event) => {
    const hit = drawing.at(event);
    if (!hit) return;
    cursor = hit.node;
    zoom(hit.node);
    goTo(hit.node);
  });

  const zoomed = () => { focus = nodeOf(framed()); say(describe(cursor || focus, now)); paint(); };
  state.listen((changed) => {
    if (["shape", "weight"].some((key) => changed.has(key))) draw();
    else if (now.root && now.root.value) {
      if (changed.has("frame")) zoomed();
      if (changed.has("search") || changed.has("literal")) {
        byId("flame-literal").setAttribute("aria-pressed", String(state.get("literal") !== "1"));
        field.value = field === document.activeElement ? field.value : state.get("search");
        say(describe(cursor || focus, now));
        search();
        paint();
      }
    }
  });
  return {
    draw: (kind) => {
      if (kind !== now.kind && now.kind) cursor = null;
      now.kind = kind;
      draw();
    },
    frames: drawing.frames,
    stackText,
  };
};
