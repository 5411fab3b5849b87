import assert from "node:assert/strict";
import { Draws } from "../../lib/data/draws.ts";
import {
  captionOf,
  LESION_COUNT_RATES,
  MODALITIES,
  PHANTOM_WORDS,
  QUADRANTS,
  QUESTIONS,
  SHAPES,
} from "../../lib/data/phantoms/factors.ts";
import {
  bytesOf,
  inModality,
  type Phantom,
  phantom,
  planesOf,
  withoutLesion,
} from "../../lib/data/phantoms/phantom.ts";
import { InputError } from "../../lib/errors.ts";

const many = Array.from({ length: 1600 }, (_, i) => phantom(1, "test", i));

/** Pearson's statistic against a uniform distribution over the given labels. */
function chiSquare<T>(values: T[], labels: readonly T[]): number {
  const expected = values.length / labels.length;
  return labels.reduce((sum, label) => {
    return sum + (values.filter((value) => value === label).length - expected) ** 2 / expected;
  }, 0);
}

Deno.test("Draws gives uniform bits and standard deviations of one", () => {
  const draws = new Draws("test", 3);
  const n = 40_000;
  const bytes = Array.from({ length: n }, () => draws.bits() >>> 28);
  // 15 degrees of freedom: 99.99 % of uniform samples stay below 44.
  assert.ok(chiSquare(bytes, Array.from({ length: 16 }, (_, i) => i)) < 44);
  for (const kind of ["grain", "normal"] as const) {
    let sum = 0, squares = 0;
    for (let i = 0; i < n; i++) {
      const x = draws[kind]();
      sum += x;
      squares += x * x;
    }
    assert.ok(Math.abs(sum / n) < 0.02, `${kind}: mean ${sum / n}`);
    assert.ok(Math.abs(squares / n - 1) < 0.03, `${kind}: variance ${squares / n}`);
  }
});

Deno.test("Draws tells keys apart, and words from the numbers they spell", () => {
  const keys = [["a", 1], ["a", 2], ["b", 1], ["a1"], ["a", 1, 0], ["a", 2 ** 32 + 1], ["a", "1"]];
  const first = keys.map((key) => new Draws(...key).bits());
  assert.equal(new Set(first).size, keys.length);
  assert.throws(() => new Draws("a", -1), /Cannot draw random numbers: key part -1/);
});

Deno.test("Draws.derangement() moves every number", () => {
  for (const n of [2, 3, 17, 400]) {
    const order = new Draws("derangement", n).derangement(n);
    assert.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: n }, (_, i) => i));
    order.forEach((to, from) => assert.notEqual(to, from));
  }
});

Deno.test("phantom() gives the same bytes for the same key, in any order of calls", () => {
  const forward = [0, 1, 2, 3].map((i) => phantom(7, "train", i));
  const backward = [3, 2, 1, 0].map((i) => phantom(7, "train", i)).reverse();
  assert.deepEqual(forward, backward);
  const [first] = forward;
  for (const other of [phantom(8, "train", 0), phantom(7, "val", 0), phantom(7, "train", 1)]) {
    assert.notDeepEqual(other.image, first.image);
  }
});

Deno.test("phantom() samples every factor at its rate", () => {
  const factors = many.map((p) => p.factors);
  const lesions = factors.flatMap(({ lesion }) => lesion === null ? [] : [lesion]);
  // Bounds are the 99.9 % points of chi-square with one less degree of freedom than labels.
  assert.ok(chiSquare(factors.map((f) => f.modality), MODALITIES) < 24.3);
  assert.ok(chiSquare(factors.map((f) => f.shape), SHAPES) < 16.3);
  assert.ok(chiSquare(lesions.map((l) => l.quadrant), QUADRANTS) < 16.3);
  assert.ok(chiSquare<string>(lesions.map((l) => l.size), ["small", "large"]) < 10.8);
  assert.ok(chiSquare<string>(lesions.map((l) => l.tone), ["bright", "dark"]) < 10.8);
  assert.ok(Math.abs(lesions.length / many.length - 0.6) < 0.04);
  LESION_COUNT_RATES.forEach((rate, k) => {
    const share = lesions.filter((l) => l.count === k + 1).length / lesions.length;
    assert.ok(Math.abs(share - rate) < 0.05, `${k + 1} lesions: ${share}, meant ${rate}`);
  });
  // Two factors at once: modality against lesion, which nothing may tie together.
  const pairs = many.map(({ factors: f }) => `${f.modality} ${f.lesion?.tone ?? "healthy"}`);
  for (const m of MODALITIES) {
    const own = pairs.filter((pair) => pair.startsWith(`${m} `));
    const healthy = own.filter((pair) => pair.endsWith("healthy")).length / own.length;
    assert.ok(Math.abs(healthy - 0.4) < 0.12, `${m}: ${healthy} healthy`);
  }
});

for (const size of [32, 48, 64]) {
  Deno.test(`phantom() draws what the factors say at ${size} pixels`, () => {
    for (let i = 0; i < 200; i++) checkMasks(phantom(2, "train", i, { size }));
  });
}

function checkMasks(p: Phantom) {
  const { size, factors: { lesion }, anatomy } = p;
  const where = `${p.caption} (index ${p.index})`;
  assert.equal(p.image.length, size * size * 3);
  assert.ok(p.image.every((x) => x >= -1 && x <= 1), where);
  const organ = p.organMask.reduce((a, b) => a + b, 0) / (size * size);
  assert.ok(organ > 0.15 && organ < 0.45, `${where}: organ covers ${organ}`);
  const pixels = [...p.lesionMask.keys()].filter((i) => p.lesionMask[i] === 1);
  if (lesion === null) return assert.equal(pixels.length, 0, where);
  const right = pixels.filter((i) => i % size >= size / 2).length;
  const lower = pixels.filter((i) => i >= size * size / 2).length;
  const quadrant = QUADRANTS.indexOf(lesion.quadrant);
  assert.equal(right, quadrant % 2 === 1 ? pixels.length : 0, where);
  assert.equal(lower, quadrant >= 2 ? pixels.length : 0, where);
  assert.equal(islands(p.lesionMask, size), lesion.count, where);
  const inside = pixels.filter((i) => p.organMask[i] === 1).length;
  assert.ok(inside > 0.5 * pixels.length, `${where}: ${inside} of ${pixels.length} in the organ`);
  // Large ones have at least the area that small ones never reach, whatever their number.
  const area = Math.PI * anatomy.lesions.reduce((sum, s) => sum + s.radius ** 2, 0) / lesion.count;
  const border = [0.048, 0.036, 0.03][lesion.count - 1];
  assert.ok(lesion.size === "small" ? area < border : area > border, `${where}: area ${area}`);
}

/** Number of 4-connected parts of a mask. */
function islands(mask: Uint8Array, size: number): number {
  const left = Uint8Array.from(mask);
  let count = 0;
  for (let start = 0; start < left.length; start++) {
    if (left[start] === 0) continue;
    count++;
    const stack = [start];
    while (stack.length > 0) {
      const i = stack.pop()!;
      if (left[i] === 0) continue;
      left[i] = 0;
      if (i % size > 0) stack.push(i - 1);
      if (i % size < size - 1) stack.push(i + 1);
      if (i >= size) stack.push(i - size);
      if (i < size * (size - 1)) stack.push(i + size);
    }
  }
  return count;
}

Deno.test("withoutLesion() changes the image at the lesion and nowhere else", () => {
  for (const disguise of [0, 1]) {
    for (let i = 0; i < 120; i++) {
      const p = phantom(3, "train", i, { disguise });
      const twin = withoutLesion(p);
      assert.equal(twin.factors.lesion, null);
      assert.ok(twin.lesionMask.every((x) => x === 0));
      assert.deepEqual(twin.organMask, p.organMask);
      const near = dilated(p.lesionMask, p.size);
      for (let j = 0; j < p.image.length; j++) {
        if (near[Math.floor(j / 3)] === 0) assert.equal(p.image[j], twin.image[j], p.caption);
      }
    }
  }
});

function dilated(mask: Uint8Array, size: number): Uint8Array {
  return mask.map((_, i) => {
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        const row = Math.floor(i / size) + dy, column = i % size + dx;
        const within = row >= 0 && row < size && column >= 0 && column < size;
        if (within && mask[row * size + column] === 1) return 1;
      }
    }
    return 0;
  });
}

Deno.test("phantom() makes lesions brighter or darker as their tone says, in every modality", () => {
  for (const modality of MODALITIES) {
    for (let i = 0; i < 40; i++) {
      const p = inModality(phantom(4, "train", i), modality);
      if (p.factors.lesion === null) continue;
      const twin = withoutLesion(p);
      let change = 0, pixels = 0;
      for (let j = 0; j < p.image.length; j++) {
        if (p.lesionMask[Math.floor(j / 3)] === 0) continue;
        change += p.image[j] - twin.image[j];
        pixels++;
      }
      change /= pixels;
      if (p.factors.lesion.tone === "dark") change = -change;
      assert.ok(change > 0.15, `${p.caption} (index ${i}): stands out by ${change}`);
    }
  }
});

Deno.test("inModality() keeps the case and can be undone", () => {
  const p = phantom(5, "train", 0);
  const other = inModality(p, p.factors.modality === "us" ? "ct" : "us");
  assert.notDeepEqual(other.image, p.image);
  assert.deepEqual(other.lesionMask, p.lesionMask);
  assert.deepEqual(other.organMask, p.organMask);
  assert.deepEqual({ ...other.factors, modality: p.factors.modality }, p.factors);
  assert.deepEqual(inModality(other, p.factors.modality), p);
});

Deno.test("phantom() speaks only words of PHANTOM_WORDS and answers as QUESTIONS lists", () => {
  const words = new Set(PHANTOM_WORDS);
  assert.equal(words.size, PHANTOM_WORDS.length);
  for (const p of many) {
    assert.equal(p.caption, captionOf(p.factors));
    for (const { name, question, answer } of p.questions) {
      for (const word of `${p.caption} ${question} ${answer}`.split(" ")) {
        assert.ok(words.has(word));
      }
      const known = QUESTIONS.find((q) => q.name === name);
      assert.equal(known?.question, question);
      assert.ok(known?.answers.includes(answer), `${name}: ${answer}`);
    }
    const names = p.questions.map(({ name }) => name);
    const always = ["modality", "shape", "lesion", "count"];
    const all = QUESTIONS.map(({ name }) => name);
    assert.deepEqual(names, all.filter((n) => p.factors.lesion !== null || always.includes(n)));
  }
});

Deno.test("QUESTIONS states the share of the most frequent answer as chance", () => {
  for (const { name, chance } of QUESTIONS) {
    const answers = many.flatMap((p) => p.questions.filter((q) => q.name === name));
    const shares = new Map<string, number>();
    for (const { answer } of answers) {
      shares.set(answer, (shares.get(answer) ?? 0) + 1 / answers.length);
    }
    const top = Math.max(...shares.values());
    assert.ok(Math.abs(top - chance) < 0.05, `${name}: ${top}, stated ${chance}`);
  }
});

Deno.test("phantom() in grey has equal channels, and lesions vanish at amplitude 0", () => {
  for (let i = 0; i < 20; i++) {
    const { image } = phantom(6, "train", i, { grey: true, disguise: 0.5 });
    for (let j = 0; j < image.length; j += 3) {
      assert.ok(image[j] === image[j + 1] && image[j] === image[j + 2]);
    }
    const faint = phantom(6, "train", i, { lesionAmplitude: 0 });
    assert.deepEqual(faint.image, withoutLesion(faint).image);
  }
});

Deno.test("bytesOf() is exact on phantoms and planesOf() puts channels first", () => {
  const { image } = phantom(0, "train", 0);
  const bytes = bytesOf(image);
  assert.deepEqual(Float32Array.from(bytes, (b) => b / 127.5 - 1), image);
  const planes = planesOf(image);
  for (const i of [0, 1, 500, 1023]) {
    for (let c = 0; c < 3; c++) assert.equal(planes[c * 1024 + i], image[3 * i + c]);
  }
});

Deno.test("phantom() refuses what it cannot make", () => {
  const cases: [() => unknown, RegExp][] = [
    [() => phantom(0, "train", -1), /key part -1 is not whole/],
    [() => phantom(0.5, "train", 0), /key part 0.5 is not whole/],
    [() => phantom(0, "train", 0, { size: 8 }), /Cannot make a phantom: size is 8/],
    [() => phantom(0, "train", 0, { lesionAmplitude: 2 }), /lesionAmplitude is 2/],
    [() => phantom(0, "train", 0, { lesionRate: NaN }), /lesionRate is NaN/],
    [() => phantom(0, "train", 0, { disguise: -1 }), /disguise is -1/],
    [() => phantom(0, "train", 0, { lesionCounts: [1, 0] }), /lesionCounts is \[1,0\]/],
  ];
  for (const [make, message] of cases) {
    assert.throws(make, (error) => error instanceof InputError && message.test(error.message));
  }
});
