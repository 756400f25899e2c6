"use strict";
/* What all scripts of both pages use: the data, text, and elements. */
const livedump = (() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* Of a kind, whatever it is called: `object.constructor` is something else. */
  const own = (object, key, otherwise = undefined) => (object && Object.hasOwn(object, key) ? object[key] : otherwise);

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
  const tick = (value) => ns(value).replace(/(\.\d*?)0+(?= )/, "$1").replace(/\.(?= )/, "");

  /* 1, 2, 5, 10, ... ns within [low, high]; without 2 and 5 where there is no room for them. */
  const roundValues = (low, high, most = 12) => {
    const powers = [];
    for (let power = 0; 10 ** power <= high; power += 1) powers.push(10 ** power);
    for (const steps of [[1, 2, 5], [1]]) {
      const found = powers.flatMap((power) => steps.map((step) => step * power)).filter((value) => value >= low && value <= high);
      if (found.length && (found.length <= most || steps.length === 1)) return found;
    }
    return [];
  };

  /* ---- elements -------------------------------------------------------- */

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
  const note = (text) => element("p", { class: "note" }, text);

  const facts = (target, pairs) => {
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      target.append(element("div", {}, element("dt", {}, name), element("dd", {}, String(value))));
    }
    return target;
  };

  /* A row of buttons, one of them pressed. Returns what presses another one, without a pick. */
  const choice = (target, values, label, pick) => {
    const show = (value) => {
      for (const button of target.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    };
    for (const value of values) {
      const button = element("button", { type: "button", "data-value": value }, label(value));
      button.addEventListener("click", () => pick(value));
      target.append(button);
    }
    return show;
  };

  /* A canvas as sharp as the screen: its context draws in CSS pixels. */
  const sharp = (canvas, width, height) => {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    return context;
  };

  /* A page is drawn again when its width, its colours or the screen's density change. */
  const whenChanged = (draw) => {
    let width = window.innerWidth, ratio = window.devicePixelRatio;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width && window.devicePixelRatio === ratio) return;
      width = window.innerWidth;
      ratio = window.devicePixelRatio;
      draw();
    });
    dark.addEventListener("change", draw);
  };

  return { data, byId, dark, css, own, grouped, ns, tick, roundValues, element, note, facts, choice, sharp, whenChanged };
})();
