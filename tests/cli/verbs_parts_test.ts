// The parts that the model's commands are made of: arguments, budget, thoughts as they come, names of files.

import assert from "node:assert/strict";
import { defaultBudget, openWithin } from "../../lib/cli/verbs/budget.ts";
import { Display } from "../../lib/cli/verbs/display.ts";
import { describePicture, linesOf, sortArguments } from "../../lib/cli/verbs/inputs.ts";
import { numbered, Preview } from "../../lib/cli/verbs/output.ts";
import { ThoughtSplitter, Trimmer } from "../../lib/cli/verbs/thought.ts";
import { type Desk, takeImages } from "../../lib/cli/verbs/world.ts";
import { splitThought } from "../../lib/infer/prompts.ts";
import type { Gpu, GpuOptions } from "../../lib/gpu/device.ts";

Deno.test("takeImages() takes repeated --image, commas and all, and joins values with a minus sign", () => {
  const cases: [string[], string[], string[]][] = [
    [["a", "--image", "x,y.png", "--image=z.png", "b"], ["a", "b"], ["x,y.png", "z.png"]],
    [["--image", "-.png"], [], ["-.png"]],
    [["--image"], ["--image"], []],
    [["--image", "--json"], ["--image", "--json"], []],
    [["--image="], ["--image="], []],
    [["--window", "-600/1500", "q"], ["--window=-600/1500", "q"], []],
    [["--window", "lung"], ["--window", "lung"], []],
    [["--text", "-", "--json", "-"], ["--text=-", "--json", "-"], []],
    [["--", "--image", "x"], ["--", "--image", "x"], []],
    [["constructor", "-"], ["constructor", "-"], []],
  ];
  for (const [all, args, images] of cases) assert.deepEqual(takeImages(all), { args, images });
});

Deno.test("sortArguments() takes files for images and anything else for text", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = `${dir}/what is this`;
    await Deno.writeTextFile(path, "");
    const { paths, texts } = await sortArguments([path, "and/or", dir.slice(1), "é?"], ["first"]);
    assert.deepEqual(paths, ["first", path]);
    assert.deepEqual(texts, ["and/or", dir.slice(1), "é?"]);
    for (const gone of [`${dir}/x`, "./x", "~/x", "x.dcm", "x.nii.gz", "X.JPEG"]) {
      await assert.rejects(sortArguments([gone], []), /there is no such file/);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("openWithin() gives a software adapter 60 % of memory, a GPU 6 GB, and obeys --budget", async () => {
  assert.equal(defaultBudget({ software: true }, 1000), 600);
  for (const software of [true, false]) {
    const opened: GpuOptions[] = [];
    const closed: unknown[] = [];
    const world = {
      openGpu: (options: GpuOptions) => {
        opened.push(options);
        return Promise.resolve({ adapter: { software } } as Gpu);
      },
      closeGpu: (gpu: Gpu) => void closed.push(gpu),
      memoryBytes: () => 10e9,
    };
    await openWithin(world, { adapter: "any" });
    assert.equal(opened.at(-1)?.budgetBytes, 6e9);
    assert.equal(closed.length, opened.length - 1, "all but one are closed");
    await openWithin(world, { adapter: "gpu", budget: 5 });
    assert.deepEqual(opened.at(-1), { adapter: "gpu", budgetBytes: 5 });
  }
  const world = {
    openGpu: ({ budgetBytes }: GpuOptions) =>
      Promise.resolve({ adapter: { software: true }, buffers: { budgetBytes } } as unknown as Gpu),
    closeGpu: () => {},
    memoryBytes: () => 20e9,
  };
  assert.equal((await openWithin(world, { adapter: "any" })).buffers.budgetBytes, 12e9);
});

/** All ways to cut a text into three pieces. */
function* cuts(text: string): Generator<string[]> {
  for (let i = 0; i <= text.length; i++) {
    for (let j = i; j <= text.length; j++) {
      yield [text.slice(0, i), text.slice(i, j), text.slice(j)];
    }
  }
}

Deno.test("ThoughtSplitter and Trimmer give, piece by piece, what splitThought() gives of the whole", () => {
  const texts = [
    "<think> a b </think> c d ",
    " \n<think>a</think>b",
    "<think>never closed </thin",
    "<thin and no more",
    "plain <think>a</think>",
    "<think></think>",
    "<think>a</think>b</think> <think>",
    "  ",
  ];
  for (const text of texts) {
    const { thought = "", answer } = splitThought(text);
    for (const pieces of cuts(text)) {
      const heard = { thought: "", answer: "" };
      const parts = {
        thought: new Trimmer((piece) => heard.thought += piece),
        answer: new Trimmer((piece) => heard.answer += piece),
      };
      const splitter = new ThoughtSplitter(
        (piece) => parts.thought.push(piece),
        (piece) => parts.answer.push(piece),
      );
      for (const piece of pieces) splitter.push(piece);
      splitter.end();
      assert.deepEqual(heard, { thought, answer: answer.trim() }, JSON.stringify(pieces));
    }
  }
});

/** A display that writes to strings; the clock is set by hand. */
function display(flags: { json?: boolean; quiet?: boolean } = {}) {
  const heard = { stdout: "", stderr: "", ms: 0, events: [] as Record<string, unknown>[] };
  const desk = {
    flags: { json: false, quiet: false, ...flags },
    emit: (event: Record<string, unknown>) => void heard.events.push(event),
    terminal: false,
    world: {
      stdout: (text: string) => void (heard.stdout += text),
      stderr: (text: string) => void (heard.stderr += text),
      stdoutTerminal: false,
      columns: () => 80,
      now: () => heard.ms,
    },
  } as unknown as Desk;
  return { heard, shown: new Display(desk) };
}

Deno.test("Display tells a thought on stderr and the answer on stdout, or both as events", () => {
  const pieces = ["<think>", "look", " here</th", "ink>\n", "It is", " a lung.\n"];
  const { heard, shown } = display();
  const say = shown.speak("text", true);
  for (const piece of pieces) say(piece);
  shown.done();
  assert.deepEqual([heard.stdout, heard.stderr], ["It is a lung.\n", "thought: look here\n"]);

  const json = display({ json: true });
  const tell = json.shown.speak("text", true);
  for (const piece of pieces) tell(piece);
  json.shown.done();
  const joined = (event: string) =>
    json.heard.events.filter((e) => e.event === event).map(({ piece }) => piece).join("");
  assert.deepEqual([joined("thought"), joined("text")], ["look here", "It is a lung."]);
  assert.equal(json.heard.stdout + json.heard.stderr, "");

  const quiet = display({ quiet: true });
  const whisper = quiet.shown.speak("plan", false);
  whisper("secret");
  quiet.shown.note("unheard");
  quiet.shown.onProgress({ stage: "draw", done: 1, total: 2 });
  quiet.shown.done();
  assert.equal(quiet.heard.stdout + quiet.heard.stderr, "");
});

Deno.test("Display ends a line of text before it shows progress, and says a note once", () => {
  const { heard, shown } = display();
  const say = shown.speak("text", false);
  say("one");
  shown.note("first");
  say(" two");
  shown.note("first");
  shown.onProgress({ stage: "draw", done: 0.46, total: 49 });
  shown.done();
  assert.equal(heard.stdout, "one\n two\n");
  assert.equal(heard.stderr, "note: first\ndraw  0.5/49  steps\n");
});

Deno.test("Display tells tokens per second, and the time left of a drawing", () => {
  const { heard, shown } = display();
  for (let token = 1; token <= 5; token++) {
    shown.onProgress({ stage: "write", done: token, total: 8 });
    heard.ms += 250;
  }
  for (let step = 0; step <= 3; step++) {
    shown.onProgress({ stage: "draw", done: step, total: 9 });
    heard.ms += 11_000;
  }
  shown.done();
  assert.match(heard.stderr, /\nnote: 5 tokens, 4\.00 tokens\/s\n/);
  assert.match(heard.stderr, /\ndraw {2}2\/9 {2}steps {2}left 77 s\n/);
});

Deno.test("numbered() and Preview name their files after the one of --out", async () => {
  assert.equal(numbered("r/a.b/c.png", 1, 3), "r/a.b/c-2.png");
  assert.equal(numbered("r/a.b/c", 0, 2), "r/a.b/c-1");
  assert.equal(numbered("c.png", 0, 1), "c.png");
  const dir = await Deno.makeTempDir();
  try {
    const said: string[] = [];
    const preview = new Preview(`${dir}/new/c.PNG`, (path) => said.push(path));
    const image = { width: 1, height: 1, data: Uint8Array.of(1, 2, 3) };
    await preview.show(image);
    await preview.show(image);
    assert.deepEqual(said, [`${dir}/new/c.preview.png`]);
    await preview.remove();
    await preview.remove();
    assert.deepEqual(await Array.fromAsync(Deno.readDir(`${dir}/new`)), []);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("describePicture() tells slice, window and conversions, and nothing where there were none", () => {
  const plain = { width: 1, height: 1, data: new Uint8Array(3), notes: [] };
  const source = { width: 1, height: 1, bits: 8, channels: 3 };
  assert.equal(describePicture({ ...plain, format: "png", source }), "");
  const slice = { axis: "axial", index: 3, count: 9, volume: 0, volumes: 1 } as const;
  const window = { center: 40.00001, width: 400, from: "preset soft", shape: "LINEAR" } as const;
  const notes = ["slice 3 of 9", "first of 2 volumes"];
  assert.equal(
    describePicture({ ...plain, format: "nifti", source, slice, window, notes }),
    "nifti, axial slice 3 of 0 to 8; first of 2 volumes; window 40/400 (preset soft)",
  );
});

Deno.test("linesOf() gives lines however they come, and stops with the signal", async () => {
  const bytes = new TextEncoder().encode("één\r\ntwo\n\nlast");
  const slow = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const lines = await Array.fromAsync(linesOf(slow, new AbortController().signal));
  assert.deepEqual(lines, ["één", "two", "", "last"]);

  const stop = new AbortController();
  const silent = new ReadableStream<Uint8Array<ArrayBuffer>>({});
  const waiting = Array.fromAsync(linesOf(silent, stop.signal));
  stop.abort(new Error("stopped"));
  await assert.rejects(waiting, /stopped/);
});
