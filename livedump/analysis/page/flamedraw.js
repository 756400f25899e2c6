"use strict";
/*
 * A flame graph on a canvas: which frame is where, and what it looks like. An element for each of the 18,000 frames that a
 * large recording shows took ten seconds to come up; this takes a tenth of one.
 */
livedump.flameDrawing = (target, colour) => {
  const { css, element, sharp } = livedump;
  const rowHeight = 18, least = 0.8, mostRows = 400;
  const canvas = element("canvas", { "aria-hidden": "true" });
  let rows = [], upward = true, height = 0, widths = null;

  /*
   * A frame is under its caller, its siblings beside it. Siblings that are too narrow to be told apart become one frame, and
   * what they call is under that: thousands of stacks that are alike would be a flat line else. A drawn frame has `node`, the
   * heaviest of `nodes`.
   */
  const place = (focus, width) => {
    rows = [];
    const put = (depth, x, wide, nodes, faded = false) => {
      const heaviest = nodes.reduce((most, [each]) => (each.value > most.value ? each : most), nodes[0][0]);
      (rows[depth] = rows[depth] || []).push({ node: heaviest, nodes, x, width: wide, depth, faded });
    };
    const above = [];
    for (let frame = focus; frame; frame = frame.parent) above.unshift(frame);
    above.splice(0, Math.max(0, above.length - mostRows / 2));  // deeper down there must be room for what one zooms to
    above.forEach((frame, depth) => put(depth, 0, width, [[frame, 0]], frame !== focus));

    const scale = focus.value ? width / focus.value : 0;
    let level = [[[focus, 0]]];  // of each frame that is drawn: its nodes, and where they begin
    for (let depth = above.length; level.length && depth < mostRows; depth += 1) {
      const next = [];
      let run = [], end = 0;
      const flush = () => {
        if (run.length && end - run[0][1] >= least / 4) {
          put(depth, run[0][1], end - run[0][1], run);
          next.push(run);
        }
        run = [];
      };
      for (const nodes of level) {
        for (const [frame, from] of nodes) {
          let x = from;
          for (const child of frame.children) {
            const wide = child.value * scale;
            if (wide >= least || (run.length && end - run[0][1] >= least)) flush();
            run.push([child, x]);
            x += wide;
            end = x;
            if (wide >= least) flush();
          }
        }
        flush();
      }
      level = next;
    }
  };

  const top = (depth) => (upward ? height - (depth + 1) * rowHeight : depth * rowHeight);

  /* Text is cut to what there is room for; a letter's width is measured once, of all that are usual. */
  const fitted = (context, text, room) => {
    widths = widths || context.measureText("abcdefghijklmnopqrstuvwxyz_").width / 27;
    const most = Math.floor(room / (widths * 0.8));
    let cut = text.length > most ? `${text.slice(0, Math.max(0, most - 1))}…` : text;
    while (cut.length > 2 && context.measureText(cut).width > room) cut = `${cut.slice(0, -2)}…`;
    return cut.length > 2 ? cut : "";
  };

  const paint = (cursor, found) => {
    const width = target.clientWidth, context = sharp(canvas, width, height);
    const line = css("--card"), mark = css("--text");
    context.font = '11.5px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = "middle";
    for (const row of rows) {
      for (const { node, nodes, x, width: wide, depth, faded } of row) {
        const y = top(depth);
        context.globalAlpha = faded ? 0.55 : 1;
        context.fillStyle = found && nodes.some(([each]) => found.has(each)) ? "#d05ce3" : colour(node, depth);
        context.fillRect(x, y, wide < 3 ? wide : wide - 0.6, rowHeight - 0.6);
        if (wide < 30) continue;
        context.globalAlpha = 1;
        context.fillStyle = "#16191d";
        context.fillText(fitted(context, node.name, wide - 8), x + 4, y + rowHeight / 2);
      }
    }
    context.globalAlpha = 1;
    const at = cursor && drawnAt(cursor);
    if (at) {
      context.lineWidth = 3;
      context.strokeStyle = line;
      context.strokeRect(at.x + 1.5, top(at.depth) + 1.5, Math.max(1, at.width - 3), rowHeight - 3);
      context.lineWidth = 1.5;
      context.strokeStyle = mark;
      context.strokeRect(at.x + 0.75, top(at.depth) + 0.75, Math.max(1, at.width - 1.5), rowHeight - 1.5);
    }
  };

  const drawnAt = (node) => rows.flat().find((each) => each.node === node);

  /* of: { focus, cursor, found: nodes to mark, upward: the root is at the bottom } */
  const draw = (of) => {
    ({ upward } = of);
    place(of.focus, target.clientWidth);
    height = rows.length * rowHeight;
    if (canvas.parentNode !== target) target.replaceChildren(canvas);
    paint(of.cursor, of.found);
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect(), y = event.clientY - box.top, x = event.clientX - box.left;
    const depth = Math.floor((upward ? height - y : y) / rowHeight);
    const hit = (rows[depth] || []).find((each) => x >= each.x && x < each.x + each.width);
    return hit || null;
  };

  const reveal = (node) => {
    const found = drawnAt(node);
    if (!found) return;
    const y = canvas.getBoundingClientRect().top + top(found.depth);
    if (y < 0) window.scrollBy(0, y - rowHeight);
    else if (y + rowHeight > window.innerHeight) window.scrollBy(0, y + 2 * rowHeight - window.innerHeight);
  };

  /* What is drawn: { node, nodes, x, width, depth, faded }, the root's row first. */
  const frames = () => rows.flat();
  return { draw, at, reveal, frames, canvas };
};
