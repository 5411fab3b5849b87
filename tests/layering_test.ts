// Arrows between the rooms of the repository point one way. Reads import lines; nothing is loaded.

import assert from "node:assert/strict";
import { type SourceFile, sourceFiles } from "./source_files.ts";

/**
 * The rooms, lowest first: a file may import from its own room and from those above it in this list, unless
 * `only` or `not` says otherwise. The first pattern that matches a path decides its room.
 */
const ROOMS: { name: string; holds: RegExp; only?: string[]; not?: string[] }[] = [
  { name: "errors", holds: /^lib\/errors\.ts$/, only: [] },
  { name: "std_cli", holds: /^lib\/std_cli\//, only: [] },
  { name: "whole files", holds: /^lib\/write_whole\.ts$/, only: [] },
  { name: "garbage", holds: /^lib\/garbage\.ts$/, only: [] },
  { name: "kernels", holds: /^kernels\//, only: [] },
  // Bytes of quantized weights: files and the device have them alike.
  { name: "packed layout", holds: /^lib\/packed_layout\.ts$/, only: [] },
  { name: "data", holds: /^lib\/data\//, only: ["errors", "packed layout", "whole files"] },
  { name: "gpu", holds: /^lib\/gpu\/(?!(pointwise|rows|accumulate)\.ts)/, only: ["errors"] },
  { name: "tensor", holds: /^lib\/tensor\.ts$/, only: ["gpu", "packed layout"] },
  // The second storey of lib/gpu: three files that launch kernels over tensors. They stand on lib/tensor.ts and
  // below autograd, which needs one of them (sums of gradients) and knows no ops.
  { name: "launch", holds: /^lib\/gpu\//, not: ["data"] },
  { name: "autograd", holds: /^lib\/autograd\.ts$/, only: ["tensor", "launch"] },
  { name: "ops", holds: /^lib\/ops\//, not: ["data"] },
  { name: "nn", holds: /^lib\/nn\//, not: ["kernels"] },
  { name: "model", holds: /^lib\/model\//, not: ["kernels"] },
  // Groups of processes: knows arrays, not models.
  { name: "comm", holds: /^lib\/comm\//, only: ["errors"] },
  { name: "train", holds: /^lib\/train\//, not: ["kernels"] },
  { name: "infer", holds: /^lib\/infer\//, not: ["kernels", "train", "comm"] },
  { name: "study", holds: /^lib\/study\//, not: ["kernels"] },
  // Figures take plain records: no models, no GPU.
  { name: "show", holds: /^lib\/show\//, only: ["errors", "whole files"] },
  // A whole training, from settings to record and pictures.
  { name: "session", holds: /^lib\/session\//, not: ["kernels"] },
  { name: "parity", holds: /^lib\/parity\//, not: ["kernels"] },
  { name: "cli", holds: /^lib\/cli\//, not: ["kernels"] },
  { name: "public names", holds: /^lib\/mod\.ts$/, not: ["kernels", "parity", "cli"] },
  { name: "experiments", holds: /^experiments\//, not: ["kernels"] },
  { name: "notebooks", holds: /^notebooks\//, not: ["kernels", "cli", "parity"] },
  { name: "tests", holds: /^tests\// },
];
const ORDER = ROOMS.map((room) => room.name);

/** Packages, by the rooms that may use them. What computes uses none. */
const PACKAGES: Record<string, string[]> = {
  sharp: ["data", "show", "cli", "tests"],
  jsdom: ["show", "tests"],
  "plotly.js": ["show", "tests"],
  "plotly.js-dist-min": ["show", "tests"],
  "onnxruntime-node": ["cli", "tests"],
  "@huggingface/tokenizers": ["tests"],
  "@huggingface/hub": ["cli", "tests"],
  "dicom-parser": ["tests"],
  "nifti-reader-js": ["data", "tests"],
  hyparquet: ["data", "tests"],
  "hyparquet/src/column.js": ["data"],
  "hyparquet-compressors": ["data", "tests"],
  "hyparquet-writer": ["experiments", "tests"],
  zod: ["train", "tests"],
  "@std/cli/parse-args": ["cli", "tests"],
  // The engines that tests/bench/peers.ts compares with, locked apart in peers.lock.
  "npm:@tensorflow/tfjs@4.22.0": ["tests"],
  "npm:@tensorflow/tfjs-backend-webgpu@4.22.0": ["tests"],
  "npm:@jax-js/jax@0.1.25": ["tests"],
};

/** Calls of WebGPU, and constants needed to make them. */
const WEBGPU =
  /navigator\.gpu|\.(requestAdapter|requestDevice|createBuffer|createTexture|createShaderModule|createComputePipeline\w*|createBindGroup\w*|createCommandEncoder|writeBuffer|mapAsync|pushErrorScope)\(|GPU(BufferUsage|TextureUsage|MapMode|ShaderStage)\b/;

/** One import of a file; types vanish when the code runs. */
interface Import {
  specifier: string;
  typeOnly: boolean;
}

/** Static imports and re-exports that begin a line, and `import("…")` anywhere outside comments. */
function importsOf(text: string): Import[] {
  const code = text.replace(/^\s*(\/\/|\*|\/\*\*?).*$/gm, "");
  const found: Import[] = [];
  const statement = /^(?:import|export)\s(?:(type\s)?([^;"'`=()]*?)\sfrom\s)?"([^"]+)"/gm;
  for (const [, type, names, specifier] of code.matchAll(statement)) {
    const each = names?.match(/^\{(.*)\}$/s)?.[1].split(",").map((n) => n.trim()).filter(Boolean);
    const typeOnly = type !== undefined || (each?.every((n) => n.startsWith("type ")) ?? false);
    found.push({ specifier, typeOnly });
  }
  for (const [, specifier] of code.matchAll(/\bimport\(\s*"([^"]+)"/g)) {
    found.push({ specifier, typeOnly: false });
  }
  return found;
}

/** The path an import leads to, or undefined for a package. */
function target(from: string, specifier: string): string | undefined {
  if (specifier.startsWith("@/")) return specifier.slice(2);
  if (!specifier.startsWith(".")) return undefined;
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}

function roomOf(path: string): (typeof ROOMS)[number] {
  const room = ROOMS.find(({ holds }) => holds.test(path));
  if (!room) throw new Error(`${path} is in no room: name it in tests/layering_test.ts`);
  return room;
}

function allowed(from: (typeof ROOMS)[number], to: string): boolean {
  if (from.name === to) return true;
  if (from.only) return from.only.includes(to);
  return ORDER.indexOf(to) < ORDER.indexOf(from.name) && !from.not?.includes(to);
}

/** Arrows the wrong way, as `path → target: reason`. */
function wrongArrows(files: readonly SourceFile[]): string[] {
  const wrong: string[] = [];
  for (const { path, text } of files) {
    const room = roomOf(path);
    for (const { specifier } of importsOf(text)) {
      const to = target(path, specifier);
      if (to === undefined) {
        if (specifier.startsWith("node:")) continue;
        const users = PACKAGES[specifier];
        if (!users?.includes(room.name)) {
          wrong.push(`${path} → ${specifier}: ${room.name} may not use this package`);
        }
      } else if (!allowed(room, roomOf(to).name)) {
        wrong.push(`${path} → ${to}: ${room.name} may not know ${roomOf(to).name}`);
      }
    }
  }
  return wrong;
}

/** A ring of imports that load each other, or undefined. */
function cycle(files: readonly SourceFile[]): string[] | undefined {
  const arrows = new Map(files.map(({ path, text }) => [
    path,
    importsOf(text).filter((i) => !i.typeOnly).map((i) => target(path, i.specifier) ?? ""),
  ]));
  const done = new Set<string>();
  const visit = (path: string, trail: string[]): string[] | undefined => {
    const at = trail.indexOf(path);
    if (at >= 0) return [...trail.slice(at), path];
    if (done.has(path)) return undefined;
    for (const next of arrows.get(path) ?? []) {
      const ring = visit(next, [...trail, path]);
      if (ring) return ring;
    }
    done.add(path);
    return undefined;
  };
  for (const path of arrows.keys()) {
    const ring = visit(path, []);
    if (ring) return ring;
  }
  return undefined;
}

/** The code of a notebook's cells. */
function cells(notebook: SourceFile): SourceFile {
  const parsed: { cells: { cell_type: string; source: string | string[] }[] } = JSON.parse(
    notebook.text,
  );
  const code = parsed.cells.filter((c) => c.cell_type === "code");
  return { ...notebook, text: code.map((c) => [c.source].flat().join("")).join("\n") };
}

const lib = await sourceFiles("lib");
const experiments = await sourceFiles("experiments");
const notebooks = (await sourceFiles("notebooks", ".ipynb")).map(cells);
const tests = (await sourceFiles("tests")).filter((f) => !f.path.endsWith("/layering_test.ts")); // has samples
const everything = [...lib, ...experiments, ...notebooks, ...tests];

Deno.test("imports point up: no room knows one that stands below it", () => {
  assert.deepEqual(wrongArrows(everything), []);
});

Deno.test("the arrow check sees every form of import", () => {
  const file = (path: string, text: string) => wrongArrows([{ path, text }]).length;
  assert.equal(file("lib/data/a.ts", `import { x } from "../gpu/device.ts";`), 1);
  assert.equal(file("lib/gpu/a.ts", `import type { T } from "../tensor.ts";`), 1);
  assert.equal(file("lib/gpu/rows.ts", `import type { T } from "../tensor.ts";`), 0);
  assert.equal(
    file("lib/nn/a.ts", `import c from "../../kernels/a.wgsl" with { type: "text" };`),
    1,
  );
  assert.equal(file("lib/infer/a.ts", `import {\n  a,\n  b,\n} from "../train/step.ts";`), 1);
  assert.equal(file("lib/show/a.ts", `export * from "../model/config.ts";`), 1);
  assert.equal(file("lib/ops/a.ts", `const m = await import("../nn/mlp.ts");`), 1);
  assert.equal(file("lib/ops/a.ts", `import sharp from "sharp";`), 1);
  assert.equal(file("lib/model/a.ts", `import "../../experiments/demo.ts";`), 1);
  assert.equal(file("lib/data/a.ts", ` * import { x } from "../gpu/device.ts";`), 0);
});

Deno.test("no files in lib load each other in a ring", () => {
  assert.equal(cycle(lib)?.join(" → "), undefined);
  const ring = [
    { path: "lib/a.ts", text: `import { b } from "./b.ts";` },
    { path: "lib/b.ts", text: `import { a } from "./a.ts";` },
  ];
  assert.deepEqual(cycle(ring), ["lib/a.ts", "lib/b.ts", "lib/a.ts"]);
});

Deno.test("only lib/gpu calls WebGPU", () => {
  const callers = [...lib, ...experiments, ...notebooks].filter(({ path, text }) =>
    !path.startsWith("lib/gpu/") && WEBGPU.test(text)
  );
  assert.deepEqual(callers.map((f) => f.path), []);
  assert.match("const a = await navigator.gpu.requestAdapter();", WEBGPU);
});
