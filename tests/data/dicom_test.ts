import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { deflateRawSync } from "node:zlib";
import sharp, { type Sharp } from "sharp";
import { readDicomFrame } from "../../lib/data/dicom.ts";
import { Draws } from "../../lib/data/draws.ts";
import { readPicture } from "../../lib/data/picture.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { dicomFile, imageParts, join, type Part, rleFrame, ROOT, words } from "./dicom_files.ts";

const FORMATS = fileURLToPath(new URL("../../../shared/data/formats/", import.meta.url));
const hasFormats = existsSync(FORMATS);
const withFormats = (name: string, fn: () => Promise<void>) =>
  Deno.test({
    name: hasFormats ? name : `${name} (skipped: ../shared/data/formats is absent)`,
    ignore: !hasFormats,
    fn,
  });

const read = (file: Uint8Array, options = {}) => readPicture(file, { name: "x.dcm", ...options });

/** The red channel of the picture, which is that of grey. */
const greys = async (file: Uint8Array, options = {}) =>
  [...(await read(file, options)).data].filter((_, i) => i % 3 === 0);

async function refusal(file: Uint8Array, options = {}): Promise<string> {
  try {
    await read(file, options);
  } catch (error) {
    assert.ok(error instanceof InputError && error.help, `${error}`);
    return error.message.replace("Cannot read picture x.dcm: ", "");
  }
  return "accepted";
}

const [SAMPLES, PHOTOMETRIC, PLANAR, FRAMES] = [0x00280002, 0x00280004, 0x00280006, 0x00280008];
const [ALLOCATED, STORED, HIGH, SIGNED] = [0x00280100, 0x00280101, 0x00280102, 0x00280103];
const [CENTER, WIDTH, INTERCEPT, SLOPE, SHAPE] = [
  0x00281050,
  0x00281051,
  0x00281052,
  0x00281053,
  0x00281056,
];
const MODALITY = 0x00080060;
const BYTE = { [ALLOCATED]: [8], [STORED]: [8], [HIGH]: [7] };
const COLOR = { ...BYTE, [SAMPLES]: [3], [PHOTOMETRIC]: "RGB" };
const bytes = (...values: number[]) => Uint8Array.from(values);

/** A ramp of 2 x 4 pixels. */
const RAMP = [0, 100, 200, 300, 400, 500, 600, 700];
const ramp = (more = {}) => dicomFile(imageParts(2, 4, words(RAMP), more));

withFormats("readDicomFrame() finds the recorded pixels of every readable file", async () => {
  const expected = JSON.parse(await Deno.readTextFile(`${FORMATS}expected.json`));
  let compared = 0;
  for (const [file, want] of Object.entries<Record<string, unknown>>(expected)) {
    if (!file.endsWith(".dcm") || want.sum === undefined || /j2k/.test(file)) continue;
    const { samples, layout, modality, window, scale } = await readDicomFrame(
      await Deno.readFile(FORMATS + file),
      file,
    );
    assert.deepEqual(
      {
        sum: [...samples].reduce((a, b) => a + b, 0),
        first8: [...samples.slice(0, 8)],
        last4: [...samples.slice(-4)],
        shape: [layout.rows, layout.columns, ...(layout.samples > 1 ? [3] : [])],
        stored: layout.bitsStored,
        photometric: layout.photometric,
        modality,
        window: [window?.center, window?.width],
        scale: [scale.slope, scale.intercept],
      },
      {
        sum: want.sum,
        first8: want.first8,
        last4: want.last4,
        shape: want.shape,
        stored: want.BitsStored,
        photometric: want.PhotometricInterpretation,
        modality: want.modality,
        window: [want.WindowCenter, want.WindowWidth],
        scale: [want.RescaleSlope ?? 1, want.RescaleIntercept ?? 0],
      },
      file,
    );
    compared++;
  }
  assert.equal(compared, 8);
});

withFormats("readPicture() shows one image alike in four transfer syntaxes", async () => {
  const [first, ...others] = await Promise.all(
    ["explicit_le_16bit", "explicit_be", "implicit_le", "rle"].map((name) =>
      readPicture(`${FORMATS}mr_small_${name}.dcm`)
    ),
  );
  // LINEAR of PS3.3 C.11.2.1.2.1 on the first recorded values, window 600/1600.
  const linear = (x: number) => Math.round(((x - 599.5) / 1599 + 0.5) * 255);
  assert.deepEqual(
    [...first.data.slice(0, 24)].filter((_, i) => i % 3 === 0),
    [905, 1019, 1227, 1259, 761, 404, 639, 914].map(linear),
  );
  assert.deepEqual(first.window, { center: 600, width: 1600, shape: "LINEAR", from: "file" });
  for (const other of others) assert.deepEqual(other.data, first.data);
});

withFormats("readPicture() reads a data set without meta header", async () => {
  const plain = await readPicture(`${FORMATS}ct_small_explicit_le_16bit.dcm`);
  const bare = await readPicture(`${FORMATS}ct_small_no_meta.dcm`);
  assert.deepEqual(bare.data, plain.data);
  assert.match(bare.notes.join(), /stray .*no transfer syntax in the file: taken as Explicit VR L/);
});

withFormats("readPicture() names unsupported syntaxes and what is cut off", async () => {
  const message = async (file: string) => await refusal(await Deno.readFile(FORMATS + file));
  assert.equal(
    await message("mr_small_j2k_lossless.dcm"),
    "its transfer syntax is 1.2.840.10008.1.2.4.90 (JPEG 2000 Lossless), which is not read",
  );
  assert.match(await message("mr_small_jpegls.dcm"), /1\.2\.840\.10008\.1\.2\.4\.80 \(JPEG-LS Los/);
  assert.match(
    await message("mr_truncated.dcm"),
    /^PixelData \(7FE0,0010\) has 8130 bytes in the file of 8192 declared; 64x64x1 samples of 16 /,
  );
});

Deno.test("readPicture() tells how to convert each syntax that is not read", async () => {
  const helps: Record<string, RegExp> = {
    ".4.70": /dcmdjpeg/,
    ".4.57": /dcmdjpeg/,
    ".4.81": /dcmdjpls/,
    ".4.91": /gdcmconv/,
    ".4.102": /viewer/,
    ".4.777": /gdcmconv/,
  };
  for (const [end, help] of Object.entries(helps)) {
    const file = dicomFile(imageParts(2, 4, { fragments: [bytes(1, 2)] }), { syntax: ROOT + end });
    const error = await read(file).then(() => assert.fail(end), (thrown) => thrown);
    assert.ok(error instanceof InputError);
    assert.match(error.message, new RegExp(`transfer syntax is ${ROOT + end} \\(`));
    assert.match(error.help!, help);
  }
  assert.match(await refusal(dicomFile([], { syntax: "DOE^JANE" })), /is not an identifier \(unkn/);
});

Deno.test("readPicture() reads data sets of every plain syntax, with and without preamble", async () => {
  const want = await greys(ramp());
  assert.equal(want.at(-1), 255);
  const [little, big] = [imageParts(2, 4, words(RAMP)), imageParts(2, 4, words(RAMP, true))];
  for (
    const file of [
      dicomFile(little, { syntax: ROOT }),
      dicomFile(big, { syntax: `${ROOT}.2` }),
      dicomFile(little, { preamble: false }),
      dicomFile(little, { preamble: false, meta: false }),
      dicomFile(little, { preamble: false, meta: false, as: "implicit" }),
      dicomFile(big, { preamble: false, meta: false, as: "big" }),
      dicomFile(little, { meta: false }),
    ]
  ) assert.deepEqual(await greys(file), want);
  const head = dicomFile([], { syntax: `${ROOT}.1.99` });
  const rest = dicomFile(little, { preamble: false, meta: false });
  assert.deepEqual(await greys(join(head, deflateRawSync(rest))), want);
  assert.match(await refusal(join(head, [1, 2, 3, 4])), /its data set does not inflate/);
  // A 64-bit type before the pixels: the parser alone takes its length for 0.
  const offsets: Part = [0x7fe00001, "OV", bytes(0, 0, 0, 0, 0, 0, 0, 0)];
  assert.deepEqual(await greys(dicomFile([...little.slice(0, -1), offsets, little.at(-1)!])), want);
});

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

/** A person in every place of a data set that may hold one. */
const PLANTED: Part[] = [
  [0x00080020, "DA", "19010203"],
  [0x00080050, "SH", "PLANTED-ACC"],
  [0x00080090, "PN", "PLANTED^DOCTOR"],
  [0x00100010, "PN", "PLANTED^PATIENT"],
  [0x00100020, "LO", "PLANTED-ID"],
  [0x00100030, "DA", "19010203"],
];
const LEAK = /PLANTED|1901/;

Deno.test("readPicture() refuses impossible headers by element, and names no person", async () => {
  const cases: [RegExp, Record<number, number[] | string | Uint8Array | undefined>][] = [
    [/^Rows \(0028,0010\) is 0/, { 0x00280010: [0] }],
    [/^Columns \(0028,0011\) is 0/, { 0x00280011: [0] }],
    [/^Rows \(0028,0010\) is missing/, { 0x00280010: undefined }],
    [/^Rows \(0028,0010\) makes 65535x65535 pixels/, { 0x00280010: [65535], 0x00280011: [65535] }],
    [/^BitsAllocated \(0028,0100\) is 7, expected/, { [ALLOCATED]: [7] }],
    [/^BitsStored \(0028,0101\) is 17 of 16/, { [STORED]: [17] }],
    [/^HighBit \(0028,0102\) is 3 with 16/, { [HIGH]: [3] }],
    [/^PixelRepresentation \(0028,0103\) is 2/, { [SIGNED]: [2] }],
    [/^SamplesPerPixel \(0028,0002\) is 2/, { [SAMPLES]: [2] }],
    [/^PhotometricInterpretation \(0028,0004\) is none of/, { [PHOTOMETRIC]: "PLANTED" }],
    [/^PhotometricInterpretation \(0028,0004\) is not a code/, { [PHOTOMETRIC]: "PLANTED^P" }],
    [/^PhotometricInterpretation \(0028,0004\) is RGB with 1/, { [PHOTOMETRIC]: "RGB" }],
    [/^NumberOfFrames \(0028,0008\) is not a whole/, { [FRAMES]: "0" }],
    [/^NumberOfFrames \(0028,0008\) is not a finite/, { [FRAMES]: "PLANTED" }],
    [/^RescaleSlope \(0028,1053\) is not a finite/, { [SLOPE]: "PLANTED" }],
    [/^RescaleSlope \(0028,1053\) is not a finite/, { [SLOPE]: "1e999" }],
    [/^RescaleSlope \(0028,1053\) is 0/, { [SLOPE]: "0" }],
    [/^WindowWidth \(0028,1051\) is -5/, { [CENTER]: "1", [WIDTH]: "-5" }],
    [/^WindowWidth \(0028,1051\) is missing/, { [CENTER]: "1" }],
    [/^WindowCenter \(0028,1050\) is not a finite/, { [CENTER]: "NaN", [WIDTH]: "5" }],
    [/^VoiLutFunction \(0028,1056\) is not LINEAR/, {
      [CENTER]: "1",
      [WIDTH]: "5",
      [SHAPE]: "PLANTED",
    }],
    [/^PixelData \(7FE0,0010\) has 16 bytes in the file; 2 frames of 4x2x1/, { [FRAMES]: "2" }],
    [/^PixelData \(7FE0,0010\) has 16 bytes in the file; 4x2x1 samples of 8/, BYTE],
    [/^PixelData \(7FE0,0010\) is missing: the file has no picture/, { 0x7fe00010: undefined }],
  ];
  for (const [message, more] of cases) {
    const pixels = "7fe00010" in more ? undefined : words(RAMP);
    const parts = imageParts(2, 4, pixels ?? words(RAMP), more)
      .filter(([tag]) => !(tag === 0x7fe00010 && 0x7fe00010 in more));
    const file = dicomFile([...PLANTED, ...parts].sort(([a], [b]) => a - b));
    const error = await read(file).then(() => assert.fail(`${message}`), (thrown) => thrown);
    assert.ok(error instanceof InputError && error.help, `${error}`);
    assert.match(error.message.replace("Cannot read picture x.dcm: ", ""), message);
    assert.doesNotMatch(Deno.inspect(error, { depth: 20 }), LEAK);
  }
  // A wrong window of the file does not matter to one who brings his own.
  assert.equal((await greys(ramp({ [CENTER]: "x" }), { window: "0/10" })).at(-1), 255);
});

Deno.test("readPicture() tells nothing about the patient", async () => {
  const person = [...PLANTED, ...imageParts(2, 4, words(RAMP), { [MODALITY]: "PLANTED" })];
  const { data, ...told } = await read(dicomFile(person.sort(([a], [b]) => a - b)));
  assert.equal(data.length, 24);
  assert.doesNotMatch(Deno.inspect(told, { depth: 20 }), LEAK);
  const frame = await readDicomFrame(dicomFile(person), "x.dcm");
  assert.doesNotMatch(Deno.inspect(frame, { depth: 20 }), LEAK);
});

Deno.test("readPicture() ends 200 mutants of each kind of DICOM file in a picture or an InputError", async () => {
  const syntax = `${ROOT}.5`;
  const plane = (shift: number) => Uint8Array.from(RAMP, (v) => v >> shift & 255);
  const all = (pixels: Parameters<typeof imageParts>[2]) =>
    [
      ...PLANTED,
      ...imageParts(2, 4, pixels, {
        [CENTER]: "40",
        [WIDTH]: "400",
        0x00283010: { items: [[[0x00283002, "US", [1, 0, 8]], [0x00283006, "US", [9]]]] },
      }),
    ].sort(([a], [b]) => a - b);
  const jpeg = new Uint8Array(
    await sharp(new Uint8Array(8), { raw: { width: 4, height: 2, channels: 1 } })
      .toColourspace("b-w").jpeg().toBuffer(),
  );
  const files = [
    dicomFile(all(words(RAMP))),
    dicomFile(all(words(RAMP)), { syntax: ROOT }),
    dicomFile(all(words(RAMP, true)), { syntax: `${ROOT}.2` }),
    dicomFile(all({ fragments: [rleFrame([plane(8), plane(0)])] }), { syntax }),
    dicomFile(
      imageParts(2, 4, { fragments: [jpeg] }, BYTE),
      { syntax: `${ROOT}.4.50` },
    ),
  ];
  const draws = new Draws("mutants of DICOM", 7);
  const random = (n: number) => draws.below(n);
  for (const [kind, whole] of files.entries()) {
    let refused = 0;
    for (let i = 0; i < 200; i++) {
      const file = whole.slice(0, random(4) ? undefined : random(whole.length));
      for (let flips = random(4); flips >= 0; flips--) {
        // Not the free bytes of the preamble.
        if (file.length > 128) file[128 + random(file.length - 128)] = random(256);
      }
      try {
        await read(file);
      } catch (error) {
        assert.ok(error instanceof InputError, `kind ${kind}, mutant ${i}: ${error}`);
        assert.doesNotMatch(Deno.inspect(error, { depth: 20 }), LEAK);
        refused++;
      }
    }
    assert.ok(refused > 50 && refused < 190, `kind ${kind}: ${refused} of 200 refused`);
  }
});
