import assert from "node:assert/strict";
import { openDevice } from "../../lib/gpu/device.ts";
import { ask } from "../../lib/infer/ask.ts";
import { generate } from "../../lib/infer/generate.ts";
import { openModel } from "../../lib/infer/open_model.ts";
import { denormalize } from "../../lib/data/transforms.ts";
import { writeSafetensors } from "../../lib/data/safetensors.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { picture, SMALL } from "../model/small.ts";
import { modelFolder } from "./model_folder.ts";

const IMAGE = denormalize(picture(3));

const loadedPrefixes = (open: Awaited<ReturnType<typeof openModel>>) =>
  [...new Set([...open.model.parameters.entries()].map(([name]) => name.split(".")[0]))].sort();

Deno.test(
  "ask() loads neither the gen expert nor latents, generate() no image encoder",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await modelFolder(gpu);
    const live = gpu.buffers.liveCount;
    const asking = await openModel(gpu, dir);
    assert.equal(gpu.buffers.liveCount, live, "opening loads no weight");
    await ask(asking, [], "what is this ?", { maxTokens: 2 });
    assert.deepEqual(loadedPrefixes(asking), ["text", "und"]);
    await ask(asking, IMAGE, "what is this ?", { maxTokens: 2 });
    assert.deepEqual(loadedPrefixes(asking), ["connector", "text", "und", "vit"]);
    asking.dispose();
    const drawing = await openModel(gpu, dir);
    await generate(drawing, "a dark lung", { steps: 3, size: 16 });
    assert.deepEqual(loadedPrefixes(drawing), ["gen", "latent", "text", "und"]);
    assert.equal(drawing.model.parameters.find("text.head.weight"), undefined);
    drawing.dispose();
    assert.equal(gpu.buffers.liveCount, live);
    await Deno.remove(dir, { recursive: true });
  },
);

Deno.test(
  "a model over the budget is streamed layer by layer and answers and draws the same",
  GPU_TEST,
  async () => {
    const large = {
      ...SMALL,
      language: { ...SMALL.language, hiddenSize: 64, intermediateSize: 512, numHiddenLayers: 12 },
    };
    const plenty = await testGpu();
    const dir = await modelFolder(plenty, 1, large);
    const run = async (budgetBytes: number) => {
      const gpu = await openDevice({ budgetBytes });
      const open = await openModel(gpu, dir, { workingBytes: 2 ** 21 });
      const notes: string[] = [];
      const onNote = (text: string) => notes.push(text);
      const answer = await ask(open, IMAGE, "what is this ?", { maxTokens: 4, onNote });
      const drawn = await generate(open, "a dark lung", { steps: 3, size: 16, onNote });
      const { stream } = open;
      const result = {
        answer: answer.tokens,
        image: drawn.image.data,
        notes,
        stream: stream?.times,
      };
      assert.ok(gpu.buffers.peakBytes <= budgetBytes);
      open.dispose();
      assert.equal(gpu.buffers.liveCount, 0);
      gpu.close();
      return result;
    };
    const whole = await run(2 ** 27);
    assert.equal(whole.stream, undefined);
    const streamed = await run(2 ** 22 + 2 ** 21);
    assert.ok(streamed.stream && streamed.stream.layers >= 12 * (3 + 2));
    // The first layer of each verb has nothing before it; every other was read while another computed.
    assert.equal(streamed.stream.ahead, streamed.stream.layers - 2);
    assert.match(
      streamed.notes[0],
      /decoder layers are read from disk in every pass, at 1 GB\/s about/,
    );
    assert.deepEqual(streamed.answer, whole.answer);
    assert.deepEqual(streamed.image, whole.image);
    await assert.rejects(run(2 ** 22), (error: Error & { help: string }) => {
      assert.equal(error.name, "ResourceError");
      assert.match(
        error.message,
        /Cannot load .*: with caches and activations it takes .* of device memory, .* with decoder layers streamed from disk; the budget is 4.0 MiB/,
      );
      assert.match(error.help, /--budget \d+MB, or --budget \d+MB to stream/);
      return true;
    });
    await Deno.remove(dir, { recursive: true });
  },
);

Deno.test("openModel() and need() name what a folder lacks", GPU_TEST, async () => {
  const gpu = await testGpu();
  const dir = await modelFolder(gpu);
  const refused = async (message: RegExp) => {
    await assert.rejects(openModel(gpu, dir), (error: Error) => {
      assert.equal(error.name, "InputError");
      assert.match(error.message, message);
      return true;
    });
  };
  await Deno.rename(`${dir}/words.json`, `${dir}/words.kept`);
  await refused(/Cannot open a tokenizer in .*: it has no tokenizer files/);
  const many = Array.from({ length: 19 }, (_, i) => `w${i}`);
  await Deno.writeTextFile(`${dir}/words.json`, JSON.stringify({ type: "words", words: many }));
  await refused(/its tokenizer has 25 tokens, the token table 24/);
  await Deno.rename(`${dir}/words.kept`, `${dir}/words.json`);
  await Deno.writeTextFile(`${dir}/defaults.json`, '{"draw": {"stepz": 20}}');
  await refused(/defaults.json: unknown field draw.stepz/);
  await Deno.remove(`${dir}/defaults.json`);
  await Deno.writeTextFile(`${dir}/config.json`, "{");
  await refused(/config.json: not JSON/);
  await Deno.remove(dir, { recursive: true });
});

Deno.test(
  "a folder without an expert still answers, and says which tensors drawing lacks",
  GPU_TEST,
  async () => {
    const gpu = await testGpu();
    const dir = await modelFolder(gpu);
    const whole = await openModel(gpu, dir);
    const kept: [string, { dtype: "F32"; shape: number[]; data: Float32Array }][] = [];
    for (const [ours, stored] of whole.checkpoint.tensors) {
      if (!stored.file || ours.startsWith("gen.")) continue;
      const data = await whole.checkpoint.readFloat32(stored);
      kept.push([stored.name, { dtype: "F32", shape: stored.shape, data }]);
    }
    whole.dispose();
    await writeSafetensors(`${dir}/model.safetensors`, kept);
    const open = await openModel(gpu, dir);
    await ask(open, IMAGE, "what is this ?", { maxTokens: 2 });
    await assert.rejects(generate(open, "a lung", { steps: 2, size: 16 }), {
      name: "InputError",
      message:
        /tensors are missing: language_model\.model\.layers\.0\.input_layernorm_moe_gen\.weight/,
    });
    open.dispose();
    await Deno.remove(dir, { recursive: true });
  },
);
