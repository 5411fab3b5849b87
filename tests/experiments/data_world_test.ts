import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { DEFAULTS, type DemoConfig } from "../../experiments/demo/config.ts";
import { dataWorld } from "../../experiments/demo/data_world.ts";
import type { DemoWorld } from "../../experiments/demo/world.ts";
import { openDataset } from "../../lib/data/dataset.ts";
import { readImage } from "../../lib/data/image.ts";
import { packBatch } from "../../lib/data/pack.ts";
import type { Sample } from "../../lib/data/sample.ts";
import { InputError } from "../../lib/errors.ts";
import {
  type Files,
  flat,
  type Line,
  lines,
  medpackFolder,
  speckle,
  withFolder,
} from "./folders.ts";

const SHARED = fileURLToPath(new URL("../../../shared/data", import.meta.url));
const shared = (name: string) => ({
  dir: `${SHARED}/${name}`,
  has: existsSync(`${SHARED}/${name}`),
});
const MEDPACK = shared("medpack"), VQA_RAD = shared("vqa-rad");
const named = (fact: string, { has }: { has: boolean }) =>
  has ? fact : `${fact} (skipped: ../shared/data is absent)`;

const CONFIG: DemoConfig = { ...DEFAULTS, images: 4, questions: 2, drawings: 5 };

/** Six images of each of two modalities in either split; ct has two labels, mri has one. */
const TOY: Line[] = ["train", "val"].flatMap((split) =>
  ["ct", "mri"].flatMap((modality, m) =>
    Array.from({ length: 6 }, (_, i) => ({
      id: `${split} ${modality} ${i}`,
      file: `images/${split}-${modality}-${i}.png`,
      split,
      modality,
      label: modality === "mri"
        ? "glioma"
        : i < (split === "train" ? 4 : 1)
        ? "normal"
        : "benign mass",
      group: `${split} ${modality} ${i >> 1}`,
      pixels: speckle(split + i, m === 0 ? [200, 40, 40] : [30, 60, 200]),
    }))
  )
);

async function openLines(list: readonly Line[], config = CONFIG): Promise<DemoWorld> {
  let world: DemoWorld | undefined;
  await withFolder(await medpackFolder(list), async (dir) => {
    world = await dataWorld(dir, config);
  });
  return world!;
}

const pack = (world: DemoWorld, samples: Sample[]) =>
  packBatch(samples, { ...world.pack, drawTimestep: () => 0.5 });

/** Every picture that training shows clean in as many steps as understanding needs for all images. */
function trainedPictures(world: DemoWorld, images: number): Set<string> {
  const seen = new Set<string>();
  for (let step = 0; step < Math.ceil(images / CONFIG.images); step++) {
    for (const { plan } of world.understanding(step)) {
      for (const item of plan) if (item.type === "vit_image") seen.add(keyOf(item.image.data));
    }
    for (const { plan } of world.generation(step)) {
      for (const item of plan) {
        if (item.type === "vae_image" && item.loss) seen.add(keyOf(item.image.data));
      }
    }
  }
  return seen;
}

const keyOf = (data: Float32Array) => data.join();

Deno.test("dataWorld() asks modality, and label only where a modality has two labels in train", async () => {
  const world = await openLines(TOY);
  assert.equal(world.key, "data");
  assert.equal(world.tests.length, 12);
  const asked = world.tests.flatMap(({ questions }) => questions);
  assert.equal(asked.filter(({ name }) => name === "modality").length, 12);
  const labels = asked.filter(({ name }) => name === "label");
  assert.deepEqual(labels.map(({ answer }) => answer), ["normal", ...Array(5).fill("benign mass")]);
  assert.deepEqual(
    new Set(asked.map(({ question }) => question)),
    new Set(["modality ?", "label ?"]),
  );
  // Train: modality 6 : 6, "ct" first by name; label 4 normal, 2 benign mass, of which 1 in 6 tests.
  assert.deepEqual(world.questions, [
    { name: "modality", chance: 6 / 12 },
    { name: "label", chance: 1 / 6 },
  ]);
  assert.equal(world.maxWords, 3); // benign mass, and the end
});

Deno.test("dataWorld() gives the same batches for the same seed and step, in any order of calls", async () => {
  const [a, b, c] = [
    await openLines(TOY),
    await openLines(TOY),
    await openLines(TOY, { ...CONFIG, seed: 1 }),
  ];
  const later = b.understanding(9);
  for (const step of [0, 1, 9]) {
    assert.deepEqual(a.understanding(step), b.understanding(step));
    assert.deepEqual(a.generation(step), b.generation(step));
    assert.notDeepEqual(a.understanding(step), c.understanding(step));
    assert.notDeepEqual(a.generation(step), c.generation(step));
  }
  assert.deepEqual(later, a.understanding(9));
  assert.notDeepEqual(a.understanding(0), a.understanding(1));
  assert.deepEqual(a.drawing.map(({ sample }) => sample), b.drawing.map(({ sample }) => sample));
});

Deno.test("dataWorld() gives the same understanding samples with and without generation", async () => {
  const [und, joint] = [await openLines(TOY), await openLines(TOY, { ...CONFIG, drawings: 7 })];
  for (let step = 0; step < 5; step++) {
    joint.generation(step);
    assert.deepEqual(und.understanding(step), joint.understanding(step));
    joint.generation(step + 3);
  }
});

Deno.test("dataWorld() packs half of a generation batch from text, half from noisy copies", async () => {
  const world = await openLines(TOY);
  const batch = world.generation(3);
  const shapes = batch.map(({ plan }) =>
    plan.map((item) => item.type + (item.loss ? " *" : "")).join()
  );
  const text = "text,vae_image *", denoise = "vae_image,vit_image,text,vae_image *";
  assert.deepEqual(shapes, [text, text, text, denoise, denoise]);
  assert.equal(pack(world, batch).mseRows.length, 5 * 16);
  const [source, seen, words, target] = batch[4].plan;
  assert.ok(
    source.type === "vae_image" && seen.type === "vit_image" && target.type === "vae_image",
  );
  assert.equal(source.image, seen.image);
  assert.ok(words.type === "text");
  assert.equal(world.tokenizer.decode(words.ids), "remove noise");
  const error = source.image.data.map((x, i) => (x - target.image.data[i]) ** 2);
  const rms = Math.sqrt(error.reduce((sum, e) => sum + e, 0) / error.length);
  assert.ok(rms > 0.2 && rms < 0.45, `noise of ${rms}`); // 0.4 before it is cut to [-1, 1]
  assert.ok(source.image.data.every((x) => Math.abs(x) <= 1));
  assert.equal(pack(world, world.understanding(3)).vitSeqlens.length, 4);
  for (const { sample } of world.routes) {
    assert.equal(pack(world, [sample]).latentShapes.length > 0, true);
  }
});

Deno.test("dataWorld() trains on every training image and on no test image", async () => {
  const world = await openLines(TOY);
  const trained = trainedPictures(world, 12);
  assert.equal(trained.size, 12);
  for (const { image } of world.tests) assert.ok(!trained.has(keyOf(image.data)));
  for (const { real } of world.drawing) assert.ok(!trained.has(keyOf(real.data)));
  for (const { data } of world.probeImages) assert.ok(!trained.has(keyOf(data)));
});

Deno.test("dataWorld() draws as many held-out captions of each class, and judges the real ones", async () => {
  const world = await openLines(TOY, { ...CONFIG, gate: { ...CONFIG.gate, pictures: 16 } });
  const wanted = world.drawing.map((test) => test.wanted);
  assert.deepEqual(wanted, Array.from({ length: 16 }, (_, i) => i % 2));
  for (const test of world.drawing) {
    assert.equal(test.judge(test.real), test.wanted);
    assert.equal(test.prompt, ["ct", "mri"][test.wanted]);
    const words = test.sample.plan[0];
    assert.ok(words.type === "text");
    assert.ok(world.tokenizer.decode(words.ids).startsWith(test.prompt));
  }
  assert.equal(world.gateMeasure, "drawn modality matches the caption");
  assert.ok(world.notes!.some((note) => note.endsWith("of 100 % of 12 real test images")));
});

Deno.test("dataWorld() says in the gate's text that its judge is weak", async () => {
  const alike = TOY.map((line) => ({ ...line, pixels: flat([90, 90, 90]) }));
  const { gateMeasure } = await openLines(alike);
  assert.match(gateMeasure, /^drawn modality matches the caption \(weak judge: right on 50 %/);
});

Deno.test("dataWorld() probes held-out images of every class", async () => {
  const { probeImages, probeTargets: { global, dense } } = await openLines(TOY);
  assert.deepEqual([probeImages.length, global.name, global.classes], [12, "modality", 2]);
  assert.deepEqual([...global.labels], Array.from({ length: 12 }, (_, i) => i % 2));
  assert.equal(dense, undefined);
});

Deno.test("dataWorld() counts what it leaves out, and groups that both splits have", async () => {
  // Train: 12 modalities, 6 labels of ct; test: as many; "x" has all three questions of its own line.
  const long = "one two three four five six seven";
  const world = await openLines([
    ...TOY.slice(0, -1),
    { ...TOY.at(-1)!, group: "train ct 0", qa: [{ question: "side ?", answer: "left" }] },
    { ...TOY[0], id: "x", qa: [{ question: "why ?", answer: long }] },
  ]);
  const has = (text: string) => assert.ok(world.notes!.includes(text), world.notes!.join("\n"));
  has("left out 1 of 21 training and 0 of 19 test questions: answers have more than 6 words");
  has(
    "left out 0 of 20 training and 1 of 19 test questions: answers have words that no training " +
      "text has",
  );
  has("1 of 12 test images are of groups that are trained on");
});

Deno.test("dataWorld() reads VQA-RAD's own questions, and says which images its splits share", async () => {
  const organs = ["HEAD", "CHEST"];
  const entry = (i: number, question: string, answer: string) => ({
    image_name: `${i}.png`,
    image_organ: organs[i % 2],
    question,
    answer,
    answer_type: answer === "yes" || answer === "no" ? "CLOSED" : "OPEN",
  });
  const ids = Array.from({ length: 24 }, (_, i) => i);
  const files: Files = {
    "trainset.json": JSON.stringify(
      ids.map((i) => entry(i, "is it a scan?", i % 3 ? "yes" : "no")),
    ),
    "testset.json": JSON.stringify(
      ids.slice(0, 8).map((i) => entry(i, "a scan?", i ? "no" : "yes")),
    ),
  };
  for (const i of ids) {
    files[`images/${i}.png`] = await speckle(`${i}`, i % 2 ? [20, 20, 20] : [220, 220, 220])();
  }
  await withFolder(files, async (dir) => {
    const world = await dataWorld(dir, CONFIG);
    assert.equal(world.title, "VQA-RAD");
    assert.deepEqual(world.questions, [{ name: "closed", chance: 1 / 8 }]);
    assert.equal(world.probeTargets.global.name, "organ");
    assert.ok(
      world.notes!.some((note) => note.startsWith("8 of 8 test images are training images")),
    );
    assert.ok(world.notes!.some((note) => /fitted on 16 training images/.test(note)));
    const words = world.generation(0)[0].plan[0];
    assert.ok(words.type === "text");
    assert.match(world.tokenizer.decode(words.ids), /^(head|chest) is it a scan\? (yes|no)$/);
  });
});

for (const [folder, name] of [[MEDPACK, "medpack"], [VQA_RAD, "VQA-RAD"]] as const) {
  Deno.test({
    name: named(`dataWorld() makes of ${name} batches that pack and answers that encode`, folder),
    ignore: !folder.has,
    fn: async () => {
      const calls: [number, number][] = [];
      const world = await dataWorld(folder.dir, CONFIG, { onProgress: (...at) => calls.push(at) });
      assert.ok(calls.every(([done], i) => i === 0 || done > calls[i - 1][0]));
      assert.equal(calls.at(-1)![0], calls.at(-1)![1]);
      const { unk } = world.tokenizer.special;
      for (const { answer } of world.tests.flatMap(({ questions }) => questions)) {
        const ids = world.tokenizer.encode(answer);
        assert.ok(ids.length > 0 && ids.length < world.maxWords! && !ids.includes(unk), answer);
      }
      for (let step = 0; step < 60; step++) {
        const packed = pack(world, world.understanding(step));
        assert.ok(packed.labelIds.every((id) => id !== unk && id < world.model.language.vocabSize));
        pack(world, world.generation(step));
      }
      assert.equal(world.drawing.length, CONFIG.gate.pictures);
      assert.ok(world.model.language.vocabSize <= 1024);
      assert.ok(!world.gateMeasure.includes("weak judge"), world.gateMeasure);
      assert.ok(world.questions.every(({ chance }) => chance > 0 && chance < 0.6));
    },
  });
}

Deno.test({
  name: named("dataWorld() trains on no image, id or group of medpack's test split", MEDPACK),
  ignore: !MEDPACK.has,
  fn: async () => {
    const world = await dataWorld(MEDPACK.dir, CONFIG);
    const trained = trainedPictures(world, 546);
    assert.ok(trained.size > 540, `${trained.size} of 546 training images were seen`);
    const { records } = await openDataset(MEDPACK.dir);
    const groups = new Set(records.filter((r) => r.split === "train").map((r) => r.group));
    assert.ok(records.every((r) => r.split === "train" || !groups.has(r.group)));
    assert.equal(world.tests.length, 149);
    for (const { image } of world.tests) assert.ok(!trained.has(keyOf(image.data)));
    assert.ok(!world.notes!.some((note) => note.includes("trained on")));
  },
});

/** The error of `body`, which must be one that a user can repair. */
async function inputError(body: () => Promise<unknown>): Promise<InputError> {
  try {
    await body();
  } catch (error) {
    assert.ok(error instanceof InputError, `${error}`);
    return error;
  }
  throw new Error("it was accepted");
}

/** dataWorld's error must be the reader's own, word for word. */
async function samePassed(dir: string, reader: () => Promise<unknown>, like: RegExp) {
  const [passed, own] = [await inputError(() => dataWorld(dir, CONFIG)), await inputError(reader)];
  // The decoder's own reason differs from run to run.
  const withoutReason = (text: string) => text.replace(/^(Cannot read image [^:]+): .*$/, "$1");
  assert.equal(withoutReason(passed.message), withoutReason(own.message));
  assert.equal(passed.help, own.help);
  assert.match(passed.message, like);
}

Deno.test("dataWorld() passes on what is wrong with a folder", async () => {
  const missing = "no/such/folder";
  await samePassed(
    missing,
    () => openDataset(missing),
    /^Cannot read data folder no\/such\/folder: /,
  );
  await withFolder({ "a.txt": "x" }, async (dir) => {
    await samePassed(dir, () => openDataset(dir), /it has neither manifest.jsonl/);
    await samePassed(`${dir}/a.txt`, () => openDataset(`${dir}/a.txt`), /Cannot read data folder/);
  });
});

Deno.test("dataWorld() passes on what is wrong with a line or an image", async () => {
  const files = await medpackFolder(TOY);
  const manifest = `${lines(TOY.slice(0, 3))}\n{"id": \n${lines(TOY.slice(3))}`;
  await withFolder({ ...files, "manifest.jsonl": manifest }, async (dir) => {
    await samePassed(dir, () => openDataset(dir), /manifest.jsonl line 4: it is not JSON/);
  });
  const { file } = TOY[5];
  for (
    const [content, like] of [
      [(files[file] as Uint8Array).slice(0, 200), /^Cannot read image .*train-ct-5.png: /],
      ["no image", /train-ct-5.png: it is not a JPEG, PNG, WebP or TIFF file/],
    ] as const
  ) {
    const later = TOY[7].file; // also bad: the first in order is reported
    await withFolder({ ...files, [file]: content, [later]: "x" }, async (dir) => {
      const path = await Deno.realPath(`${dir}/${file}`);
      await samePassed(dir, () => readImage(path), like);
    });
  }
});

Deno.test("dataWorld() refuses folders with nothing to train on, to test on or to tell apart", async () => {
  const error = async (list: readonly Line[]) => {
    let said: InputError | undefined;
    await withFolder(await medpackFolder(list), async (dir) => {
      said = await inputError(() => dataWorld(dir, CONFIG));
      assert.ok(said.message.startsWith(`Cannot use data folder ${dir}: `) && said.help);
    });
    return said!.message;
  };
  assert.match(await error(TOY.slice(0, 12)), /no test image has a question that can be asked/);
  assert.match(await error(TOY.slice(12)), /no training image has a question that can be asked/);
  const alike = TOY.map((line) => ({ ...line, modality: "ct", label: "normal" }));
  assert.match(await error(alike), /fewer than 2 modalities or labels/);
});

Deno.test("dataWorld() stops reading when it is aborted", async () => {
  await withFolder(await medpackFolder(TOY), async (dir) => {
    const stop = new AbortController();
    const onProgress = () => stop.abort(new Error("enough"));
    let done = 0;
    const open = dataWorld(dir, CONFIG, {
      signal: stop.signal,
      onProgress: (n) => {
        done = n;
        onProgress();
      },
    });
    await assert.rejects(open, { message: "enough" });
    assert.equal(done, 4);
  });
});
