"use strict";
/* What does not change with what is chosen: header, losses, downtime, how it was recorded. */
(() => {
  const { data, byId, grouped, ns, element, facts, note, table } = livedump;
  const meta = data.meta;

  /* ---- header ---------------------------------------------------------- */

  const start = new Date(meta.clocks.start.realtime_ns / 1e6);
  byId("where").textContent = `${meta.host} · Linux ${meta.kernel.release}`;
  facts(byId("facts"), [
    ["Recorded", `${start.toISOString().replace("T", " ").slice(0, 19)} UTC`],
    ["Duration", ns(data.duration_ns)],
    ["Suspended meanwhile", data.suspended_ns ? ns(data.suspended_ns) : null],
    ["Command", meta.command && meta.command.argv.join(" ")],
    ["Exit status", meta.command && meta.command.status],
    ["Only faults of", Object.entries(meta.options.filter || {}).map(([what, whom]) => `${what} ${whom}`).join(", ")],
    ["CPUs", meta.cpus],
    ["Memory", meta.memory_bytes && `${(meta.memory_bytes / 2 ** 30).toFixed(1)} GiB`],
    ["Ended by", meta.ended_by],
  ]);

  /* ---- losses ---------------------------------------------------------- */

  const losses = byId("losses");
  if (data.losses.length) {
    losses.append(
      element("p", { class: data.events_lost ? "banner bad" : "note" }, data.losses_text),
      table(data.losses, [
        ["where", (row) => row.probe, "", (row) => row.probe], ["what", (row) => row.what, "wide", (row) => row.what],
        ["count", (row) => grouped(row.count), "n", (row) => row.count],
      ]));
  } else {
    losses.append(element("p", { class: "banner good" }, "Nothing that can be counted was lost"));
  }
  if (data.cow_check) {
    const check = data.cow_check;
    losses.append(note(
      `Copy-on-write faults: ${grouped(check.module)} by the module's own count, ${grouped(check.seen)} seen by BPF, ` +
      `difference ${grouped(check.unseen)}` +
      (check.not_traced_by_module ? `, ${grouped(check.not_traced_by_module)} of them not traced by the module.` : ".")));
  }
  for (const text of data.unmeasured) losses.append(note(`Not countable: ${text}.`));
  for (const absent of data.absent) losses.append(note(`Not recorded: ${absent.name}: ${absent.reason}.`));
  if (data.flames_cut) {
    const { kept, frames, share } = data.flames_cut;
    losses.append(note(
      `The flame graphs have the ${grouped(kept)} heaviest of ${grouped(frames)} frames, to keep the page small: ` +
      `all that are more than ${(share * 100).toPrecision(2)} % of their kind. "(left out)" stands for the others.`));
  }

  /* ---- downtime -------------------------------------------------------- */

  const colours = { rendezvous: "--p2", save: "--p1", protect: "--p3", flush: "--p4", recopy: "--p6", exit: "--p5" };
  byId("receipts").hidden = !data.receipts.length && !meta.triggers.length;
  for (const fired of meta.triggers) {
    const came = fired.done.file ? `${fired.done.file}, ${fired.done.verdict}`
      : fired.error ? `failed: ${fired.error}` : "not finished";
    byId("receipts").append(note(`Triggered after ${ns(fired.slice * meta.slice_ns)} by ${fired.condition}: ${came}.`));
  }
  /* Both time the same call of stop_machine(), the module around it, BPF by probes at its entry and its return. */
  const beside = (difference) => {
    if (difference === null) return null;
    if (difference === 0) return "the same";
    return difference < 0 ? `${ns(-difference)} less: its probes are inside the call that the module times`
      : `${ns(difference)} more: its last probe came after the module had read its clock`;
  };
  data.receipts.forEach((receipt, index) => {
    const whole = Math.max(1, Object.values(receipt.phases_ns).reduce((sum, value) => sum + value, 0));
    const bar = element("div", { class: "phases", role: "img", "aria-label": "Phases of the stop" });
    const legend = element("div", { class: "legend" });
    for (const [name, value] of Object.entries(receipt.phases_ns)) {
      const colour = `background: var(${colours[name]})`;
      if (value) bar.append(element("i", { style: `${colour}; width: ${(100 * value) / whole}%`, title: `${name} ${ns(value)}` }));
      legend.append(element("span", {}, element("i", { style: colour }), `${name} ${ns(value)}`));
    }
    const list = facts(element("dl", { class: "facts" }), [
      ["The same stop by BPF's clock", receipt.bpf_stop_ns === null ? "not seen" : ns(receipt.bpf_stop_ns)],
      ["BPF's clock against the module's", beside(receipt.difference_ns)],
      ["Prepared in", ns(receipt.prepare_ns)],
      ["Entries protected", grouped(receipt.entries_protected)],
      ["Attempts", receipt.attempts],
      ["Held for", receipt.release_monotonic_ns && ns(receipt.release_monotonic_ns - receipt.snapshot_monotonic_ns)],
      ["Released in", receipt.release_ns && ns(receipt.release_ns)],
      ["Faults while held", receipt.faults !== null ? grouped(receipt.faults) : null],
      ["Pages lost", receipt.pages_lost !== null ? grouped(receipt.pages_lost) : null],
    ]);
    byId("receipts").append(element("div", { class: "receipt" },
      data.receipts.length > 1 ? element("h3", {}, `Snapshot ${index + 1}`) : "",
      element("p", { class: "big" }, `${ns(receipt.stop_ns)} `, element("small", {}, "the machine was stopped, by the module's own clock")),
      bar, legend, list));
  });

  /* ---- how this was recorded ------------------------------------------- */

  byId("about").append(table(meta.probes, [
    ["probe", (row) => row.name, "", (row) => row.name], ["point", (row) => element("code", {}, row.point), "wide", (row) => row.point],
    ["type", (row) => row.attach, "", (row) => row.attach], ["why this one", (row) => row.why || "–", "wide"],
  ], { first: 100 }), facts(element("dl", { class: "facts" }), [
    ...Object.entries(meta.versions || {}), ["kernel", meta.kernel.version], ["clock source", meta.clocksource],
    ["boot", meta.boot_id],
  ]));
})();
