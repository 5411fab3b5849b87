// Every notebook in notebooks/ has cells that type-check and runs in the real Deno kernel. Whether this would
// notice anything is tested first, on notebooks made to fail.

import assert from "node:assert/strict";
import { checkNotebook, notebookText, runNotebook } from "./notebook_tools.ts";

const FOLDER = new URL("../notebooks/", import.meta.url).pathname;
const RUNS = new URL("../runs/", import.meta.url).pathname;
const NOTEBOOK = new URL("../lib/show/notebook.ts", import.meta.url).href;
const names = [...Deno.readDirSync(FOLDER)]
  .filter((entry) => entry.isFile && entry.name.endsWith(".ipynb"))
  .map((entry) => entry.name)
  .sort();

for (const name of names) {
  Deno.test(`notebooks/${name} type-checks`, async () => {
    const { code, text } = await checkNotebook(`${FOLDER}${name}`);
    assert.equal(code, 0, text);
  });
  Deno.test(`notebooks/${name} runs in the Deno kernel`, async () => {
    const { code, text } = await runNotebook(`${FOLDER}${name}`);
    assert.equal(code, 0, text);
  });
}

/** Writes cells as a notebook into a folder of its own, under the repository so that deno.json is found. */
async function withNotebook(cells: string[], use: (path: string, folder: string) => Promise<void>) {
  await Deno.mkdir(RUNS, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: RUNS, prefix: "notebook-" });
  try {
    const path = `${folder}/made.ipynb`;
    await Deno.writeTextFile(path, notebookText(cells));
    await use(path, folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("checkNotebook() finds a type error, a missing export and a syntax error", async () => {
  const faults: [string[], RegExp[]][] = [
    [
      [`import { nothingOfThatName } from "${NOTEBOOK}";`, "const n: number = 'one';"],
      [/TS2305/, /TS2322/],
    ],
    [["const fine = 1;", "const = 3;"], [/const = 3|parse|expected/i]],
  ];
  for (const [cells, expected] of faults) {
    await withNotebook(cells, async (path, folder) => {
      const { code, text } = await checkNotebook(path);
      assert.notEqual(code, 0);
      for (const pattern of expected) assert.match(text, pattern);
      assert.deepEqual([...Deno.readDirSync(folder)].map((e) => e.name), ["made.ipynb"]);
    });
  }
  await withNotebook(["const a = 1;", "a + 1"], async (path) => {
    const { code, text } = await checkNotebook(path);
    assert.equal(code, 0, text);
  });
});

Deno.test("runNotebook() fails with the error of the cell that failed", async () => {
  await withNotebook(["1 + 1", "throw new Error('cell two is wrong');"], async (path) => {
    const { code, text } = await runNotebook(path);
    assert.equal(code, 1);
    assert.match(text, /error: Cannot run made\.ipynb: [\s\S]*cell two is wrong/);
  });
});

Deno.test("runNotebook() stops a cell that does not end", async () => {
  await withNotebook(["await new Promise(() => setInterval(() => {}, 1000));"], async (path) => {
    const started = performance.now();
    const { code, text } = await runNotebook(path, { timeoutSeconds: 2 });
    assert.equal(code, 1);
    assert.match(text, /timed out/);
    assert.ok(performance.now() - started < 30_000);
  });
});

Deno.test("a notebook keeps every line, its figures, its tables and its progress", async () => {
  const cells = [
    `import { prepareNotebook, show, showProgress, interruptSignal } from "${NOTEBOOK}";
     import { lossFigure } from "${new URL("../lib/show/curves.ts", import.meta.url).href}";
     prepareNotebook();`,
    `for (let i = 0; i < 60; i++) console.log("line", i);
     await show(lossFigure([{ arm: "und", steps: [1, 2, 3], ce: [3, 2, 1] }]));`,
    `await show([{ arm: "<b>und</b>", accuracy: 0.5 }]);
     const progress = showProgress({ everyMs: 20 });
     for (let step = 1; step <= 5; step++) {
       progress.update({ label: "und", step, total: 5, fields: { text: 1 / step } });
       await new Promise((done) => setTimeout(done, 25));
     }
     progress.done();
     await new Promise((done) => setTimeout(done, 40));`,
    `const signal = interruptSignal();
     setTimeout(() => Deno.kill(Deno.pid, "SIGINT"), 20);
     await new Promise((done) => signal.addEventListener("abort", done));
     console.log("stopped:", signal.aborted);
     Promise.reject(new Error("nobody awaited me"));
     await new Promise((done) => setTimeout(done, 40));`,
  ];
  await withNotebook(cells, async (path, folder) => {
    const { code, text } = await runNotebook(path, { output: `${folder}/out.ipynb` });
    assert.equal(code, 0, text);
    const done = JSON.parse(await Deno.readTextFile(`${folder}/out.ipynb`));
    const outputs = done.cells.map((cell: { outputs: unknown }) => cell.outputs);
    const lines = outputs[1][0].text.join("").trim().split("\n");
    assert.equal(lines.length, 60);
    assert.equal(lines[59], "line 59");
    const png = Uint8Array.fromBase64([outputs[1][1].data["image/png"]].flat().join("").trim());
    assert.deepEqual([...png.subarray(1, 4)], [0x50, 0x4e, 0x47]);
    assert.match(outputs[1][1].data["text/plain"].join(""), /und at step 3: cross-entropy 1\.000/);
    assert.match(outputs[2][0].data["text/html"].join(""), /<td>&#60;b&#62;und/);
    assert.equal(outputs[2].length, 2, "progress must stay one display");
    assert.match(outputs[2][1].data["text/plain"].join(""), /^und {2}5\/5 {2}text 0\.200$/);
    const said = outputs[3].map((o: { text?: string[] }) => (o.text ?? []).join("")).join("");
    assert.match(said, /stopped: true/);
    assert.match(said, /nobody awaited this:.*nobody awaited me/s);
  });
});
