// A profile as Chrome trace events (Trace Event Format, complete events "X"): chrome://tracing and Perfetto open it.

import type { TimedCall } from "./timings.ts";

/** Something the host did or waited for; milliseconds of `performance.now()`. */
export interface HostSpan {
  name: "record" | "submit" | "upload" | "wait";
  start: number;
  end: number;
  /** Numbers worth seeing: commands, bytes. */
  facts: Record<string, number>;
}

/** One event: a span of time (`X`) or the name of a track (`M`). Times in microseconds. */
export interface TraceEvent {
  name: string;
  ph: "X" | "M";
  pid: number;
  tid: number;
  ts?: number;
  dur?: number;
  args?: Record<string, string | number>;
}

/** What a trace file holds, as an object. */
export interface ChromeTrace {
  traceEvents: TraceEvent[];
  displayTimeUnit: "ms";
  otherData: {
    adapter: string;
    /** Timed commands before the first of this trace. */
    commands_left_out: number;
    /** Spans of the host before the first of this trace. */
    host_spans_left_out: number;
  };
}

/** What a trace is made of. */
export interface TraceParts {
  adapter: string;
  calls: readonly TimedCall[];
  spans: readonly HostSpan[];
  /** Milliseconds of the host's clock at `startNs` = 0 of the calls. */
  originMs: number;
  callsLeftOut: number;
  spansLeftOut: number;
}

const TRACKS = ["device", "host", "host waits"] as const;

/** Puts device and host on one clock, that of the host, a track each; waits have their own, since they may overlap. */
export function chromeTrace(parts: TraceParts): ChromeTrace {
  const track = (name: (typeof TRACKS)[number]) => TRACKS.indexOf(name) + 1;
  const events: TraceEvent[] = [
    { name: "process_name", ph: "M", pid: 1, tid: 0, args: { name: parts.adapter } },
    ...TRACKS.flatMap((name): TraceEvent[] => [
      { name: "thread_name", ph: "M", pid: 1, tid: track(name), args: { name } },
      {
        name: "thread_sort_index",
        ph: "M",
        pid: 1,
        tid: track(name),
        args: { sort_index: track(name) },
      },
    ]),
  ];
  const span = (
    name: string,
    tid: number,
    startMs: number,
    ms: number,
    args: Record<string, number>,
  ) => events.push({ name, ph: "X", pid: 1, tid, ts: micros(startMs), dur: micros(ms), args });
  for (const { label, startNs, milliseconds, flop, bytes, first } of parts.calls) {
    span(label, track("device"), parts.originMs + startNs / 1e6, milliseconds, {
      ...(flop > 0 && { flop, "GFLOP/s": rounded(flop, milliseconds) }),
      ...(bytes > 0 && { bytes, "GB/s": rounded(bytes, milliseconds) }),
      ...(first && { "first run": 1 }),
    });
  }
  for (const { name, start, end, facts } of parts.spans) {
    span(name, track(name === "wait" ? "host waits" : "host"), start, end - start, facts);
  }
  return {
    traceEvents: events,
    displayTimeUnit: "ms",
    otherData: {
      adapter: parts.adapter,
      commands_left_out: parts.callsLeftOut,
      host_spans_left_out: parts.spansLeftOut,
    },
  };
}

/** Milliseconds → microseconds, to the nanosecond. */
function micros(ms: number): number {
  return Math.round(ms * 1e6) / 1e3;
}

/** Amount per second in 10⁹, two decimals; 0 where no time passed. */
function rounded(amount: number, milliseconds: number): number {
  return milliseconds > 0 ? Math.round(amount / milliseconds / 1e4) / 100 : 0;
}
