import assert from "node:assert/strict";
import { noGrad, reshape } from "../../lib/autograd.ts";
import type { Sample } from "../../lib/data/sample.ts";
import { type ModelInputs, prepareBatch } from "../../lib/model/batch.ts";
import type { UniMedVL } from "../../lib/model/unimedvl.ts";
import type { Site } from "../../lib/nn/site.ts";
import { questionSample } from "../../lib/study/vqa.ts";
import { type Tensor, tidy } from "../../lib/tensor.ts";
import { type Objective, runObjective } from "../../lib/train/objective.ts";
import { assertClose, GPU_TEST, testGpu } from "../helpers.ts";
import {
  answer,
  clean,
  differing,
  drawn,
  EDIT,
  inputsOf,
  named,
  picture,
  QUESTION,
  sameBits,
  seen,
  smallModel,
  text,
  TO_IMAGE,
  valuesOf,
  words,
} from "./small.ts";

/** f32 sums in another order: a few hundred terms deep. */
const ROUNDING = 2e-5;

type Readable = "logits" | "velocity" | "textLoss" | "flowLoss";

/** What a forward pass gives, read back; `site` may look and change. */
async function forward(
  model: UniMedVL,
  inputs: ModelInputs,
  options: { site?: Site; blocked?: (layer: number) => boolean } = {},
): Promise<Map<string, Float32Array>> {
  const kept = tidy(() =>
    noGrad(() => {
      const out = model.forward(prepareBatch(model.gpu, model.config, inputs), options);
      const names: Readable[] = ["logits", "velocity", "textLoss", "flowLoss"];
      return new Map(names.flatMap((name) => out[name] ? [[name, out[name]!] as const] : []));
    })
  );
  const values = await valuesOf(kept);
  for (const tensor of kept.values()) tensor.dispose();
  return values;
}

/** Every value that passes a site, by its name. */
async function sitesOf(
  model: UniMedVL,
  inputs: ModelInputs,
): Promise<Map<string, Float32Array>> {
  const found = new Map<string, Tensor>();
  await forward(model, inputs, {
    site: (name, x) => {
      assert.ok(!found.has(name), `site ${name} is passed twice`);
      found.set(name, x.alias().keep());
      return x;
    },
  });
  const values = await valuesOf(found);
  for (const tensor of found.values()) tensor.dispose();
  return values;
}

async function gradientsOf(
  model: UniMedVL,
  objective: Omit<Objective, "name">,
): Promise<Map<string, Float32Array>> {
  const { gradients } = tidy(() => runObjective(model, { name: "all", ...objective }));
  const values = await named(model, gradients);
  for (const gradient of gradients.values()) gradient.dispose();
  return values;
}

function assertAllClose(
  got: ReadonlyMap<string, Float32Array>,
  want: ReadonlyMap<string, Float32Array>,
): void {
  assert.deepEqual([...got.keys()].sort(), [...want.keys()].sort());
  for (const [name, values] of want) {
    // Keys' biases shift all scores of a query alike: their gradient is rounding and nothing else.
    if (/^vit\..*attn\.k\.bias$/.test(name)) continue;
    assertClose(got.get(name)!, values, ROUNDING, name);
  }
}

Deno.test("questions as branches of one image equal samples of their own", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const image = picture(5);
  const asked = [
    { question: words(1, 2), answer: words(3) },
    { question: words(4), answer: words(5, 6) },
    { question: words(7, 8, 9), answer: words(10) },
  ];
  const together = inputsOf([questionSample(image, asked)]);
  const apart = inputsOf(asked.map((one) => questionSample(image, [one])));
  assert.ok(together.packed.sequenceLength < apart.packed.sequenceLength);
  assertAllClose(await forward(model, together), await forward(model, apart));
  assertAllClose(
    await gradientsOf(model, { inputs: together }),
    await gradientsOf(model, { inputs: apart }),
  );
  model.dispose();
});

Deno.test("samples of one pack do not see each other", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const both = inputsOf([EDIT, QUESTION, TO_IMAGE]);
  const rest = inputsOf([EDIT, QUESTION]);
  const alone = inputsOf([TO_IMAGE]);
  // The third sample's tokens with the noise and the timestep they have in the pack of three.
  const from = rest.latents!.length;
  alone.noise = both.noise!.slice(from);
  alone.timesteps = both.timesteps!.slice(rest.timesteps!.length);
  const got = await forward(model, both);
  const [first, last] = [await forward(model, rest), await forward(model, alone)];
  assertClose(got.get("logits")!, first.get("logits")!, ROUNDING, "logits");
  const velocity = [...first.get("velocity")!, ...last.get("velocity")!];
  assertClose(got.get("velocity")!, velocity, ROUNDING, "velocity");

  const other: Sample = { plan: [text(11), drawn(picture(9))] };
  const changed = await forward(model, inputsOf([EDIT, QUESTION, other]));
  assert.ok(sameBits(changed.get("logits")!, got.get("logits")!), "logits of another sample");
  const n = first.get("velocity")!.length;
  const part = (values: Map<string, Float32Array>) => values.get("velocity")!.slice(0, n);
  assert.ok(sameBits(part(changed), part(got)), "velocities of another sample");
  model.dispose();
});

Deno.test("noised images are seen by themselves only", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const inputs = inputsOf([{
    plan: [text(1, 2), drawn(picture(2)), answer(3, 4), drawn(picture(3))],
  }]);
  const before = await forward(model, inputs);
  const noise = inputs.noise!.slice();
  for (let i = 0; i < noise.length / 2; i++) noise[i] = -noise[i];
  const after = await forward(model, { ...inputs, noise });
  assert.ok(sameBits(after.get("logits")!, before.get("logits")!), "text after the image");
  const half = before.get("velocity")!.length / 2;
  const [own, next] = [[0, half], [half, 2 * half]].map(([from, to]) =>
    sameBits(after.get("velocity")!.slice(from, to), before.get("velocity")!.slice(from, to))
  );
  assert.deepEqual({ own, next }, { own: false, next: true });

  // A clean image is seen.
  const shown = inputsOf([{ plan: [clean(picture(2)), answer(3, 4)] }]);
  const other = inputsOf([{ plan: [clean(picture(8)), answer(3, 4)] }]);
  const [a, b] = [await forward(model, shown), await forward(model, other)];
  assert.ok(!sameBits(a.get("logits")!, b.get("logits")!));
  model.dispose();
});

Deno.test("a hidden image reaches drawn tokens through text alone", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const velocity = async (seed: number, hidden: boolean, withText: boolean) => {
    const image = { ...seen(picture(seed)), hidden };
    const plan = [image, ...(withText ? [text(1, 2)] : []), drawn(picture(2))];
    return (await forward(model, inputsOf([{ plan }]))).get("velocity")!;
  };
  const unchanged = async (hidden: boolean, withText: boolean) =>
    sameBits(await velocity(5, hidden, withText), await velocity(6, hidden, withText));
  assert.equal(await unchanged(true, false), true, "hidden, nothing between");
  assert.equal(await unchanged(true, true), false, "hidden, but text saw it");
  assert.equal(await unchanged(false, false), false, "in plain sight");
  model.dispose();
});

Deno.test("image tokens stand row by row", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const image = picture(5, 16, 24); // 2 × 3 patches, 4 × 6 latent tokens
  const touched = { ...image, data: image.data.slice() };
  touched.data[10 * 24 + 17] += 0.5; // row 10, column 17, red
  const plan = (p: typeof image) => inputsOf([{ plan: [seen(p), clean(p), answer(1)] }]);
  const [before, after] = [await sitesOf(model, plan(image)), await sitesOf(model, plan(touched))];
  const changedRows = (site: string, rows: number) => {
    const [a, b] = [before.get(site)!, after.get(site)!];
    const width = a.length / rows;
    const cut = (x: Float32Array, r: number) => x.slice(r * width, (r + 1) * width);
    return Array.from({ length: rows }, (_, r) => r).filter((r) => !sameBits(cut(a, r), cut(b, r)));
  };
  assert.deepEqual(changedRows("vit.embed", 6), [1 * 3 + 2]);
  assert.deepEqual(changedRows("latent.embed", 24), [2 * 6 + 4]);
  assert.deepEqual(changedRows("vit.out", 6), [0, 1, 2, 3, 4, 5], "patches see each other");
  model.dispose();
});

Deno.test("batches may lack images, latents or text losses", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const cases: { sample: Sample; outputs: string[]; without: RegExp }[] = [
    {
      sample: { plan: [text(1), answer(2)] },
      outputs: ["logits", "textLoss"],
      without: /^(vit|connector|gen|latent)\./,
    },
    {
      sample: QUESTION,
      outputs: ["logits", "textLoss"],
      without: /^(gen|latent)\./,
    },
    {
      sample: TO_IMAGE,
      outputs: ["velocity", "flowLoss"],
      without: /^(vit|connector)\.|^text\.head|^und\.norm/,
    },
    {
      sample: { plan: [...QUESTION.plan, drawn(picture(7))] },
      outputs: ["logits", "velocity", "textLoss", "flowLoss"],
      without: /^$/,
    },
  ];
  for (const { sample, outputs, without } of cases) {
    const inputs = inputsOf([sample]);
    const out = await forward(model, inputs);
    assert.deepEqual([...out.keys()], outputs);
    for (const values of out.values()) assert.ok(values.every(Number.isFinite));
    const gradients = await gradientsOf(model, { inputs });
    for (const [name, tensor] of model.parameters.entries()) {
      const lastUnd = outputs[0] === "velocity" && /^und\.layers\.1\.(mlp|attn\.(q|qNorm|o))\b/;
      const absent = !tensor.requiresGrad || without.test(name) || lastUnd && lastUnd.test(name);
      assert.equal(gradients.has(name), !absent, `${outputs}: gradient of ${name}`);
    }
  }
  model.dispose();
});

Deno.test("an objective without any loss is refused", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const inputs = inputsOf([{ plan: [text(1, 2)] }]);
  assert.throws(
    () => tidy(() => runObjective(model, { name: "text", inputs })),
    { name: "TypeError", message: 'Cannot train on objective "text": its batch has no loss' },
  );
  model.dispose();
});

Deno.test(
  "sites of a block add up: in + attn.out = mid, mid + mlp.out = out",
  GPU_TEST,
  async () => {
    const model = smallModel(await testGpu());
    const values = await sitesOf(model, inputsOf([EDIT, QUESTION]));
    for (
      const block of ["und.layers.0", "und.layers.1", "gen.layers.0", "gen.layers.1"].concat(
        ["vit.layers.0", "vit.layers.1"],
      )
    ) {
      const at = (name: string) => {
        const found = values.get(`${block}.${name}`);
        assert.ok(found, `${block}.${name} is a site`);
        return found;
      };
      const sum = (a: Float32Array, b: Float32Array) => a.map((v, i) => v + b[i]);
      assert.ok(sameBits(sum(at("in"), at("attn.out")), at("mid")), `${block}: attention`);
      assert.ok(sameBits(sum(at("mid"), at("mlp.out")), at("out")), `${block}: feed-forward`);
    }
    model.dispose();
  },
);

Deno.test("looking at sites, or putting a value back, changes no bit", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const inputs = inputsOf([EDIT, QUESTION, TO_IMAGE]);
  const plain = await forward(model, inputs);
  const looked = await forward(model, inputs, { site: (_name, x) => x });
  const replaced = await forward(model, inputs, { site: (_name, x) => reshape(x, x.shape) });
  assert.deepEqual(differing(looked, plain), []);
  assert.deepEqual(differing(replaced, plain), []);
  model.dispose();
});

Deno.test("what a site returns is what goes on", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const inputs = inputsOf([EDIT]);
  const other = inputsOf([{
    plan: [clean(picture(3)), seen(picture(33)), text(6), drawn(picture(4))],
  }]);
  const features = new Map<string, Tensor>();
  const keep: Site = (name, x) => {
    if (name === "connector.out") features.set(name, x.alias().keep());
    return x;
  };
  const want = await forward(model, other, { site: keep });
  const put: Site = (name, x) => features.get(name)?.alias() ?? x;
  assert.deepEqual(differing(await forward(model, inputs, { site: put }), want), []);
  assert.notDeepEqual(differing(await forward(model, inputs), want), []);
  for (const tensor of features.values()) tensor.dispose();
  model.dispose();
});

Deno.test("prepareBatch() names what has the wrong size", GPU_TEST, async () => {
  const model = smallModel(await testGpu());
  const inputs = inputsOf([EDIT]);
  const prepare = (change: Partial<ModelInputs>) => () =>
    tidy(() => prepareBatch(model.gpu, model.config, { ...inputs, ...change }));
  const tokens = inputs.packed.vaeTokenIndexes.length;
  assert.throws(prepare({ timesteps: new Float32Array(3) }), {
    name: "TypeError",
    message: `Cannot prepare a batch: timesteps has 3 values, the packed tokens need ${tokens}`,
  });
  assert.throws(prepare({ noise: new Float32Array(0) }), /noise has 0 values/);
  assert.throws(prepare({ latents: inputs.latents!.slice(1) }), /latents has \d+ values/);
  const packed = { ...inputs.packed, vitTokens: new Float32Array(5) };
  assert.throws(prepare({ packed }), /vitTokens has 5 values/);
  model.dispose();
});
