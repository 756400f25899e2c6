"use strict";
/*
 * What has been chosen: kind, selection, zoom, search, ... It is in the URL's fragment, so that a link shows what one sees.
 * Values are text; whoever reads one judges it, as anybody may write a URL.
 */
livedump.state = (() => {
  const listeners = [];
  let values = new Map(), written = null, timer = null;

  const read = () => new Map(new URLSearchParams(window.location.hash.slice(1)));
  const text = () => new URLSearchParams([...values].sort(([a], [b]) => (a < b ? -1 : 1))).toString();
  const tell = (changed) => { for (const listener of listeners) listener(changed); };

  /* Browsers refuse more than some hundred changes in half a minute, as when an arrow key is held down. */
  const write = () => {
    timer = null;
    written = `#${text()}`;
    try {
      window.history.replaceState(null, "", written === "#" ? window.location.pathname + window.location.search : written);
    } catch (error) {
      window.location.hash = written;
    }
  };
  const set = (changes) => {
    const changed = new Set();
    for (const [key, value] of Object.entries(changes)) {
      const wanted = value === null || value === undefined || value === "" ? undefined : String(value);
      if (values.get(key) === wanted) continue;
      changed.add(key);
      if (wanted === undefined) values.delete(key); else values.set(key, wanted);
    }
    if (!changed.size) return;
    if (timer === null) timer = setTimeout(write, 200);
    tell(changed);
  };

  values = read();
  window.addEventListener("hashchange", () => {
    if (window.location.hash === written) return;
    const before = values;
    values = read();
    tell(new Set([...before.keys(), ...values.keys()].filter((key) => before.get(key) !== values.get(key))));
  });

  const get = (key) => values.get(key) || "";
  /* One of what there is; else the first of it. */
  const oneOf = (key, among) => (among.includes(get(key)) ? get(key) : among[0]);
  /* "2,3.5" -> [2, 3.5]; null for anything else, or what is no span. */
  const span = (key) => {
    const parts = get(key).split(",").map((part) => (part.trim() ? Number(part) : NaN));
    return parts.length === 2 && parts.every(Number.isFinite) && parts[0] < parts[1] ? parts : null;
  };
  return { get, set, oneOf, span, flush: write, listen: (listener) => listeners.push(listener) };
})();
