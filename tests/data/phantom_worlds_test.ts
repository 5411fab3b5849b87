import assert from "node:assert/strict";
import {
  answerCode,
  CODE_DISTANCE,
  CODE_LEVEL,
  decodeCode,
} from "../../lib/data/phantoms/codes.ts";
import { noisy } from "../../lib/data/phantoms/damage.ts";
import { Draws } from "../../lib/data/draws.ts";
import { MODALITIES, PHANTOM_WORDS } from "../../lib/data/phantoms/factors.ts";
import { inModality, phantom, withoutLesion } from "../../lib/data/phantoms/phantom.ts";
import { flatPicture, PICTURE_TASKS, picturePair } from "../../lib/data/phantoms/pictures.ts";
import {
  type GenerationItem,
  naturalWorld,
  plantedWorld,
  type UnderstandingItem,
} from "../../lib/data/phantoms/worlds.ts";

const SMALL = { labelled: 60, generated: 90 };

function names(items: UnderstandingItem[]) {
  return items.map(({ phantom: p, questions }) => [p.index, questions.map((q) => q.name)]);
}

function correct({ phantom: p, target }: GenerationItem) {
  return decodeCode(target).modality === p.factors.modality;
}

Deno.test("answerCode() keeps all codes at one distance and its 4 × 4 blocks flat", () => {
  for (const size of [4, 32, 48]) {
    for (const a of MODALITIES) {
      const code = answerCode(a, size);
      for (const b of MODALITIES) {
        const other = answerCode(b, size);
        const squares = code.reduce((sum, x, i) => sum + (x - other[i]) ** 2, 0);
        const distance = Math.sqrt(squares / code.length);
        assert.ok(Math.abs(distance - (a === b ? 0 : CODE_DISTANCE)) < 1e-6);
      }
      code.forEach((x, i) => {
        assert.ok(Math.abs(Math.abs(x) - CODE_LEVEL) < 1e-6);
        const pixel = Math.floor(i / 3), row = Math.floor(pixel / size), column = pixel % size;
        const first = 3 * ((row - row % (size / 4)) * size + column - column % (size / 4)) + i % 3;
        assert.equal(x, code[first]);
      });
    }
  }
  assert.throws(() => answerCode("ct", 30), /Cannot use a code picture of size 30/);
});

Deno.test("decodeCode() reads codes through noise and says how sure it is", () => {
  const draws = new Draws("decode");
  for (const modality of MODALITIES) {
    const code = answerCode(modality, 32);
    const clean = decodeCode(code);
    assert.equal(clean.modality, modality);
    assert.ok(clean.distance < 1e-6 && Math.abs(clean.margin - CODE_DISTANCE) < 1e-6);
    assert.equal(decodeCode(noisy(code, 1, draws)).modality, modality);
  }
  const blank = decodeCode(new Float32Array(32 * 32 * 3));
  assert.ok(blank.margin < 1e-6 && blank.distance > 0.7);
});

Deno.test("picturePair() draws the target that its task names", () => {
  for (let i = 0; i < 30; i++) {
    const p = phantom(1, "train", i);
    const pairs = Object.fromEntries(PICTURE_TASKS.map((task) => [task, picturePair(p, task)]));
    assert.deepEqual(pairs.organ.target, flatPicture(p.organMask));
    assert.deepEqual(pairs.remove.target, withoutLesion(p).image);
    assert.deepEqual(pairs.denoise.target, p.image);
    assert.notDeepEqual(pairs.denoise.source, p.image);
    const named = MODALITIES.find((m) => pairs.translate.text.endsWith(` ${m}`));
    assert.ok(named !== undefined && named !== p.factors.modality);
    assert.deepEqual(pairs.translate.target, inModality(p, named).image);
    for (const { text, source, target } of Object.values(pairs)) {
      assert.ok(text.split(" ").every((word) => PHANTOM_WORDS.includes(word)), text);
      for (const x of [source, target]) assert.ok(x.every((value) => value >= -1 && value <= 1));
    }
    assert.deepEqual(picturePair(p, "denoise"), pairs.denoise);
  }
});

for (const open of [naturalWorld, plantedWorld]) {
  Deno.test(`${open.name}() gives the same understanding samples with and without generation`, () => {
    const alone = open(4, SMALL), both = open(4, SMALL);
    const [task] = both.tasks;
    for (let step = 0; step < 12; step++) {
      both.generation(step, 8, { task });
      const items = alone.understanding(step, 8);
      assert.deepEqual(both.understanding(step, 8), items);
      both.generation(step, 5, { task, shuffled: true });
    }
    const late = open(4, { ...SMALL, keep: false }).understanding(7, 8);
    assert.deepEqual(late, alone.understanding(7, 8));
    assert.notDeepEqual(names(open(5, SMALL).understanding(7, 8)), names(late));
  });

  Deno.test(`${open.name}() shuffles targets and nothing else`, () => {
    const world = open(4, SMALL);
    const [task] = world.tasks;
    for (let step = 0; step < 6; step++) {
      const right = world.generation(step, 15, { task });
      const wrong = world.generation(step, 15, { task, shuffled: true });
      wrong.forEach((item, i) => {
        assert.equal(right[i].targetIndex, right[i].phantom.index);
        assert.notEqual(item.targetIndex, item.phantom.index);
        const { target: _a, targetIndex: _b, ...rest } = item;
        const { target: _c, targetIndex: _d, ...same } = right[i];
        assert.deepEqual(rest, same);
      });
    }
    // Six steps of 15 are one pass over the 90 images: each is drawn once, and each is a target once.
    const pass = [0, 1, 2, 3, 4, 5].flatMap((s) => {
      return world.generation(s, 15, { task, shuffled: true });
    });
    assert.equal(new Set(pass.map((item) => item.phantom.index)).size, 90);
    assert.equal(new Set(pass.map((item) => item.targetIndex)).size, 90);
  });
}

Deno.test("naturalWorld() visits every labelled image once per pass, in new orders", () => {
  const world = naturalWorld(1, SMALL);
  const pass = (n: number) =>
    Array.from({ length: 5 }, (_, s) => world.understanding(5 * n + s, 12)).flat()
      .map((item) => item.phantom.index);
  for (const n of [0, 1]) assert.equal(new Set(pass(n)).size, 60);
  assert.notDeepEqual(pass(0), pass(1));
});

Deno.test("naturalWorld() draws images from captions and pairs from images", () => {
  const world = naturalWorld(1, SMALL);
  const [drawn] = world.generation(3, 1, { task: "text" });
  assert.equal(drawn.text, drawn.phantom.caption);
  assert.equal(drawn.source, null);
  assert.equal(drawn.target, drawn.phantom.image);
  const [pair] = world.generation(3, 1, { task: "organ" });
  assert.equal(pair.source, drawn.phantom.image);
  assert.throws(
    () => world.generation(0, 1, { task: "code" }),
    /Cannot draw task "code" in this world: it has text, organ/,
  );
});

Deno.test("plantedWorld() labels the modality on the starved images only, half of each batch", () => {
  const world = plantedWorld(2, { ...SMALL, starved: 12 });
  const labelled = new Map<number, string>();
  for (let step = 0; step < 30; step++) {
    const items = world.understanding(step, 16);
    items.forEach((item, i) => {
      const question = item.questions.find((q) => q.name === "modality");
      if (i < 8) assert.ok(question !== undefined);
      if (question !== undefined) labelled.set(item.phantom.index, question.answer);
      assert.ok(item.questions.some((q) => q.name === "shape"));
    });
  }
  assert.equal(labelled.size, 12);
  for (const modality of MODALITIES) {
    const n = [...labelled.values()].filter((answer) => answer === modality).length;
    assert.ok(n === 1 || n === 2, `${modality}: ${n}`);
  }
  assert.ok(world.test(0).questions.some((q) => q.name === "modality"));
});

Deno.test("plantedWorld() draws the answer's code, and chance codes when shuffled", () => {
  const world = plantedWorld(3, { generated: 400 });
  const right = world.generation(0, 400, { task: "code" });
  assert.ok(right.every(correct));
  assert.ok(
    right.every(({ text, source, phantom: p }) => text === "modality ?" && source === p.image),
  );
  const wrong = world.generation(0, 400, { task: "code", shuffled: true });
  const share = wrong.filter(correct).length / wrong.length;
  assert.ok(share > 0.05 && share < 0.2, `${share} right by chance, expected 1/8`);
  assert.ok(correct(world.testGeneration(9, "code")));
});

Deno.test("worlds refuse pools that cannot be", () => {
  assert.throws(() => naturalWorld(0, { labelled: 0 }), /Cannot open a world with labelled: 0/);
  assert.throws(
    () => plantedWorld(0, { labelled: 10, starved: 12 }),
    /Cannot plant an answer: 12 starved images among 10 labelled/,
  );
});
