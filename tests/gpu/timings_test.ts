import assert from "node:assert/strict";
import { kernelTimes, Latest, type TimedCall } from "../../lib/gpu/timings.ts";
import { chromeTrace } from "../../lib/gpu/trace.ts";
import { workOf } from "../../lib/gpu/work.ts";
import type { GpuBuffer } from "../../lib/gpu/buffers.ts";

const call = (label: string, milliseconds: number, more: Partial<TimedCall> = {}): TimedCall => ({
  label,
  startNs: 0,
  milliseconds,
  flop: 0,
  bytes: 0,
  first: false,
  ...more,
});

Deno.test("kernelTimes() adds calls up, the slowest kernel first, rates without first runs", () => {
  const rows = kernelTimes([
    call("copy", 1, { bytes: 4e6 }),
    call("matmul", 90, { flop: 2e9, bytes: 1e6, first: true }),
    call("matmul", 2, { flop: 3e9, bytes: 1e6 }),
    call("matmul", 4, { flop: 3e9, bytes: 2e6 }),
    call("once", 3, { flop: 1e9, first: true }),
  ]);
  assert.deepEqual(rows, [
    {
      label: "matmul",
      calls: 3,
      milliseconds: 96,
      firstMilliseconds: 90,
      flop: 8e9,
      bytes: 4e6,
      gflops: 1000,
      gbps: 0.5,
      share: 0.96,
    },
    {
      label: "once",
      calls: 1,
      milliseconds: 3,
      firstMilliseconds: 3,
      flop: 1e9,
      bytes: 0,
      gflops: null,
      gbps: null,
      share: 0.03,
    },
    {
      label: "copy",
      calls: 1,
      milliseconds: 1,
      firstMilliseconds: 0,
      flop: 0,
      bytes: 4e6,
      gflops: null,
      gbps: 4,
      share: 0.01,
    },
  ]);
  assert.equal(kernelTimes([call("nothing", 0)])[0].share, 0);
});

Deno.test("Latest keeps the last values and counts all", () => {
  const latest = new Latest<number>(4);
  for (let i = 0; i < 3; i++) latest.push(i);
  assert.deepEqual([latest.count, latest.leftOut, latest.from(0)], [3, 0, [0, 1, 2]]);
  for (let i = 3; i < 10; i++) latest.push(i);
  assert.deepEqual([latest.count, latest.leftOut], [10, 6]);
  assert.deepEqual(latest.from(0), [6, 7, 8, 9]);
  assert.deepEqual(latest.from(8), [8, 9]);
  assert.deepEqual(latest.from(10), []);
});

Deno.test("workOf() counts each distinct binding once, by the bytes in use", () => {
  const buffer = (id: number, usedBytes: number) =>
    ({ raw: {}, id, usedBytes, sizeBytes: 4096 }) as unknown as GpuBuffer;
  const [x, y] = [buffer(1, 100), buffer(2, 40)];
  const range = (offset: number) => ({ buffer: x, offset, sizeBytes: 256 });
  assert.deepEqual(workOf([x, y]), { bytes: 140 });
  assert.deepEqual(workOf([x, y, x]), { bytes: 140 });
  assert.deepEqual(workOf([range(0), range(256), range(0), y]), { bytes: 552 });
  assert.deepEqual(workOf([x], { flop: 7 }), { flop: 7, bytes: 100 });
  assert.deepEqual(workOf([x], { bytes: 12 }), { bytes: 12 });
});

Deno.test("chromeTrace() puts device and host on the host's clock, in microseconds", () => {
  const { traceEvents, otherData } = chromeTrace({
    adapter: "a device",
    calls: [
      call("matmul", 0.5, { startNs: 2_000_000, flop: 1e9, bytes: 5e5, first: true }),
      call("wait-free", 0),
    ],
    spans: [
      { name: "submit", start: 10, end: 10.25, facts: { commands: 2 } },
      { name: "wait", start: 11, end: 12, facts: {} },
    ],
    originMs: 100,
    callsLeftOut: 3,
    spansLeftOut: 0,
  });
  const names = traceEvents.filter((e) => e.name === "thread_name");
  assert.deepEqual(names.map((e) => [e.tid, e.args?.name]), [[1, "device"], [2, "host"], [
    3,
    "host waits",
  ]]);
  assert.deepEqual(traceEvents.filter((e) => e.ph === "X"), [
    {
      name: "matmul",
      ph: "X",
      pid: 1,
      tid: 1,
      ts: 102_000,
      dur: 500,
      args: { flop: 1e9, "GFLOP/s": 2000, bytes: 5e5, "GB/s": 1, "first run": 1 },
    },
    { name: "wait-free", ph: "X", pid: 1, tid: 1, ts: 100_000, dur: 0, args: {} },
    { name: "submit", ph: "X", pid: 1, tid: 2, ts: 10_000, dur: 250, args: { commands: 2 } },
    { name: "wait", ph: "X", pid: 1, tid: 3, ts: 11_000, dur: 1000, args: {} },
  ]);
  assert.deepEqual(otherData, {
    adapter: "a device",
    commands_left_out: 3,
    host_spans_left_out: 0,
  });
});
