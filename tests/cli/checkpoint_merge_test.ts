import assert from "node:assert/strict";
import { checkpointCommand } from "../../lib/cli/checkpoint.ts";
import type { Shell } from "../../lib/cli/command.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { attachLora } from "../../lib/model/lora.ts";
import { saveLora } from "../../lib/model/lora_file.ts";
import { quantizeCheckpoint } from "../../lib/model/quantize.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { modelFolder } from "../infer/model_folder.ts";
import { drawAdapters } from "../model/lora_models.ts";
import { bytesOf } from "../model/made_folders.ts";

async function run(...args: string[]) {
  const seen = { stdout: "", stderr: "", codes: [] as number[] };
  const shell: Shell = {
    args: ["merge", ...args],
    stdout: (text) => void (seen.stdout += text),
    stderr: (text) => void (seen.stderr += text),
    terminal: false,
    noColor: true,
    exit: (code) => void seen.codes.push(code),
    onSignal: () => {},
    onStray: () => {},
  };
  await checkpointCommand(shell);
  return { ...seen, code: seen.codes[0] };
}

Deno.test(
  "checkpoint merge writes a folder, says what changed, and refuses with the right exit code",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await modelFolder(gpu);
    const [base, other, adapter] = [
      `${dir}/base`,
      `${dir}/other`,
      `${dir}/adapter.safetensors.kept`,
    ];
    try {
      await quantizeCheckpoint(dir, base, { to: "int4" });
      await quantizeCheckpoint(dir, other, { to: "int8" });
      const open = await openModel(gpu, base);
      await open.need(["und", "vit"]);
      attachLora(open.model, {
        rank: 2,
        alpha: 4,
        targets: ["und.layers.*.attn", "connector.fc1"],
      });
      drawAdapters(open.model);
      await saveLora(open.model, adapter);
      open.dispose();
      const before = await bytesOf(base);

      const merged = await run(base, adapter, "--out", `${dir}/out/`, "--quiet");
      assert.deepEqual([merged.code, merged.stderr], [0, ""]);
      assert.match(merged.stdout, /^layers +matrices +were +are +largest change$/m);
      assert.match(merged.stdout, /^und\.layers\.\*\.attn\.q +2 +int4 +F16 +\d+\.\d\d %$/m);
      assert.match(merged.stdout, /^connector\.fc1 +1 +int4 +F16 +\d+\.\d\d %$/m);
      assert.match(merged.stdout, /^\d+ other tensors as they were$/m);
      assert.deepEqual(await bytesOf(base), before);
      const json = await run(base, adapter, "--out", `${dir}/json`, "--dtype", "bf16", "--json");
      const events = json.stdout.trim().split("\n").map((line) => JSON.parse(line));
      assert.equal(events.filter(({ event, to }) => event === "layer" && to === "BF16").length, 9);
      assert.deepEqual(events.slice(-2).map(({ event }) => event), ["folder", "done"]);

      const cases: [args: string[], code: number, message: RegExp][] = [
        [
          [base, adapter],
          2,
          /--out is missing\nhelp: usage: deno task checkpoint merge DIR ADAPTER/,
        ],
        [[base], 2, /ADAPTER/],
        [[base, adapter, "--out", `${dir}/out`], 2, /out: it exists/],
        [[base, adapter, "--out", `${dir}/x`, "--dtype", "int4"], 2, /int4/],
        [[base, `${dir}/none`, "--out", `${dir}/x`], 3, /Cannot open .*none/],
        [
          [base, `${base}/model.safetensors`, "--out", `${dir}/x`],
          3,
          /Cannot read adapter .*format "pt"/,
        ],
        [[`${dir}/none`, adapter, "--out", `${dir}/x`], 3, /none/],
        [[other, adapter, "--out", `${dir}/x`], 3, /on .*other: its weights have digest/],
      ];
      for (const [args, code, message] of cases) {
        const seen = await run(...args, "--quiet");
        assert.deepEqual([seen.code, seen.stdout], [code, ""], args.join(" "));
        assert.match(seen.stderr, message);
      }
      await assert.rejects(Deno.stat(`${dir}/x`), Deno.errors.NotFound);
      await assert.rejects(Deno.stat(`${dir}/x.partial`), Deno.errors.NotFound);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);
