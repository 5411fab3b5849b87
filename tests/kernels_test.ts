// Every file in kernels/ compiles with its defaults and with every set of knobs and parts in use, and keeps to
// the rules of the house. The sets are not listed here: they are recorded while the kernel families run.

import assert from "node:assert/strict";
import { openDevice } from "../lib/gpu/device.ts";
import { Kernel, type LoadedKernel, loadedKernels } from "../lib/gpu/kernel.ts";
import { scaledSum } from "../lib/ops/scaled_sum.ts";
import { checkFamilies } from "../lib/parity/families.ts";
import { readAll, Tensor } from "../lib/tensor.ts";
import { GPU_TEST, testGpu } from "./helpers.ts";
import { type SourceFile, sourceFiles } from "./source_files.ts";
import { uniformityFaults } from "./wgsl_uniformity.ts";

for (const { path } of [...await sourceFiles("lib/ops"), ...await sourceFiles("lib/gpu")]) {
  await import(`../${path}`);
}
const kernels = [...loadedKernels()]; // before a test makes its own
const all = await sourceFiles("kernels", ".wgsl");
const files = all.filter(({ path }) => !path.startsWith("kernels/common/"));
const parts = all.filter(({ path }) => path.startsWith("kernels/common/"));
const lanes = (await testGpu()).subgroupSize;
/** Kernels for eight lanes; attention's go together, also the one without subgroup builtins. */
const skipped = lanes === 8
  ? []
  : kernels.filter((k) => k.subgroups || k.name.startsWith("attention_lanes")).map((k) => k.name);

Deno.test("each file in kernels/ is held by a kernel of its name, and each part by some kernel's file", () => {
  const names = files.map(({ path }) => /(\w+)\.wgsl$/.exec(path)![1]);
  for (const [i, name] of names.entries()) {
    const holders = kernels.filter((k) => k.main === files[i].text);
    assert.ok(holders.length > 0, `no kernel is made of ${files[i].path}`);
    for (const k of holders) assert.equal(k.name, name, "messages look for the file by this name");
  }
  const homeless = kernels.filter((k) => !names.includes(k.name)).map((k) => k.name);
  assert.deepEqual(homeless, []);
});

Deno.test({
  name: "each kernel compiles with its defaults" +
    (skipped.length > 0 ? ` (skipped, 8 lanes: ${skipped.join(", ")})` : ""),
  ...GPU_TEST,
  fn: async () => {
    const gpu = await testGpu();
    for (const kernel of kernels) if (!skipped.includes(kernel.name)) kernel.prepare(gpu);
    await gpu.settle();
  },
});

Deno.test({
  name: "the kernel families compile every kernel and every part, with the knobs they use" +
    (skipped.length > 0 ? ` (skipped, 8 lanes: ${skipped.join(", ")})` : ""),
  ...GPU_TEST,
  fn: async () => {
    const gpu = await openDevice({ budgetBytes: 2 ** 28 });
    const compiled = new Map<string, string[]>(); // label → codes
    const create = gpu.device.createShaderModule.bind(gpu.device);
    gpu.device.createShaderModule = (descriptor) => {
      const label = descriptor.label ?? "";
      compiled.set(label, [...compiled.get(label) ?? [], descriptor.code]);
      return create(descriptor);
    };
    for await (const { rows } of checkFamilies(gpu)) assert.ok(rows.every((row) => row.ok));
    const one = Tensor.from(gpu, [2], [1]);
    assert.deepEqual(await readAll([scaledSum(one, one, one, one)]), [Float32Array.of(8)]);
    gpu.close();
    const names = new Set(kernels.map((k) => k.name));
    const missed = [...names].filter((name) => !compiled.has(name) && !skipped.includes(name));
    assert.deepEqual(missed, [], "kernels that no family runs");
    const codes = [...compiled.values()].flat();
    const notRun = kernels.filter((k) => skipped.includes(k.name)).flatMap((k) => k.parts);
    const unused = parts.filter(({ text }) =>
      !notRun.includes(text) && !codes.some((code) => code.includes(text))
    );
    assert.deepEqual(unused.map(({ path }) => path), []);
    assert.deepEqual(codes.flatMap(uniformityFaults), [], "barriers not reached together");
  },
});

/** Breaches of the rules that a kernel file keeps without running. */
function breaches({ text }: SourceFile, kernel: LoadedKernel): string[] {
  const found: string[] = [];
  const header = /^(\/\/[^\n]*\n)+/.exec(text)?.[0] ?? "";
  if (!/^\/\/ \w+.*[:,]/.test(header)) {
    found.push("the header does not begin with the kernel's name");
  }
  if (!/[=←]/.test(header) && !/^\/\/ \w+: /.test(header)) found.push("the header has no formula");
  if (!/^\/\/ grid\b/m.test(header)) found.push("the header does not name the grid");
  const code = text.replace(/\/\/[^\n]*/g, "");
  const buffers = code.match(/var<storage/g)?.length ?? 0;
  if (buffers > 8) found.push(`${buffers} storage buffers, 8 are granted everywhere`);
  if (/^\s*enable\b/m.test(code)) {
    found.push("enable: the host adds it where the platform wants it");
  }
  if (/\$\{|\{\{|<%|^\s*#\w/m.test(text)) found.push("template syntax");
  if (!/@compute\b/.test(code) || !/\bfn main\b/.test(code)) found.push("no entry point main");
  const whole = [text, ...kernel.parts].join("\n").replace(/\/\/[^\n]*/g, "");
  const fields = /struct\s+Params\s*\{([^}]*)\}/.exec(code)?.[1].matchAll(/(\w+)\s*:/g) ?? [];
  for (const [, field] of fields) {
    if (!new RegExp(`\\bparams\\.${field}\\b`).test(whole)) {
      found.push(`params.${field} is not used`);
    }
  }
  for (const [, name] of code.matchAll(/var<(?:storage|uniform)[^>]*>\s*(\w+)/g)) {
    if (whole.match(new RegExp(`\\b${name}\\b`, "g"))!.length < 2) {
      found.push(`${name} is not used`);
    }
  }
  return found;
}

Deno.test("kernel files name formula and grid, bind at most 8 buffers and use what they declare", () => {
  const found = files.flatMap((file) => {
    const kernel = kernels.find((k) => k.main === file.text)!;
    return breaches(file, kernel).map((breach) => `${file.path}: ${breach}`);
  });
  assert.deepEqual(found, []);
});

Deno.test("the rules catch a kernel that breaks them", () => {
  const text = [
    "// something",
    "enable f16;",
    "struct Params { n: u32, spare: u32 }",
    ...Array.from(
      { length: 9 },
      (_, i) => `@group(0) @binding(${i}) var<storage, read> x${i}: array<f32>;`,
    ),
    "@group(0) @binding(9) var<uniform> params: Params;",
    "@compute @workgroup_size(1) fn main() { let a = params.n + u32(x0[0]${more}); }",
  ].join("\n");
  new Kernel("bad", { main: text });
  const found = breaches({ path: "kernels/bad.wgsl", text }, loadedKernels().at(-1)!);
  assert.equal(found.length, 15, found.join("; "));
});

Deno.test("uniformityFaults() finds barriers that some invocations may miss", () => {
  const main = (body: string, rest = "") =>
    `struct P { n: u32 } @group(0) @binding(0) var<storage, read> x: array<u32>;
     @group(0) @binding(1) var<storage, read_write> y: array<u32>;
     @group(0) @binding(2) var<uniform> params: P; var<workgroup> shared_sum: u32; ${rest}
     @compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u,
       @builtin(local_invocation_index) lane: u32) { ${body} }`;
  const faults = (body: string, rest?: string) => uniformityFaults(main(body, rest)).length;
  const good = [
    "if (group.x < params.n) { workgroupBarrier(); }",
    "for (var i = 0u; i < x[group.x]; i++) { workgroupBarrier(); }",
    "if (lane == 0u) { y[0] = 1u; } workgroupBarrier(); if (lane > 3u) { return; } y[lane] = 2u;",
    "for (var i = lane; i < 9u; i++) { y[i] = i; } for (var i = 0u; i < 9u; i++) { workgroupBarrier(); }",
  ];
  for (const body of good) assert.equal(faults(body), 0, body);
  const bad = [
    "if (lane < 32u) { workgroupBarrier(); }",
    "let half: vec2<u32> = vec2u(lane); if (half.x > 1u) { y[0] = 1u; } else { workgroupBarrier(); }",
    "if (lane > 7u) { return; } workgroupBarrier();",
    "for (var i = lane; i < params.n; i += 64u) { workgroupBarrier(); }",
    "var k = 0u; if (lane == 3u) { k = 1u; } if (k == 1u) { workgroupBarrier(); }",
    "while (y[0] > 0u) { workgroupBarrier(); }",
    "if (shared_sum > 0u) { let v = subgroupAdd(1u); }",
    "loop { if (lane == 1u) { break; } workgroupBarrier(); }",
  ];
  for (const body of bad) assert.ok(faults(body) > 0, body);
  const helper = "fn meet(a: u32) { if (a > 0u) { workgroupBarrier(); } }";
  assert.equal(faults("meet(group.x);", helper), 0);
  assert.equal(faults("meet(lane);", helper), 1);
  assert.equal(faults("if (lane > 0u) { meet(1u); }", helper), 1);
  const own = "fn own(a: u32) -> u32 { return y[a]; }";
  assert.equal(faults("if (own(0u) > 0u) { workgroupBarrier(); }", own), 1);
});
