import assert from "node:assert/strict";
import { figureCsv } from "../../lib/show/export.ts";
import { plain } from "../../lib/show/figure.ts";
import { profileFigure } from "../../lib/show/profile_figure.ts";
import { type ProfileRow, profileTable, rateText } from "../../lib/show/profile_table.ts";
import { renderSvg } from "../../lib/show/render.ts";

const ROWS: ProfileRow[] = [
  {
    label: "matmul_<a>",
    calls: 30,
    milliseconds: 1234.56,
    firstMilliseconds: 200,
    gflops: 23.45,
    gbps: 0.01234,
    share: 0.75,
  },
  {
    label: "copy",
    calls: 7,
    milliseconds: 400,
    firstMilliseconds: 0,
    gflops: null,
    gbps: 9.5,
    share: 0.243,
  },
  {
    label: "clear",
    calls: 1,
    milliseconds: 11.5,
    firstMilliseconds: 0,
    gflops: null,
    gbps: null,
    share: 0.007,
  },
];

Deno.test("profileTable() aligns label, calls, ms, rates and share under what must be known", () => {
  assert.deepEqual(profileTable(ROWS, { adapter: "a device", seconds: 2.5 }).split("\n"), [
    "profile: 38 commands, 1.65 s of 2.50 s on a device",
    "Timed one by one, a pass per dispatch: slower than without a profile. A pipeline's first run may compile it;",
    "GFLOP/s and GB/s are those of the other runs.",
    "kernel      calls      ms  first runs  GFLOP/s    GB/s   share",
    "matmul_<a>     30  1234.6       200.0     23.4  0.0123  75.0 %",
    "copy            7   400.0         0.0        –    9.50  24.3 %",
    "clear           1    11.5         0.0        –       –   0.7 %",
  ]);
  assert.match(
    profileTable([], { adapter: "a device" }),
    /^profile: 0 commands, 0\.00 s on a device\n/,
  );
});

Deno.test("rateText() shows three digits, and a dash for what is not known", () => {
  assert.deepEqual([0.012345, 1.2345, 99.96, 1234.5, null].map(rateText), [
    "0.0123",
    "1.23",
    "100",
    "1235",
    "–",
  ]);
});

Deno.test("profileFigure() draws a bar per kernel, the slowest on top, rates beside and on hover", async () => {
  const figure = profileFigure(ROWS);
  const [bars] = figure.data;
  assert.deepEqual(bars.x, [1234.56, 400, 11.5]);
  assert.deepEqual(bars.y, [2, 1, 0]);
  const ticks = figure.layout.yaxis as { ticktext: string[]; tickvals: number[] };
  assert.deepEqual(ticks.ticktext.map(plain), ["matmul_<a>", "copy", "clear"]);
  assert.deepEqual(ticks.tickvals, [2, 1, 0]);
  const texts = (figure.layout.annotations as { text: string }[]).map(({ text }) => text);
  for (const text of ["75.0 %, 23.4 GFLOP/s, 0.0123 GB/s", "24.3 %, 9.50 GB/s", "0.7 %"]) {
    assert.ok(texts.includes(text), `${text} is not among ${texts.join("; ")}`);
  }
  assert.equal(
    (bars.hovertext as string[]).map(plain)[0],
    "matmul_<a> 30 calls, 1234.6 ms 75.0 %, 23.4 GFLOP/s, 0.0123 GB/s",
  );
  assert.match(
    figure.caption,
    /^38 commands of 3 kernels, 1646\.1 ms on the device: matmul_<a> 75\.0 %/,
  );
  assert.match(figureCsv(figure), /\nTime by kernel,device time,copy,400,1,/);
  const svg = await renderSvg(figure);
  assert.equal(svg.match(/<path[^>]*style="[^"]*fill: rgb\(0, 114, 178\)/g)?.length, 3);
});

Deno.test("profileFigure() joins what is beyond twenty bars", () => {
  const many = Array.from(
    { length: 30 },
    (_, i) => ({ ...ROWS[1], label: `k${i}`, share: 1 / 30 }),
  );
  const [bars] = profileFigure(many).data;
  assert.equal(bars.x?.length, 20);
  assert.deepEqual([bars.text?.[19], bars.x?.[19]], ["11 others", 11 * 400]);
  assert.throws(() => profileFigure([]), {
    name: "RangeError",
    message: "Cannot draw a profile without a single kernel",
  });
});
