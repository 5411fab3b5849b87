import assert from "node:assert/strict";
import { type Held, type PackLimits, takeBatch } from "../../../lib/data/training/pack_policy.ts";
import { takeBatchAsReference } from "../../../lib/data/training/pack_policy_reference.ts";
import type { Task } from "../../../lib/data/training/record.ts";

interface Piece {
  name: string;
  task: Task;
  tokens: number;
  length: number;
}
/** `a6` is a sample a of 6 tokens; `a6-2` has 2 of them dropped. */
function piece(text: string, task: Task = "i2t"): Piece {
  const [, name, tokens, less] = /^([a-z])(\d+)(-\d+)?$/.exec(text)!;
  return { name, task, tokens: Number(tokens), length: Number(tokens) + Number(less ?? 0) };
}

const LIMITS: PackLimits = {
  expected: 10,
  max: 12,
  preferBufferBefore: 5,
  buffer: 1,
  mandatory: [],
};

/** The batches that a stream of samples is packed into, as names; and what was lost. */
async function packed(
  stream: string,
  batches: number,
  { limits = LIMITS, reference = false, apart = "" } = {},
) {
  const pieces = stream.split(" ").map((text) => piece(text));
  const mandatory = apart.split(" ").filter(Boolean).map((text) => piece(text, "t2i"));
  const held: Held<Piece> = { buffer: [], hand: null };
  const lost: string[] = [];
  const draw = (task?: Task) => Promise.resolve((task ? mandatory : pieces).shift()!);
  const out: string[] = [];
  for (let i = 0; i < batches; i++) {
    const batch = reference
      ? await takeBatchAsReference(
        held,
        { ...limits, maxPerSample: 9 },
        draw,
        ({ name }) => lost.push(name),
      )
      : await takeBatch(held, limits, draw);
    out.push(batch.map(({ name }) => name).join(""));
  }
  return { out, lost: lost.join("") };
}

Deno.test("takeBatch() opens the next batch with the sample that did not fit; the reference loses it", async () => {
  // a: 6 of 12. b does not fit and waits, c does not fit either and nothing more may wait: the batch is a.
  // Ours goes on with c, then d fills it up to 12; then b from the buffer and e make 10.
  const stream = "a6 b7 c8 d4 e3 f8";
  assert.deepEqual(await packed(stream, 3), { out: ["a", "cd", "be"], lost: "" });
  // The reference forgets c; b comes from the buffer with d (11), then e and f (11).
  assert.deepEqual(await packed(stream, 3, { reference: true }), {
    out: ["a", "bd", "ef"],
    lost: "c",
  });
});

Deno.test("both policies agree where nothing is in hand when a batch ends", async () => {
  const stream = "a6 b7 c5 d4 e3";
  const expected = { out: ["ac", "bd"], lost: "" };
  assert.deepEqual(await packed(stream, 2), expected);
  assert.deepEqual(await packed(stream, 2, { reference: true }), expected);
});

Deno.test("a sample from the buffer that does not fit ends the batch; the reference loses it too", async () => {
  // b does not fit beside a's 4 and waits; 4 < 11 asks for it again, in vain. Ours: b opens the next batch, where
  // the same happens to c; then c and d make 11. The reference: b is lost, c and d make 11.
  const limits = { ...LIMITS, preferBufferBefore: 11, buffer: 2 };
  const stream = "a4 b9 c9 d2";
  assert.deepEqual(await packed(stream, 3, { limits }), { out: ["a", "b", "cd"], lost: "" });
  assert.deepEqual(await packed(stream, 2, { limits, reference: true }), {
    out: ["a", "cd"],
    lost: "b",
  });
});

Deno.test("takeBatch() asks whether all of a sample would fit, and counts what dropout leaves of it", async () => {
  // a takes 4 of its 8 tokens, so that b's 8 fit (12); c would not fit with 5 though it takes 1.
  assert.deepEqual((await packed("a8-4 b8 c5-4 d9", 1)).out, ["ab"]);
  assert.deepEqual((await packed("a8 b5-4 c2", 1)).out, ["ac"]);
});

Deno.test("takeBatch() measures mandatory samples; the reference lets them exceed the batch", async () => {
  const limits: PackLimits = { ...LIMITS, mandatory: ["t2i"] };
  // x5 opens the batch, b6 makes 11. In the second, y8 and then c4 make 12.
  assert.deepEqual((await packed("b6 c4", 2, { limits, apart: "x5 y8" })).out, ["xb", "yc"]);
  // After x9, b8 waits and c7 comes to hand. y9 does not fit beside c7: it opens the third batch.
  const tight = { limits, apart: "x9 y9 z9" };
  assert.deepEqual((await packed("b8 c7 d3 e2", 3, tight)).out, ["x", "c", "yd"]);
  // A mandatory sample of exactly the most per sample is passed over by the reference, others are not.
  const reference = { limits, reference: true, apart: "x9 y8" };
  assert.deepEqual((await packed("b9 c4 d8", 1, reference)).out, ["yc"]);
  const two: PackLimits = { ...LIMITS, mandatory: ["t2i", "i2t"] };
  const both = await packed("b1 c1 d1", 1, { limits: two, reference: true, apart: "x8 y8" });
  assert.deepEqual(both, { out: ["xy"], lost: "c" }); // 16 tokens of at most 12
});
