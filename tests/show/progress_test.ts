import assert from "node:assert/strict";
import {
  compact,
  duration,
  notebookProgress,
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
  assert.equal(out[1], "\r\x1b[Kund  ████████········  5/10  l");
  assert.equal(out[2], "\r\x1b[Ksaved\nund  ████████········  5/10  l");
  assert.equal(out.at(-1), "\n");
  assert.equal(out.length, 5);
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

Deno.test("progressText() joins label, bar, step, fields and time left", () => {
  const state = {
    label: "a",
    step: 1,
    total: 4,
    fields: { "tok/s": 1934, "": "compiling kernels" },
  };
  assert.equal(
    progressText(state, 130_000, 4),
    "a  █···  1/4  tok/s 1.9k  compiling kernels  left 2 min",
  );
  assert.equal(progressText({ label: "a", step: 3, total: 0 }, undefined, 2), "a  ··  3/0");
});

Deno.test("compact() and duration() are short", () => {
  const numbers = [1.024, 0.3149, 0, 0.0004, 1934, 250, 2.5e6, NaN].map(compact);
  assert.deepEqual(numbers, ["1.02", "0.315", "0", "4.0e-4", "1.9k", "250", "2.5M", "NaN"]);
  assert.deepEqual([900, 94_000, 130_000, 7.2e6].map(duration), ["1 s", "94 s", "2 min", "2.0 h"]);
});
