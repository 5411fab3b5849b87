import assert from "node:assert/strict";
import { fitInto } from "../../experiments/demo/data_images.ts";
import { fitDataJudge, judgeAccuracy } from "../../experiments/demo/data_judge.ts";
import { chances } from "../../experiments/demo/data_questions.ts";
import { endlessOrder } from "../../lib/data/draws.ts";
import { Draws } from "../../lib/data/draws.ts";

Deno.test("fitInto() keeps the whole image and centres it on black", () => {
  const white = (width: number, height: number) => ({
    width,
    height,
    data: new Uint8Array(width * height * 3).fill(255),
  });
  const columns = ({ data }: { data: Float32Array }) => [...data.subarray(0, 8)];
  const tall = fitInto(white(10, 20), 8);
  assert.deepEqual([tall.width, tall.height, tall.data.length], [8, 8, 192]);
  for (let row = 0; row < 24; row++) { // all rows of all planes
    assert.deepEqual([...tall.data.subarray(8 * row, 8 * row + 8)], [-1, -1, 1, 1, 1, 1, -1, -1]);
  }
  const wide = fitInto(white(90, 2), 8); // thinner than a pixel: one row is left
  assert.deepEqual(columns({ data: wide.data.subarray(24) }), Array(8).fill(1));
  assert.equal(wide.data.filter((x) => x === 1).length, 24);
  assert.ok(fitInto(white(3, 3), 8).data.every((x) => x === 1));
});

Deno.test("chances() is the accuracy of the most frequent training answer on the test questions", () => {
  const q = (name: string, answer: string) => ({ name, question: "?", answer });
  const train = [q("a", "x"), q("a", "y"), q("a", "y"), q("b", "z"), q("b", "x")];
  const test = [q("b", "z"), q("a", "y"), q("a", "x"), q("a", "y"), q("b", "z"), q("c", "x")];
  assert.deepEqual(chances(train, test), [
    { name: "b", chance: 0 }, // x and z are as frequent: the first by name is said
    { name: "a", chance: 2 / 3 },
    { name: "c", chance: 0 }, // never answered in training
  ]);
});

Deno.test("endlessOrder() gives every item once per pass, in another order each time", () => {
  const at = endlessOrder(7, 0, "test");
  const passes = [0, 1, 2].map((p) => Array.from({ length: 7 }, (_, i) => at(7 * p + i)));
  for (const pass of passes) assert.deepEqual([...pass].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assert.notDeepEqual(passes[0], passes[1]);
  assert.equal(at(3), passes[0][3]); // back to an earlier pass
  assert.equal(endlessOrder(7, 0, "test")(16), passes[2][2]);
});

Deno.test("fitDataJudge() tells flat textures apart, and is at chance on shuffled labels", () => {
  const picture = (n: number, label: number) => {
    const draws = new Draws("texture", n, label);
    const data = Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => {
      const bright = label === 0 || i < 1024 ? 0.4 : -0.4; // class 1 is red
      return bright + 0.2 * draws.normal();
    });
    return { image: { height: 32, width: 32, data }, label };
  };
  const make = (from: number) => Array.from({ length: 40 }, (_, i) => picture(from + i, i % 2));
  const [train, test] = [make(0), make(100)];
  assert.equal(judgeAccuracy(fitDataJudge(train, 2, 0), test), 1);
  const shuffled = train.map((item, i) => ({ ...item, label: Math.floor(i / 2) % 2 }));
  const share = judgeAccuracy(fitDataJudge(shuffled, 2, 0), test);
  assert.ok(share >= 0.2 && share <= 0.8, `${share}`);
  const judge = fitDataJudge(train, 2, 0);
  const glaring = { ...test[1].image, data: test[1].image.data.map((x) => 50 * x) };
  assert.ok([0, 1].includes(judge(glaring)));
  assert.throws(() => fitDataJudge(train, 3, 0), /class 2 has no example/);
});
