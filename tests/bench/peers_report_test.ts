import assert from "node:assert/strict";
import { ratio, rejectAbove, report, type Row } from "./peers_report.ts";

const row = (name: string, group: Row["group"], samples: Row["samples"]): Row => (
  { name, group, flop: 1e9, samples, wrong: {} }
);
const facts = {
  adapter: "adapter",
  runtime: "runtime",
  date: "today",
  commit: "abc",
  ceiling: 50,
  engines: ["ours", "a", "b"].map((name) => ({ name, way: `way of ${name}` })),
};

/** What is printed, and what is emitted. */
function reported(rows: Row[]) {
  const lines: string[] = [];
  const events: Record<string, unknown>[] = [];
  report(
    { print: (text) => lines.push(...text.split("\n")), emit: (e) => events.push(e) },
    rows,
    facts,
  );
  return { lines, events };
}

Deno.test("ratio() is that of the medians of the faster peer and of ours", () => {
  const samples = { ours: [100, 110, 900], a: [500, 550, 560], b: [700, 800, 1] };
  assert.equal(ratio(row("x", "matmul", samples), "ours"), 5);
});

Deno.test("ratio() leaves out what was rejected", () => {
  const test = row("x", "matmul", { ours: [100], a: [1], b: [300] });
  assert.equal(ratio({ ...test, wrong: { a: "zeros" } }, "ours"), 3);
  assert.equal(ratio({ ...test, wrong: { ours: "zeros" } }, "ours"), undefined);
  assert.equal(ratio({ ...test, wrong: { a: "zeros", b: "zeros" } }, "ours"), undefined);
});

Deno.test("rejectAbove() rejects rates above the ceiling, of ours too", () => {
  const rows = [row("x", "matmul", { ours: [10], a: [21], b: [19] })]; // 100, 48 and 53 GFLOP/s
  rejectAbove(rows, 50);
  assert.deepEqual(Object.keys(rows[0].wrong), ["ours", "b"]);
  assert.match(rows[0].wrong.ours, /^100\.0 GFLOP\/s is above the ceiling of 50\.0$/);
});

Deno.test("report() prints means by group, the smallest ratio and why a row does not count", () => {
  const broken = {
    ...row("third", "block", { ours: [100], a: [200], b: [200] }),
    wrong: { ours: "zeros" },
  };
  const { lines, events } = reported([
    row("first", "matmul", { ours: [100], a: [400], b: [500] }),
    row("second", "matmul", { ours: [100], a: [1000], b: [900] }),
    broken,
  ]);
  assert.ok(
    lines.includes("matrix products: 6.00× the faster peer, geometric mean of 2 (wanted 6×)"),
  );
  assert.ok(lines.includes("smallest: 4.00× at first (wanted 2×)"));
  assert.ok(lines.includes("  rejected, ours: zeros"));
  assert.ok(!lines.some((line) => line.startsWith("transformer block:")));
  assert.ok(lines.some((line) => /adapter, runtime, today, commit abc/.test(line)));
  const cases = events.filter((e) => e.event === "case");
  assert.deepEqual(cases.map((e) => e.ratio), [4, 9, null]);
  assert.equal(events.find((e) => e.event === "mean")?.ratio, 6);
});
