import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  MODALITIES,
  presetPrompt,
  PROMPTS,
  splitThought,
  THINK_PROMPTS,
} from "../../lib/infer/prompts.ts";

Deno.test("the think prompts are the reference's byte for byte", () => {
  // Lengths and digests of reference-model.md §6.7.
  const known = [
    [THINK_PROMPTS.bagel.understand, 227, "5eff00888fdf6b91"],
    [THINK_PROMPTS.bagel.draw, 209, "837914a3f5f8ec1b"],
    [THINK_PROMPTS.unimedvl.understand, 226, "c735e2233bfa9b9a"],
    [THINK_PROMPTS.unimedvl.draw, 216, "765567dde8e1e457"],
  ] as const;
  for (const [text, bytes, digest] of known) {
    assert.equal(new TextEncoder().encode(text).length, bytes);
    assert.equal(createHash("sha256").update(text).digest("hex").slice(0, 16), digest);
  }
});

Deno.test("every preset can be filled in, for each of the eight modalities", () => {
  assert.equal(Object.keys(MODALITIES).length, 8);
  for (const [name, { verb, purpose }] of Object.entries(PROMPTS)) {
    assert.ok(purpose.length > 0);
    for (const modality of Object.keys(MODALITIES) as (keyof typeof MODALITIES)[]) {
      const text = presetPrompt(verb, name, { text: "a nodule", modality });
      assert.doesNotMatch(text, /[{}]/);
    }
  }
  assert.equal(
    presetPrompt("generate", "synthesis", { text: "a normal chest", modality: "cxr" }),
    "Please generate a realistic chest X-ray image showing a normal chest",
  );
});

Deno.test("presetPrompt() names unknown presets, and what a preset lacks", () => {
  assert.throws(() => presetPrompt("ask", "modalty"), (error: Error & { help: string }) => {
    assert.equal(error.message, 'Cannot ask with preset "modalty": there is none of that name');
    assert.match(error.help, /did you mean modality\?/);
    return true;
  });
  assert.throws(() => presetPrompt("ask", "synthesis"), /there is none of that name/);
  assert.throws(() => presetPrompt("segment", "segmentation", { text: " " }), /it needs a text/);
});

Deno.test("splitThought() parts thought from answer, also when the thought was cut", () => {
  assert.deepEqual(splitThought("<think> a b </think> c"), { thought: "a b", answer: "c" });
  assert.deepEqual(splitThought("<think>a"), { thought: "a", answer: "" });
  assert.deepEqual(splitThought("plain"), { answer: "plain" });
});
