import assert from "node:assert/strict";
import { DivergenceWatch } from "../../lib/train/guards.ts";

const options = { factor: 3, window: 20 };

Deno.test("DivergenceWatch is silent on noise and on one bad batch", () => {
  const watch = new DivergenceWatch(options);
  const losses = Array.from({ length: 60 }, (_, i) => 1 + 0.3 * Math.sin(i));
  losses[40] = 8; // the mean of five is then 2.4
  assert.deepEqual(losses.map((loss) => watch.see(loss)).filter(Boolean), []);
});

Deno.test("DivergenceWatch warns once per excursion, with both numbers", () => {
  const watch = new DivergenceWatch(options);
  const flat = (n: number, value: number) =>
    Array.from({ length: n }, () => watch.see(value)).filter((text) => text !== undefined);
  assert.equal(flat(30, 0.5).length, 0);
  const [warning, ...more] = flat(8, 4);
  assert.match(warning, /4\.\d+ times its usual 0\.500|[3-9]\.\d times its usual 0\.500/);
  assert.equal(more.length, 0);
  assert.equal(flat(30, 0.5).length, 0);
  assert.equal(flat(8, 4).length, 1, "it warns again after the loss came back");
});

Deno.test("DivergenceWatch goes on from its state as if it had never stopped", () => {
  const losses = Array.from({ length: 50 }, (_, i) => i < 30 ? 1 : 5);
  const whole = new DivergenceWatch(options);
  const said = losses.map((loss) => whole.see(loss));
  let part = new DivergenceWatch(options);
  const cut = losses.map((loss, i) => {
    if (i % 7 === 0) part = new DivergenceWatch(options, JSON.parse(JSON.stringify(part.state())));
    return part.see(loss);
  });
  assert.deepEqual(cut, said);
  assert.equal(said.filter(Boolean).length, 1);
});
