import assert from "node:assert/strict";
import type { Image } from "../../lib/data/resize.ts";
import { denormalize } from "../../lib/data/transforms.ts";
import { ask, askAll, report } from "../../lib/infer/ask.ts";
import { Chat } from "../../lib/infer/chat.ts";
import { counterfactual, edit, generate, segment } from "../../lib/infer/generate.ts";
import { interleave } from "../../lib/infer/interleave.ts";
import { type OpenModel, openModel } from "../../lib/infer/open_model.ts";
import { reconstruct } from "../../lib/infer/reconstruct.ts";
import type { VerbProgress } from "../../lib/infer/session.ts";
import { GPU_TEST, testGpu } from "../helpers.ts";
import { picture } from "../model/small.ts";
import { modelFolder } from "./model_folder.ts";

const IMAGE = denormalize(picture(3));
const OTHER = denormalize(picture(4, 24, 16));
const QUICK = { steps: 3, size: 16 } as const;

async function withModel(work: (open: OpenModel) => Promise<void>): Promise<void> {
  const gpu = await testGpu();
  const dir = await modelFolder(gpu);
  const open = await openModel(gpu, dir);
  try {
    await work(open);
    const parameters = [...open.model.parameters.entries()].length;
    const live = gpu.buffers.liveCount;
    open.dispose();
    assert.equal(live - gpu.buffers.liveCount, parameters, "only weights were left on the device");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const differ = (a: Image, b: Image) => a.data.some((v, i) => v !== b.data[i]);

Deno.test(
  "ask() gives the same answer alone, in a batch and with another context size",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const options = { maxTokens: 6 };
      const questions = [
        { images: [IMAGE], question: "what is this ?" },
        { images: [], question: "is the lung left or right ? yes" },
        { images: [OTHER, IMAGE], question: "dark ?" },
      ];
      const together = await askAll(open, questions, options);
      for (const [i, { images, question }] of questions.entries()) {
        const alone = await ask(open, images, question, { ...options, context: 200 });
        assert.deepEqual(alone.tokens, together[i].tokens);
        assert.equal(alone.text, together[i].text);
        assert.equal(alone.promptTokens, together[i].promptTokens);
        alone.logprobs.forEach((p, j) => {
          assert.ok(p <= 0 && Math.abs(p - together[i].logprobs[j]) < 1e-4);
        });
      }
      assert.notDeepEqual(together[0].tokens, together[1].tokens);
      assert.deepEqual(await askAll(open, []), []);
    });
  },
);

Deno.test(
  "ask() samples by its seed, and streams the very text that it returns",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const run = async (seed: number) => {
        let streamed = "";
        const options = {
          maxTokens: 12,
          temperature: 1.5,
          seed,
          onText: (t: string) => streamed += t,
        };
        const { text, tokens } = await ask(open, IMAGE, "what is this ?", options);
        assert.equal(streamed.trim(), text);
        return tokens;
      };
      const first = await run(1);
      assert.deepEqual(await run(1), first);
      assert.notDeepEqual(await run(2), first);
    });
  },
);

Deno.test("special tokens in a user's text are text, unless asked for", GPU_TEST, async () => {
  await withModel(async (open) => {
    const tokens = async (specialTokens: boolean) =>
      (await ask(open, [], "no <eos> no", { maxTokens: 1, specialTokens })).promptTokens;
    assert.ok(await tokens(false) > await tokens(true), "one id stands for the special token");
  });
});

Deno.test(
  "ask() refuses a prompt longer than the context before it loads anything",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const question = "lung ".repeat(50);
      await assert.rejects(
        ask(open, IMAGE, question, { context: 60, maxTokens: 10 }),
        (error: Error & { help: string }) => {
          assert.equal(error.name, "InputError");
          assert.match(
            error.message,
            /with images and answer it takes 82 tokens, the context holds 60/,
          );
          assert.match(error.help, /--context/);
          return true;
        },
      );
      await assert.rejects(ask(open, IMAGE, "a", { maxTokens: 0 }), /Cannot answer in 0 tokens/);
      assert.equal([...open.model.parameters.entries()].length, 0);
    });
  },
);

Deno.test(
  "think mode puts the system prompt first and parts thought from answer",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const plain = await ask(open, IMAGE, "what is this ?", { maxTokens: 3 });
      const bagel = await ask(open, IMAGE, "what is this ?", { maxTokens: 3, think: "bagel" });
      assert.ok(bagel.promptTokens > plain.promptTokens + 20);
      const drawn = await generate(open, "a dark lung", {
        ...QUICK,
        think: "unimedvl",
        maxTokens: 4,
      });
      assert.equal(typeof drawn.thought, "string");
      const without = await generate(open, "a dark lung", QUICK);
      assert.equal(without.thought, undefined);
      assert.ok(differ(drawn.image, without.image), "the thought is a condition");
    });
  },
);

Deno.test(
  "generate() draws the same picture from the same seed, at the size asked for",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const draw = (seed: number, noise: "torch" | "keyed" = "torch") =>
        generate(open, "a dark lung", { ...QUICK, seed, noise, size: [24, 16] });
      const [first, again, other, keyed] = [
        await draw(1),
        await draw(1),
        await draw(2),
        await draw(1, "keyed"),
      ];
      assert.deepEqual([first.image.width, first.image.height], [24, 16]);
      assert.deepEqual(again.image.data, first.image.data);
      assert.ok(differ(other.image, first.image) && differ(keyed.image, first.image));
      assert.equal(first.used.seed, 1);
      assert.equal(
        (await generate(open, "a", { steps: 2 })).image.width,
        32,
        "the largest the tables hold",
      );
    });
  },
);

Deno.test(
  "without input images there is no third pass, and the image scale changes nothing",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const draw = async (imageGuidance: number, asReference = false) => {
        const parts: VerbProgress[] = [];
        const { image } = await generate(open, "a dark lung", {
          ...QUICK,
          interval: [0, 1],
          imageGuidance,
          asReference,
          onProgress: (p) => p.stage === "draw" && parts.push(p),
        });
        return image.data;
      };
      const [off, on, reference] = [await draw(1), await draw(2), await draw(2, true)];
      assert.deepEqual(on, off);
      assert.notDeepEqual(reference, off, "the reference's scale is really 1 + b (a − 1)");
    });
  },
);

Deno.test("previews come every few steps, in the size of the picture", GPU_TEST, async () => {
  await withModel(async (open) => {
    const seen: number[] = [];
    await generate(open, "a lung", {
      steps: 8,
      size: 16,
      previewEvery: 2,
      onPreview: (image, step, total) => {
        assert.deepEqual([image.width, image.height, total], [16, 16, 7]);
        seen.push(step);
      },
    });
    assert.deepEqual(seen, [2, 4, 6]);
  });
});

Deno.test(
  "edit() answers the instruction first and draws by both, at the image's size",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const options = { steps: 3, maxTokens: 3, seed: 5 };
      const edited = await edit(open, OTHER, "the left lung", options);
      const size = [20, 32]; // 16 × 24 by the rule of a model whose tables end at 32 pixels
      assert.deepEqual([edited.image.width, edited.image.height], size);
      assert.equal(
        edited.instruction,
        edited.plan ? `the left lung\n\n${edited.plan}` : "the left lung",
      );
      const plain = await edit(open, OTHER, "the left lung", { ...options, plan: "none" });
      assert.equal(plain.plan, undefined);
      assert.equal(plain.instruction, "the left lung");
      const mean = await edit(open, OTHER, "the left lung", {
        ...options,
        plan: "none",
        posterior: "mean",
      });
      assert.deepEqual(mean.image.data, plain.image.data, "pixels as latents have no posterior");
      const thought = await edit(open, OTHER, "the left lung", { ...options, plan: "think" });
      assert.match(thought.instruction, /^the left lung/);
      const mask = await segment(open, IMAGE, "lesion", { steps: 2, modality: "ct" });
      assert.match(mask.instruction, /Segment the lesion in this CT image/);
      const both = await counterfactual(open, IMAGE, "no lesion", { steps: 2, maxTokens: 3 });
      assert.equal(both.text, both.plan);
    });
  },
);

Deno.test("image guidance counts where there are images", GPU_TEST, async () => {
  await withModel(async (open) => {
    const draw = async (imageGuidance: number) =>
      (await edit(open, IMAGE, "dark", { steps: 3, plan: "none", imageGuidance })).image.data;
    assert.notDeepEqual(await draw(1), await draw(3));
  });
});

Deno.test("reconstruct() answers, then draws every image again", GPU_TEST, async () => {
  await withModel(async (open) => {
    const options = { steps: 2, maxTokens: 4, temperature: 1, seed: 2 };
    const result = await reconstruct(open, [IMAGE, OTHER], "what is this ?", options);
    assert.equal(result.images.length, result.text === "" ? 0 : 2);
    assert.ok(result.images.length > 0, "this seed says something");
    assert.deepEqual([result.images[1].image.width, result.images[1].image.height], [20, 32]);
  });
});

Deno.test("interleave() takes texts and images in any order", GPU_TEST, async () => {
  await withModel(async (open) => {
    const { drawn } = await interleave(open, ["a", IMAGE, "b", OTHER, "dark"], { steps: 2 });
    assert.deepEqual([drawn!.image.width, drawn!.image.height], [20, 32], "the last image's size");
    const said = await interleave(open, [IMAGE, "what ?"], { understand: true, maxTokens: 3 });
    assert.equal(said.drawn, undefined);
    assert.equal(typeof said.text, "string");
    await assert.rejects(interleave(open, []), /Cannot go on without input/);
    await assert.rejects(interleave(open, ["a"], { size: 18 }), /Cannot make an image of 18×18/);
    await assert.rejects(interleave(open, ["a"], { size: 64 }), /Cannot make an image of 64×64/);
    await assert.rejects(interleave(open, ["a"], { steps: 1 }), /Cannot draw with steps 1/);
    await assert.rejects(interleave(open, ["a"], { seed: -1 }), /Cannot draw with seed -1/);
  });
});

Deno.test(
  "a conversation goes on from where it was, also after a turn that failed",
  GPU_TEST,
  async () => {
    await withModel(async (open) => {
      const chat = new Chat(open, { context: 120, maxTokens: 3 });
      const first = await chat.say("what is this ?", [IMAGE]);
      const length = chat.tokens;
      assert.equal(
        length,
        first.promptTokens + first.tokens.length + 2,
        "start and end stand around the answer",
      );
      const stop = AbortSignal.abort();
      await assert.rejects(chat.say("dark ?", [], { signal: stop }));
      assert.equal(chat.tokens, length);
      const second = await chat.say("dark ?");
      // The same as one prompt: both turns with the first answer between them.
      const again = new Chat(open, { context: 120, maxTokens: 3 });
      await again.say("what is this ?", [IMAGE]);
      assert.deepEqual((await again.say("dark ?")).tokens, second.tokens);
      await assert.rejects(
        chat.say("lung ".repeat(120)),
        /Cannot go on: this turn takes 122 tokens/,
      );
      chat.dispose();
      again.dispose();
    });
  },
);

Deno.test("report() asks with its preset, and verbs stop when told", GPU_TEST, async () => {
  await withModel(async (open) => {
    const { promptTokens } = await report(open, IMAGE, { modality: "cxr", maxTokens: 2 });
    assert.ok(promptTokens > 20);
    const stop = new AbortController();
    const running = ask(open, IMAGE, "what ?", {
      maxTokens: 500,
      signal: stop.signal,
      onProgress: ({ stage, done }) => stage === "write" && done >= 1 && stop.abort(),
    });
    await assert.rejects(running, { name: "AbortError" });
  });
});
