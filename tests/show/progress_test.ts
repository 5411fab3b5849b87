import assert from "node:assert/strict";
import {
  compact,
  duration,
  notebookProgress,
  progressLine,
  type ProgressState,
  progressText,
  terminalProgress,
} from "../../lib/show/progress.ts";

/** A clock that a test sets. */
function clock() {
  const time = { ms: 0, now: () => time.ms };
  return time;
}

Deno.test("terminalProgress() without a terminal prints a line every ten seconds and the last one", () => {
  const time = clock();
  let out = "";
  const progress = terminalProgress({ write: (t) => out += t, terminal: false, now: time.now });
  for (let step = 1; step <= 25; step++) {
    time.ms = 1000 * step;
    progress.update({ label: "joint", step, total: 100, fields: { text: 1.02, note: "warm" } });
  }
  progress.done();
  assert.equal(
    out,
    "joint  1/100  text 1.02  note warm\n" +
      "joint  11/100  text 1.02  note warm  left 89 s\n" +
      "joint  21/100  text 1.02  note warm  left 79 s\n" +
      "joint  25/100  text 1.02  note warm  left 75 s\n",
  );
});

Deno.test("terminalProgress() redraws one line, no wider than the terminal", () => {
  const time = clock();
  const out: string[] = [];
  const progress = terminalProgress({
    write: (t) => out.push(t),
    terminal: true,
    columns: () => 31,
    now: time.now,
  });
  progress.update({ label: "und", step: 0, total: 10 });
  progress.update({ label: "und", step: 1, total: 10 }); // too soon
  time.ms = 100;
  progress.update({ label: "und", step: 5, total: 10 });
  progress.note("saved");
  progress.done();
  assert.equal(out[0], "\r\x1b[Kund  ················  0/10");
  assert.equal(out[1], "\r\x1b[Kund  ████····  5/10  left 1 s");
  assert.equal(out[2], "\r\x1b[Ksaved\nund  ████····  5/10  left 1 s");
  assert.equal(out.at(-1), "\n");
  assert.equal(out.length, 5);
});

/** A step of a training, as its command tells it. */
const TRAINING: ProgressState = {
  label: "tiny-curriculum",
  stage: "instruction",
  step: 1204,
  total: 40_000,
  fields: {
    text: 0.6801,
    flow: 1.651,
    "tok/s": 2204,
    waiting: "0.7 %",
    grad: 0.9822,
    gpu: "0.0/4.0 GB",
  },
  spare: ["grad", "gpu", "label", "waiting", "bar", "stage", "tok/s"],
};

Deno.test("progressLine() leaves out whole parts, the least important first", () => {
  const at = (columns: number) => progressLine(TRAINING, 43_000, columns - 1);
  assert.deepEqual([60, 80, 120, 200].map(at), [
    "1204/40000  text 0.680  flow 1.65  tok/s 2.2k  left 43 s",
    "instruction  ······  1204/40000  text 0.680  flow 1.65  tok/s 2.2k  left 43 s",
    "tiny-curriculum  instruction  ··············  1204/40000  text 0.680  flow 1.65  tok/s 2.2k" +
    "  waiting 0.7 %  left 43 s",
    "tiny-curriculum  instruction  ················  1204/40000  text 0.680  flow 1.65  tok/s 2.2k" +
    "  waiting 0.7 %  grad 0.982  gpu 0.0/4.0 GB  left 43 s",
  ]);
  const whole = progressText(TRAINING, 43_000).split("  ");
  for (let columns = 1; columns <= 200; columns++) {
    const line = at(columns);
    assert.ok(line.length < Math.max(columns, 1), `${columns}: ${line}`);
    const words = line.split("  ").filter((part) => part !== "" && !/^[█·]+$/.test(part));
    for (const word of words) assert.ok(whole.includes(word), `${columns}: ${word} was cut`);
  }
});

Deno.test("progressLine() has the same parts while its numbers change", () => {
  const names = (text: number, leftMs: number, columns: number) => {
    const state = { ...TRAINING, fields: { ...TRAINING.fields, text } };
    return progressLine(state, leftMs, columns).replaceAll(/[\d.]+k?|[█·]+/g, "");
  };
  for (let columns = 20; columns <= 140; columns++) {
    assert.equal(names(1.5, 9000, columns), names(0.1234, 90_000, columns), String(columns));
  }
});

Deno.test("progressLine() keeps what is being done, and the steps to the last", () => {
  const fields = { ...TRAINING.fields, "": "compiling kernels" };
  const doing = (width: number) => progressLine({ ...TRAINING, fields }, undefined, width);
  assert.match(doing(79), /tok\/s 2\.2k {2}compiling kernels$/);
  assert.equal(doing(12), "1204/40000");
  assert.equal(doing(9), "");
  const plain = { label: "wait", step: 3, total: 8, fields: { "": "MB  2.1 MB/s  model.bin" } };
  assert.equal(progressLine(plain, 9000, 40), "wait  3/8  MB  2.1 MB/s  left 9 s");
});

Deno.test("progress forgets the pace when another task begins, and the first step does not count", () => {
  const time = clock();
  let out = "";
  const progress = terminalProgress({
    write: (t) => out += t,
    terminal: false,
    now: time.now,
    everyMs: 0,
  });
  time.ms = 60_000; // the first step compiled kernels for a minute
  progress.update({ label: "und", step: 1, total: 11 });
  time.ms += 1000;
  progress.update({ label: "und", step: 2, total: 11 });
  assert.match(out, /2\/11 {2}left 9 s\n$/);
  progress.update({ label: "joint", step: 1, total: 11 });
  assert.match(out, /joint {2}1\/11\n$/);
});

Deno.test("notebookProgress() updates one display, escaped and throttled", () => {
  const time = clock();
  const shown: [string, string, boolean][] = [];
  const progress = notebookProgress({
    display: (html, text, update) => shown.push([html, text, update]),
    now: time.now,
  });
  for (let step = 0; step <= 10; step++) {
    time.ms = step * 50;
    progress.update({ label: "<und>", step, total: 10 });
  }
  progress.done();
  assert.equal(shown.length, 4); // at 0, 200, 400 ms and the last
  assert.deepEqual(shown.map(([, , update]) => update), [false, true, true, true]);
  assert.match(shown[3][0], /^<div>&#60;und&#62; {2}10\/10<br><progress max="100" value="100"/);
  assert.equal(shown[3][1], "<und>  10/10");
});

Deno.test("progressText() joins label, stage, steps, fields and time left", () => {
  const state = {
    label: "a",
    stage: "b",
    step: 1,
    total: 4,
    fields: { "tok/s": 1934, "": "compiling kernels" },
  };
  assert.equal(
    progressText(state, 130_000),
    "a  b  1/4  tok/s 1.9k  compiling kernels  left 2 min",
  );
  assert.equal(progressText({ label: "a", step: 3, total: 0 }, undefined), "a  3/0");
  assert.equal(progressLine({ label: "a", step: 3, total: 0 }, undefined, 14), "a  ······  3/0");
});

Deno.test("terminalProgress() keeps the pace from stage to stage, and draws each at once", () => {
  const time = clock();
  const out: string[] = [];
  const progress = terminalProgress({ write: (t) => out.push(t), terminal: false, now: time.now });
  for (let step = 1; step <= 5; step++) {
    time.ms = 1000 * step;
    progress.update({ label: "a", stage: step < 5 ? "first" : "second", step, total: 10 });
  }
  assert.deepEqual(out, ["a  first  1/10\n", "a  second  5/10  left 5 s\n"]);
});

Deno.test("compact() and duration() are short", () => {
  const numbers = [1.024, 0.3149, 0, 0.0004, 1934, 250, 2.5e6, NaN].map(compact);
  assert.deepEqual(numbers, ["1.02", "0.315", "0", "4.0e-4", "1.9k", "250", "2.5M", "NaN"]);
  assert.deepEqual([900, 94_000, 130_000, 7.2e6].map(duration), ["1 s", "94 s", "2 min", "2.0 h"]);
});
