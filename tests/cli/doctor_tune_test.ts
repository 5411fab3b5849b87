import assert from "node:assert/strict";
import { tune, type TuneContext } from "../../lib/cli/doctor_tune.ts";
import { Gpu } from "../../lib/gpu/device.ts";
import { readTuned } from "../../lib/gpu/tuned.ts";
import { describeMatmul } from "../../lib/ops/matmul_table.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";

/** A command's context that remembers what it was told, and a device of its own. */
async function setting() {
  const told = {
    printed: [] as string[],
    events: [] as Record<string, unknown>[],
    notes: [] as string[],
  };
  const { device, adapter, subgroupSize, subgroupLine } = await testGpu();
  const context: TuneContext = {
    print: (text) => void told.printed.push(text),
    emit: (event) => void told.events.push(event),
    note: (text) => void told.notes.push(text),
    signal: new AbortController().signal,
  };
  return { told, context, gpu: new Gpu(device, adapter, subgroupSize, subgroupLine, {}) };
}

Deno.test(
  "doctor --tune tells what it measured and keeps it for the next process",
  GPU_TEST,
  async () => {
    const path = await Deno.makeTempDir({ prefix: "tune" });
    const folder = new URL(`file://${path}/deep/er/`);
    try {
      const { told, context, gpu } = await setting();
      gpu.tuned = { ...gpu.tuned, tables: { other: { kept: true } } };
      await tune(context, gpu, { folder, classes: ["few NT"] });
      assert.equal(told.notes.length, 2);
      assert.match(told.notes[1], /^measured few NT, 1 of 1$/);
      assert.match(told.printed[1], /^ {2}few NT +1x4096x1024 +\w.* [\d.]+\*/);
      const [trial, last] = told.events;
      assert.deepEqual([trial.event, trial.class, last.event], ["trial", "few NT", "tuned"]);
      assert.equal(describeMatmul(gpu).origin, "tuned");

      const found = await readTuned(gpu.tuned.key, folder);
      assert.deepEqual(found.tables.other, { kept: true });
      const next = (await setting()).gpu;
      next.tuned = found;
      assert.deepEqual(describeMatmul(next), describeMatmul(gpu));
      const files = [...Deno.readDirSync(folder)].map((entry) => entry.name);
      assert.equal(files.length, 1, files.join());
    } finally {
      await Deno.remove(path, { recursive: true });
    }
  },
);

Deno.test(
  "doctor --tune says before it measures that it cannot keep the result",
  GPU_TEST,
  async () => {
    const path = await Deno.makeTempFile();
    try {
      const { told, context, gpu } = await setting();
      await assert.rejects(tune(context, gpu, { folder: new URL(`file://${path}/tuned/`) }), {
        name: "ResourceError",
        message: /^Cannot keep the measurements: /,
        help: `make ${path}/tuned/ writable`,
      });
      assert.deepEqual(told.notes, []);
    } finally {
      await Deno.remove(path);
    }
  },
);
