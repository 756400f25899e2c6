"use strict";
/*
 * The recording by time: what there is of a kind in a span of time and of latencies. over: see overtime.py; closeUp: the
 * same, with every slice, but only around stops (aroundNs: [before, after] the end of one of `stops` that is `close`).
 */
livedump.timeline = ({ over, closeUp, aroundNs, stops }) => {
  const { own, unpack: { columns, paths, bucketLow, grow } } = livedump;
  const whole = over.step_ns * over.steps;

  /* Cells are unpacked when they are asked for, once. */
  const kept = new Map();
  const once = (key, make) => {
    if (!kept.has(key)) kept.set(key, make());
    return kept.get(key);
  };
  const nameOf = (view) => (view === over ? "over" : "close");
  const heat = (view, kind) => once(`heat ${nameOf(view)} ${kind}`, () => {
    const packed = own(view.heat, kind);
    if (!packed) return { timed: true, shift: 0, steps: [], bands: [], counts: [] };
    const [steps, bands, counts] = columns(packed.cells, 3);
    return { timed: packed.timed, shift: packed.shift, steps, bands, counts };
  });
  const stacks = (view, kind) => once(`stacks ${nameOf(view)} ${kind}`, () => {
    const packed = own(view.stacks, kind);
    if (!packed) return { every: 1, left_out: 0, paths: [], steps: [], numbers: [], counts: [], stalled: [] };
    const [steps, numbers, counts, stalled] = columns(packed.cells, 4);
    return { every: packed.every, left_out: packed.left_out, paths: paths(packed.paths), steps, numbers, counts, stalled };
  });

  /* The finest that has all of a span of time. */
  const windows = stops.filter((stop) => closeUp && stop.close).map((stop) => {
    const step = closeUp.step_ns, end = stop.start_ns + stop.duration_ns;
    return [Math.floor(Math.max(0, end - aroundNs[0]) / step) * step, Math.ceil((end + aroundNs[1]) / step) * step];
  });
  const viewOf = ([from, to]) => (windows.some(([first, last]) => from >= first && Math.min(to, whole) <= last) ? closeUp : over);

  const lowOf = (band, shift) => bucketLow(band * 2 ** shift);
  /* Of each cell in a span (null: all the time) and a range of latencies (null: all). A band belongs to where it begins. */
  const cells = (kind, span, range, visit) => {
    const view = viewOf(span || [0, whole]), found = heat(view, kind);
    for (let at = 0; at < found.steps.length; at += 1) {
      const begins = found.steps[at] * view.step_ns;
      if (span && (begins < span[0] || begins >= span[1])) continue;
      const low = lowOf(found.bands[at], found.shift);
      if (range && found.timed && (low < range[0] || low >= range[1])) continue;
      visit(found.counts[at], low, lowOf(found.bands[at] + 1, found.shift));
    }
    return found;
  };
  const count = (kind, span, range) => {
    let sum = 0;
    cells(kind, span, range, (faults) => { sum += faults; });
    return sum;
  };

  /* As livedump/metrics.py has it: by the nearest rank, a value is the middle of its bucket. */
  const latency = (kind, span, range) => {
    const byLow = new Map();
    const { timed, shift } = cells(kind, span, range, (faults, low, high) => {
      const bucket = byLow.get(low) || [low, high, 0];
      bucket[2] += faults;
      byLow.set(low, bucket);
    });
    const buckets = [...byLow.values()].sort((a, b) => a[0] - b[0]);
    const total = buckets.reduce((sum, bucket) => sum + bucket[2], 0);
    const middle = ([low, high]) => Math.floor((low + high - 1) / 2);
    const quantile = (thousandths) => {
      const rank = Math.ceil((total * thousandths) / 1000);
      let seen = 0;
      const bucket = buckets.find(([, , faults]) => { seen += faults; return seen >= rank; });
      return bucket ? middle(bucket) : null;
    };
    const sum_ns = buckets.reduce((sum, bucket) => sum + bucket[2] * middle(bucket), 0);
    const quantiles = { p50_ns: quantile(500), p90_ns: quantile(900), p99_ns: quantile(990), "p99.9_ns": quantile(999) };
    const last = buckets[buckets.length - 1];
    return {
      kind, timed, buckets, count: total, ...quantiles, max_ns: last ? last[1] : null, sum_ns,
      within: 1 / 2 ** (5 - shift),  // half the width of a band, of its lower bound
    };
  };

  /*
   * Stacks in a span and a range: visit(path, count, stalled). A stack is known with its mean latency in a step only, which
   * is what must lie in the range. Returns over how long a span they really are, and how many faults had no room.
   */
  const stacksIn = (kind, span, range, visit) => {
    const asked = span || [0, whole], view = viewOf(asked), found = stacks(view, kind);
    const long = found.every * view.step_ns;
    let any = false;
    for (let at = 0; at < found.steps.length; at += 1) {
      const begins = found.steps[at] * long;
      if (begins >= asked[1] || begins + long <= asked[0]) continue;
      const mean = found.stalled[at] / found.counts[at];
      if (range && !(mean >= range[0] && mean < range[1])) continue;
      any = true;
      visit(found.paths[found.numbers[at]], found.counts[at], found.stalled[at]);
    }
    return { any, span: [Math.floor(asked[0] / long) * long, Math.ceil(asked[1] / long) * long], leftOut: found.left_out, step: long };
  };
  /* As a tree; weight: 0 count, 1 stalled time. */
  const tree = (kind, span, range, weight) => {
    const taken = [];
    const about = stacksIn(kind, span, range, (path, ...weights) => {
      if (weights[weight]) taken.push([path, { value: weights[weight] }]);
    });
    const root = grow(kind, taken, (node, { value }) => { node.value += value; }, { value: 0 });
    root.empty = about.any ? "" : "No stack was taken there.";
    return { root, ...about };
  };
  /* By name of the task, most faults first. */
  const tasks = (kind, span, range) => {
    const byName = new Map();
    const about = stacksIn(kind, span, range, ([comm], faults, stalled) => {
      const row = byName.get(comm) || { comm, count: 0, stalled_ns: 0 };
      row.count += faults;
      row.stalled_ns += stalled;
      byName.set(comm, row);
    });
    return { rows: [...byName.values()].sort((a, b) => b.count - a.count), ...about };
  };

  /* What was lost in a span of time: [[what, how many], ...] */
  const lost = (span) => {
    const view = viewOf(span), sums = view.losses.names.map(() => 0);
    for (const [step, number, losses] of view.losses.cells) {
      if (step * view.step_ns >= span[0] && step * view.step_ns < span[1]) sums[number] += losses;
    }
    return view.losses.names.map((name, number) => [name, sums[number]]).filter(([, sum]) => sum);
  };

  return { whole, viewOf, heat, count, latency, tree, tasks, lost, lowOf };
};
