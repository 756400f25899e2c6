"use strict";
/* Trees and cells as livedump/analysis/pack.py has packed them. */
(() => {
  const { data } = livedump;

  /*
   * A tree from [depth, name, *weights, ...] in preorder. weigh(weights): of a node {value, ...}; what weighs nothing is
   * left out. A node has name, value, children and parent.
   */
  const tree = (packed, width, weigh) => {
    const above = [];
    let root = null;
    for (let at = 0; at < packed.length; at += 2 + width) {
      const depth = packed[at];
      const node = { name: data.names[packed[at + 1]], children: [], parent: depth ? above[depth - 1] : null, ...weigh(packed.slice(at + 2, at + 2 + width)) };
      above[depth] = node;
      if (node.parent && node.value) node.parent.children.push(node);
      if (!node.parent) root = node;
    }
    return root;
  };

  /* [[name, ...], ...] */
  const paths = (packed) => {
    const found = [];
    let last = [];
    for (let at = 0; at < packed.length; at += 2 + packed[at + 1]) {
      last = last.slice(0, packed[at]).concat(packed.slice(at + 2, at + 2 + packed[at + 1]).map((name) => data.names[name]));
      found.push(last);
    }
    return found;
  };

  /* Cells of so many numbers of which the first is a step, as columns of numbers. */
  const columns = (packed, width) => {
    const length = packed.length / width;
    const found = Array.from({ length: width }, () => new Float64Array(length));
    let step = 0;
    for (let row = 0; row < length; row += 1) {
      step += packed[row * width];
      found[0][row] = step;
      for (let column = 1; column < width; column += 1) found[column][row] = packed[row * width + column];
    }
    return found;
  };

  /* The mirror of livedump/recording/buckets.py: lower bound of a bucket, and (with a fraction) the bucket of a value. */
  const bucketLow = (bucket) => (bucket < 16 ? bucket : (16 + (bucket % 16)) * 2 ** (Math.floor(bucket / 16) - 1));
  const bucketAt = (value) => {
    if (value < 16) return Math.max(0, value);
    const shift = Math.floor(Math.log2(value)) - 4;
    return (shift + 1) * 16 + value / 2 ** shift - 16;
  };

  /* The tree of stacks [[names, values of a node], ...]; add(node, values) adds them up. */
  const grow = (name, stacks, add, empty) => {
    const root = { name, children: [], parent: null, byName: new Map(), ...empty };
    for (const [path, values] of stacks) {
      let node = root;
      add(node, values);
      for (const frame of path) {
        let child = node.byName.get(frame);
        if (!child) {
          child = { name: frame, children: [], parent: node, byName: new Map(), ...empty };
          node.byName.set(frame, child);
          node.children.push(child);
        }
        add(child, values);
        node = child;
      }
    }
    const waiting = [root];
    while (waiting.length) {
      const node = waiting.pop();
      node.children.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
      waiting.push(...node.children);
    }
    return root;
  };

  /* Upside down: from the functions at the stacks' ends to their callers. keys: a node's weights. */
  const callers = (root, keys) => {
    const stacks = [], waiting = [root];  // what is below 0.01 is the rounding of what two recordings are scaled by
    while (waiting.length) {
      const node = waiting.pop(), self = {};
      for (const key of keys) self[key] = node.children.reduce((left, child) => left - child[key], node[key]);
      waiting.push(...node.children);
      if (!node.parent || !(self.value > 0.01)) continue;
      const path = [];
      for (let frame = node; frame.parent; frame = frame.parent) path.push(frame.name);
      stacks.push([path, self]);
    }
    const add = (node, values) => { for (const key of keys) node[key] += Math.max(0, values[key]); };
    return grow(root.name, stacks, add, Object.fromEntries(keys.map((key) => [key, 0])));
  };

  livedump.unpack = { tree, paths, columns, bucketLow, bucketAt, grow, callers };
})();
