import assert from "node:assert/strict";
import sharp, { type Sharp } from "sharp";
import { readDicomFrame } from "../../lib/data/dicom.ts";
import { UsageError } from "../../lib/errors.ts";
import {
  ALLOCATED,
  BYTE,
  bytes,
  CENTER,
  COLOR,
  dicomFile,
  FRAMES,
  greys,
  HIGH,
  imageParts,
  INTERCEPT,
  join,
  MODALITY,
  type Part,
  PHOTOMETRIC,
  PLANAR,
  RAMP,
  ramp,
  read,
  refusal,
  rleFrame,
  ROOT,
  SAMPLES,
  SHAPE,
  SIGNED,
  SLOPE,
  STORED,
  WIDTH,
  words,
} from "./dicom_files.ts";

Deno.test("readDicomFrame() takes the stored bits alone, signed or not", async () => {
  const values = async (more: Record<number, number[]>, pixels: Uint8Array, count: number) => {
    const { samples } = await readDicomFrame(dicomFile(imageParts(1, count, pixels, more)), "x");
    return [...samples];
  };
  const twelve = { [STORED]: [12], [HIGH]: [11] };
  assert.deepEqual(await values(twelve, words([0xf123, 0x0fff]), 2), [0x123, 0xfff]);
  assert.deepEqual(
    await values({ ...twelve, [SIGNED]: [1] }, words([0x0fff, 0xf7ff]), 2),
    [-1, 2047],
  );
  const high = { [STORED]: [12], [HIGH]: [15], [SIGNED]: [1] };
  assert.deepEqual(await values(high, words([0x7fff, 0x8000]), 2), [2047, -2048]);
  assert.deepEqual(await values({ [SIGNED]: [1] }, words([-5, 5]), 2), [-5, 5]);
  assert.deepEqual(await values({ ...BYTE, [SIGNED]: [1] }, bytes(255, 127), 2), [-1, 127]);
  assert.deepEqual(await values(BYTE, bytes(255, 127, 9, 0), 3), [255, 127, 9]);
  const wide = { [ALLOCATED]: [32], [STORED]: [32], [HIGH]: [31] };
  assert.deepEqual(await values(wide, words([1, 2, 0, 0xffff]), 2), [0x20001, 0xffff0000]);
  const bit = { [ALLOCATED]: [1], [STORED]: [1], [HIGH]: [0] };
  assert.deepEqual(
    await values(bit, bytes(0b01001101, 0b1), 9),
    [1, 0, 1, 1, 0, 0, 1, 0, 1],
  );
  const big = dicomFile(imageParts(1, 4, bytes(2, 1, 4, 3), BYTE), { syntax: `${ROOT}.2` });
  assert.deepEqual([...(await readDicomFrame(big, "x")).samples], [1, 2, 3, 4]);
});

Deno.test("readPicture() windows by option, file, percentiles; inverts MONOCHROME1", async () => {
  const byHand = (center: number, width: number, value: (v: number) => number = (v) => v) =>
    RAMP.map((v) =>
      Math.round(255 * Math.min(1, Math.max(0, (value(v) - center + width / 2) / width)))
    );
  assert.deepEqual(await greys(ramp(), { window: "350/500" }), byHand(350, 500));
  assert.deepEqual(await greys(ramp(), { window: { center: 10, width: 20 } }), byHand(10, 20));
  assert.deepEqual(await greys(ramp(), { window: "full" }), byHand(350, 700));
  const ct = { [MODALITY]: "CT", [SLOPE]: "2", [INTERCEPT]: "-1024" };
  assert.deepEqual(
    await greys(ramp(ct), { window: "Lung" }),
    byHand(-600, 1500, (v) => 2 * v - 1024),
  );
  const own = { [CENTER]: "300\\40", [WIDTH]: "201\\400 " };
  const linear = RAMP.map((v) => {
    const t = (v - 299.5) / 200 + 0.5;
    return Math.round(255 * Math.min(1, Math.max(0, t)));
  });
  assert.deepEqual(await greys(ramp(own)), linear);
  assert.deepEqual((await read(ramp(own), { window: "auto" })).window?.from, "percentiles");
  assert.deepEqual(await greys(ramp({ ...own, [SHAPE]: "LINEAR_EXACT" })), byHand(300, 201));
  assert.deepEqual(
    await greys(ramp({ ...own, [SHAPE]: "SIGMOID" })),
    RAMP.map((v) => Math.round(255 / (1 + Math.exp(-4 * (v - 300) / 201)))),
  );
  assert.deepEqual(
    await greys(ramp({ ...own, [PHOTOMETRIC]: "MONOCHROME1" })),
    linear.map((v) => 255 - v),
  );
  // Padding does not count for percentiles, and 8 bits without window are shown as they are.
  assert.deepEqual(
    (await read(ramp({ 0x00280120: [0] }))).window,
    { center: 400, width: 600, shape: "LINEAR_EXACT", from: "percentiles" },
  );
  assert.deepEqual(await greys(dicomFile(imageParts(1, 2, bytes(7, 99), BYTE))), [7, 99]);
  const flat = await read(dicomFile(imageParts(1, 2, words([5, 5]))));
  assert.deepEqual([flat.data[0], flat.notes], [0, ["all values are equal: shown black"]]);
});

Deno.test("readPicture() refuses presets and windows where they mean nothing", async () => {
  const usage = (file: Uint8Array, options: object) =>
    assert.rejects(read(file, options), UsageError);
  await usage(ramp(), { window: "lung" });
  await usage(ramp(), { window: "lungs" });
  await usage(ramp(), { window: "40/0" });
  await usage(dicomFile(imageParts(1, 1, bytes(1, 2, 3, 0), COLOR)), { window: "40/400" });
  await usage(ramp(), { frame: 1 });
  await usage(ramp(), { slice: 1 });
});

Deno.test("readPicture() goes through the tables of modality and VOI", async () => {
  const table = (first: number, bits: number, entries: number[]) => ({
    items: [[
      [0x00283002, "US", [entries.length, first, bits]],
      [0x00283006, "US", entries],
    ] as Part[]],
  });
  const pixels = words([0, 1, 2, 9]);
  const voi = dicomFile(imageParts(1, 4, pixels, { 0x00283010: table(1, 8, [10, 20, 30]) }));
  assert.deepEqual(await greys(voi), [10, 10, 20, 30]);
  const modality = imageParts(1, 4, pixels, { 0x00283000: table(0, 16, [0, 51, 102, 255]) });
  assert.deepEqual(await greys(dicomFile(modality), { window: "full" }), [0, 51, 102, 255]);
});

Deno.test("readPicture() finds windows and scale of enhanced files in their groups", async () => {
  const transform = (intercept: string, slope = "1"): Part => [0x00289145, "SQ", {
    items: [[[0x00281052, "DS", intercept], [0x00281053, "DS", slope]]],
  }];
  const window: Part = [0x00289132, "SQ", {
    items: [[[0x00281050, "DS", "350"], [0x00281051, "DS", "700"], [
      0x00281056,
      "CS",
      "LINEAR_EXACT",
    ]]],
  }];
  const file = dicomFile(imageParts(1, 2, words([0, 700, 0, 350]), {
    [FRAMES]: "2",
    0x52009229: { items: [[window]] },
    0x52009230: { items: [[transform("0")], [transform("350")]] },
  }));
  assert.deepEqual(await greys(file, { frame: 0 }), [0, 255]);
  assert.deepEqual(await greys(file, { frame: 1 }), [128, 255]);
  const first = await read(file);
  assert.deepEqual(first.frame, { index: 0, count: 2 });
  assert.deepEqual(first.notes, ["first of 2 frames"]);
});

Deno.test("readPicture() converts RGB, YBR and palettes", async () => {
  const shown = async (columns: number, pixels: Uint8Array, more: object, syntax = `${ROOT}.1`) => [
    ...(await read(dicomFile(imageParts(1, columns, pixels, { ...COLOR, ...more }), { syntax })))
      .data,
  ];
  const rgb = [10, 20, 30, 40, 50, 60];
  assert.deepEqual(await shown(2, bytes(...rgb), {}), rgb);
  assert.deepEqual(await shown(2, bytes(10, 40, 20, 50, 30, 60), { [PLANAR]: [1] }), rgb);
  // PS3.3 C.7.6.3.1.2 on a reddish grey.
  const red = [100 + 1.402 * 50, 100 - 0.714136 * 50, 100].map(Math.round);
  const ybr = { [PHOTOMETRIC]: "YBR_FULL" };
  assert.deepEqual(await shown(1, bytes(100, 128, 178, 0), ybr), red);
  const half = { [PHOTOMETRIC]: "YBR_FULL_422" };
  assert.deepEqual(await shown(2, bytes(100, 90, 128, 178), half), [
    ...red,
    ...[90 + 1.402 * 50, 90 - 0.714136 * 50, 90].map(Math.round),
  ]);
  const deep = { [ALLOCATED]: [16], [STORED]: [12], [HIGH]: [11] };
  assert.deepEqual(await shown(1, words([0xfff, 0x800, 0x00f]), deep), [255, 128, 0]);

  const palette = (bits: number, entries: Uint8Array) => ({
    [SAMPLES]: [1],
    [PHOTOMETRIC]: "PALETTE COLOR",
    ...Object.fromEntries([1, 2, 3].flatMap((c) => [
      [0x00281100 + c, [3, 5, bits]],
      [0x00281200 + c, entries],
    ])),
  });
  const want = [1, 1, 2, 3, 3].flatMap((v) => [v, v, v]);
  const indices = bytes(4, 5, 6, 7, 200, 0);
  assert.deepEqual(await shown(5, indices, palette(16, words([0x1ff, 0x2ff, 0x3ff]))), want);
  assert.deepEqual(await shown(5, indices, palette(8, words([1, 2, 3]))), want);
  assert.deepEqual(await shown(5, indices, palette(8, bytes(1, 2, 3, 0))), want);
  assert.deepEqual(
    await shown(5, bytes(5, 4, 7, 6, 0, 200), palette(8, bytes(2, 1, 0, 3)), `${ROOT}.2`),
    want,
  );
  const short = imageParts(1, 5, indices, { ...COLOR, ...palette(8, bytes(1, 2)) });
  assert.match(await refusal(dicomFile(short)), /^RedPaletteData \(0028,1201\) has 2 of 3 entries/);
});

Deno.test("readPicture() unpacks RLE frames of one and more planes, and refuses damage", async () => {
  const syntax = `${ROOT}.5`;
  const plane = (shift: number) => Uint8Array.from(RAMP, (v) => v >> shift & 255);
  const frame = rleFrame([plane(8), plane(0)]);
  const file = (fragment: Uint8Array, more = {}) =>
    dicomFile(imageParts(2, 4, { fragments: [fragment] }, more), { syntax });
  assert.deepEqual((await readDicomFrame(file(frame), "x")).samples, Uint16Array.from(RAMP));
  const rgb = [bytes(1, 1), bytes(2, 3), bytes(4, 4)];
  const color = imageParts(1, 2, { fragments: [rleFrame(rgb)] }, { ...COLOR, [PLANAR]: [1] });
  assert.deepEqual([...(await read(dicomFile(color, { syntax }))).data], [1, 2, 4, 1, 3, 4]);

  assert.match(await refusal(file(frame.subarray(0, 40))), /RLE header has 40 of 64 bytes/);
  assert.match(await refusal(file(rleFrame([plane(0)]))), /it has 1 RLE segments, expected 2/);
  const early = frame.slice();
  early[4] = 60;
  assert.match(await refusal(file(early)), /RLE segment 1 lies at bytes 60 to /);
  assert.match(await refusal(file(frame.subarray(0, -4))), /RLE segment 2 has \d of 8 bytes/);
});

Deno.test("readPicture() decodes JPEG frames, also RGB that is not marked as such", async () => {
  const syntax = `${ROOT}.4.50`;
  const [width, height] = [16, 8];
  const raw = (channels: 1 | 3, shift = 0) =>
    sharp(
      Uint8Array.from({ length: width * height * channels }, (_, i) =>
        40 + shift + 8 * (i / channels % width) + 20 * (i % channels)),
      { raw: { width, height, channels } },
    );
  const jpeg = async (image: Sharp) =>
    new Uint8Array(await image.jpeg({ quality: 100, chromaSubsampling: "4:4:4" }).toBuffer());
  const file = (fragments: Uint8Array[], more: object, table?: number[]) =>
    dicomFile(
      imageParts(height, width, { fragments, ...(table ? { table } : {}) }, { ...BYTE, ...more }),
      { syntax },
    );
  const grey = await jpeg(raw(1).toColourspace("b-w"));
  const decoded = await sharp(grey).toColourspace("b-w").raw().toBuffer();
  const picture = await read(file([grey], {}));
  assert.deepEqual(await greys(file([grey], {})), [...decoded]);
  assert.match(picture.notes.join(), /JPEG Baseline \(Process 1\), with losses/);

  const color = await jpeg(raw(3));
  const ybr = { [SAMPLES]: [3], [PHOTOMETRIC]: "YBR_FULL_422" };
  const rgb = new Uint8Array(await sharp(color).raw().toBuffer());
  assert.deepEqual((await read(file([color], ybr))).data, rgb);
  // The same stream said to be RGB means its own components, unless a JFIF segment says YCbCr.
  const said = { [SAMPLES]: [3], [PHOTOMETRIC]: "RGB" };
  const jfif = [0xff, 0xe0, 0, 16, 0x4a, 0x46, 0x49, 0x46, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0];
  const marked = join(color.subarray(0, 2), jfif, color.subarray(2));
  assert.deepEqual((await read(file([marked], said))).data, rgb);
  const components = (await read(file([color], said))).data;
  const luma = (i: number) => 0.299 * rgb[i] + 0.587 * rgb[i + 1] + 0.114 * rgb[i + 2];
  for (let i = 0; i < rgb.length; i += 3) assert.ok(Math.abs(components[i] - luma(i)) < 3, `${i}`);

  // Frames: one fragment each, by the table, or by where a stream starts.
  const second = await jpeg(raw(1, 60).toColourspace("b-w"));
  const odd = (part: Uint8Array) => part.length % 2 ? join(part, [0]) : part;
  const cut = (part: Uint8Array) => [part.slice(0, 100), odd(part.slice(100))];
  const two = { [FRAMES]: "2" };
  const want = [...await sharp(second).toColourspace("b-w").raw().toBuffer()];
  const start = 16 + odd(grey).length;
  for (
    const stored of [
      file([odd(grey), odd(second)], two),
      file([...cut(grey), ...cut(second)], two),
      file([...cut(grey), ...cut(second)], two, [0, start]),
    ]
  ) assert.deepEqual(await greys(stored, { frame: 1 }), want);
  assert.match(await refusal(file(cut(grey), { [FRAMES]: "7" })), /2 fragments that do not divide/);
  assert.match(await refusal(file([grey.slice(0, -20)], {})), /Baseline \(Process 1\) pixels are /);
  assert.match(await refusal(file([color], {})), /are 16x8x3, the header says 16x8x1/);
  const twelve = grey.slice();
  twelve[grey.findIndex((v, i) => v === 0xff && grey[i + 1] === 0xc0) + 4] = 12;
  assert.match(await refusal(file([twelve], {})), /pixels have 12 bits \(transfer syntax 1\.2\./);
});
