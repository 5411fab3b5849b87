// What an answer costs: loading, reading an image and a question, each token; and how the cost of a token grows
// with what is cached. `deno task bench:answer --model DIR`.

import { readFlags } from "../../lib/cli/flags.ts";
import { formatBytes } from "../../lib/gpu/buffers.ts";
import { type Gpu, openDevice } from "../../lib/gpu/device.ts";
import { ask } from "../../lib/infer/ask.ts";
import { CachePool } from "../../lib/infer/cache.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { writeText } from "../../lib/infer/text.ts";

const { values: flags } = readFlags(Deno.args, {
  model: { type: "string", help: "the model folder" },
  tokens: { type: "integer", default: 32, min: 2, help: "length of the answer" },
  side: { type: "integer", default: 224, min: 14, help: "of the image, in pixels" },
  rule: {
    type: "string",
    default: "bagelVit",
    choices: ["bagelVit", "trainVit"],
    help: "its size rule",
  },
  budget: { type: "bytes", default: "12GB", help: "device memory" },
  lengths: {
    type: "list",
    default: [],
    help: "cached tokens to time a token behind, instead of an answer",
  },
});
if (flags.model === undefined) {
  console.error(
    "usage: deno task bench:answer --model DIR [--tokens 32] [--side 224] [--budget 12GB] [--lengths 100,500,1000,2000]",
  );
  Deno.exit(2);
}
const { model } = flags;
const budgetBytes = flags.budget;
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;

/** The largest resident size seen whenever there was progress. */
let resident = 0;
function sample(): void {
  resident = Math.max(resident, Deno.memoryUsage().rss);
}

/** One question about one image, timed by stage. */
async function timeAnswer(gpu: Gpu): Promise<void> {
  const opening = performance.now();
  const open = await openModel(gpu, model);
  console.log(`open    ${seconds(performance.now() - opening)} (headers, tokenizer)`);
  for (const note of open.notes) console.log(`note    ${note}`);
  const { side } = flags;
  const data = Uint8Array.from({ length: 3 * side * side }, (_, i) => (i * 7919) % 251);
  const image = { width: side, height: side, data };
  const marks: Record<string, number> = {};
  const tokens: number[] = [];
  const started = performance.now();
  const answer = await ask(
    open,
    image,
    "What imaging modality was used, and is there an abnormality?",
    {
      maxTokens: flags.tokens,
      imageRule: flags.rule,
      onNote: (text) => console.log(`note    ${text}`),
      onProgress: ({ stage, done, total }) => {
        const now = performance.now();
        sample();
        if (stage === "load" && done === total) marks.loaded = now;
        if (stage === "read" && done === 1) marks.firstLayer ??= now;
        if (stage === "write") tokens.push(now);
      },
    },
  );
  const each = tokens.slice(1).map((t, i) => t - tokens[i]).sort((a, b) => a - b);
  const first = tokens[0] ?? performance.now();
  marks.loaded ??= started;
  console.log(
    `load    ${seconds(marks.loaded - started)} to the device, ${
      formatBytes(gpu.buffers.liveBytes)
    } live, peak ${formatBytes(gpu.buffers.peakBytes)}`,
  );
  console.log(
    `prefill ${
      seconds(first - marks.loaded - (each[each.length >> 1] ?? 0))
    } for ${answer.promptTokens} tokens (image ${side}×${side}), first token after ${
      seconds(first - marks.loaded)
    }`,
  );
  if (each.length > 0) {
    console.log(
      `token   median ${seconds(each[each.length >> 1])}, ${seconds(each[0])} to ${
        seconds(each.at(-1)!)
      }, ` +
        `${answer.tokens.length} tokens, ${open.config.language.numHiddenLayers} layers`,
    );
  }
  if (open.stream) {
    const { bytes, waited, layers } = open.stream.times;
    console.log(
      `stream  ${formatBytes(bytes)} in ${layers} layers, waited ${
        waited.toFixed(1)
      } s for the disk`,
    );
  }
  console.log(
    `total   ${seconds(performance.now() - started)}, largest resident size ${
      formatBytes(resident)
    }`,
  );
  open.dispose();
}

/** The cost of a token behind caches of several lengths, attention's kernels apart. */
async function timeLengths(lengths: number[]): Promise<void> {
  const gpu = await openDevice({ budgetBytes, profile: true });
  const open = await openModel(gpu, model);
  await open.need(["head", "und"]);
  const pool = new CachePool(gpu, open.config.language, Math.max(...lengths) + 64);
  const context = pool.context();
  const attention = ["cache_write", "cache_scores", "cache_softmax", "cache_mix"];
  const totals = async () => {
    const table = await gpu.profile!.table();
    const all = table.reduce((ms, row) => ms + row.milliseconds, 0);
    const own = table.filter((row) => attention.includes(row.label)).reduce(
      (ms, r) => ms + r.milliseconds,
      0,
    );
    return { all, own };
  };
  console.log(
    "cached  token ms  attention ms  rest ms  (device time, median of 5)",
  );
  for (const length of lengths) {
    // What is cached does not matter for the cost, so it is not computed: slots count as written.
    const more = length - context.length;
    context.reserve(more);
    context.advance(more, more);
    const rows: { all: number; own: number }[] = [];
    for (let i = 0; i < 6; i++) {
      const before = await totals();
      await writeText(open.model, open.special, [context], { maxTokens: 1 });
      const after = await totals();
      if (i > 0) rows.push({ all: after.all - before.all, own: after.own - before.own });
    }
    const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1];
    const all = median(rows.map((r) => r.all)), own = median(rows.map((r) => r.own));
    const rest = median(rows.map((r) => r.all - r.own));
    console.log(
      `${String(context.length).padStart(6)}  ${all.toFixed(1).padStart(8)}  ${
        own.toFixed(1).padStart(12)
      }  ${rest.toFixed(1).padStart(7)}`,
    );
  }
  console.log(`pages copied: ${pool.copiedPages}`);
  pool.dispose();
  open.dispose();
  gpu.close();
}

const gpu = await openDevice({ budgetBytes });
console.log(`adapter ${gpu.adapter.name}; model ${model.split("/").at(-1)}`);
if (flags.lengths.length === 0) await timeAnswer(gpu);
gpu.close();
if (flags.lengths.length > 0) await timeLengths(flags.lengths.map(Number));
