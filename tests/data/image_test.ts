import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sharp, { type Sharp } from "sharp";
import { stretch16, toRgb } from "../../lib/data/color.ts";
import { encodePng, readImage } from "../../lib/data/image.ts";
import { InputError } from "../../lib/errors.ts";
import { insertChunk } from "./png_chunks.ts";

const FORMATS = fileURLToPath(new URL("../../../shared/data/formats", import.meta.url));
const hasFormats = existsSync(FORMATS);

const [WIDTH, HEIGHT] = [5, 4];
const noise = (channels: number) =>
  Uint8Array.from({ length: WIDTH * HEIGHT * channels }, (_, i) => i * 89 % 256);
const raw = (channels: 1 | 2 | 3 | 4) =>
  sharp(noise(channels), { raw: { width: WIDTH, height: HEIGHT, channels } });
const bytes = async (image: Sharp) => new Uint8Array(await image.toBuffer());

/** The noise image as the colour rule converts it; that rule is checked against recordings. */
const expand = (channels: number) =>
  toRgb({ width: WIDTH, height: HEIGHT, data: noise(channels) }, channels === 2 ? "drop" : "white")
    .data;

async function refusal(source: string | Uint8Array): Promise<string> {
  try {
    await readImage(source, typeof source === "string" ? source : "x.png");
  } catch (error) {
    assert.ok(error instanceof InputError, `${error}`);
    assert.ok(error.help);
    return error.message;
  }
  return "accepted";
}

/** A TIFF of 2x2 grey pixels in f32. */
function floatTiff(): Uint8Array {
  const tags = [[256, 2], [257, 2], [258, 32], [259, 1], [262, 1], [273, 134], [277, 1], [278, 2]];
  tags.push([279, 16], [339, 3]);
  const view = new DataView(new ArrayBuffer(150));
  view.setUint32(0, 0x002a4949, true); // "II", 42
  view.setUint32(4, 8, true);
  view.setUint16(8, tags.length, true);
  tags.forEach(([tag, value], i) => {
    const at = 10 + i * 12;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, 4, true); // LONG
    view.setUint32(at + 4, 1, true);
    view.setUint32(at + 8, value, true);
  });
  for (let i = 0; i < 4; i++) view.setFloat32(134 + i * 4, i / 4, true);
  return new Uint8Array(view.buffer);
}

Deno.test("readImage() reads PNG, WebP and TIFF losslessly, whatever the file is called", async () => {
  for (
    const file of [
      raw(3).png(),
      raw(3).webp({ lossless: true }),
      raw(3).tiff({ compression: "lzw" }),
    ]
  ) {
    const image = await readImage(await bytes(file));
    assert.deepEqual([image.width, image.height, image.sourceChannels], [WIDTH, HEIGHT, 3]);
    assert.deepEqual(image.data, noise(3));
  }
  const dir = await Deno.makeTempDir();
  await Deno.writeFile(`${dir}/really.jpg`, await bytes(raw(3).png()));
  assert.equal((await readImage(`${dir}/really.jpg`)).format, "png");
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readImage() puts RGBA and palettes with transparency on white, drops grey's alpha", async () => {
  const rgba = await readImage(await bytes(raw(4).png()));
  assert.deepEqual(rgba.data, expand(4));
  const palette = await readImage(await bytes(raw(4).png({ palette: true, colours: 256 })));
  assert.deepEqual(palette.data, expand(4));
  const greyAlpha = await readImage(await bytes(raw(2).toColourspace("b-w").png()));
  assert.equal(greyAlpha.sourceChannels, 2);
  assert.deepEqual(greyAlpha.data, expand(2));
  const grey = await bytes(raw(1).toColourspace("b-w").png());
  assert.deepEqual((await readImage(grey)).data, expand(1));
  // A key colour makes the grey value 89 transparent: it becomes white.
  const keyed = await readImage(insertChunk(grey, "tRNS", [0, 89]));
  assert.deepEqual(keyed.data, expand(1).map((v) => v === 89 ? 255 : v));
});

Deno.test("readImage() reports but does not apply EXIF rotation, and ignores colour profiles", async () => {
  const turned = await readImage(await bytes(raw(3).withMetadata({ orientation: 6 }).png()));
  assert.deepEqual([turned.width, turned.height, turned.orientation], [WIDTH, HEIGHT, 6]);
  assert.deepEqual(turned.data, noise(3));
  // What the file stores under a wide-gamut profile, and what comes out.
  const file = await bytes(raw(3).withIccProfile("p3").png());
  const stored = await sharp(file, { ignoreIcc: true }).raw().toBuffer();
  assert.notDeepEqual(new Uint8Array(stored), noise(3));
  assert.deepEqual((await readImage(file)).data, new Uint8Array(stored));
});

Deno.test("readImage() converts CMYK and the upper byte of 16-bit colour", async () => {
  const cmyk = await readImage(await bytes(raw(3).toColourspace("cmyk").jpeg()));
  assert.deepEqual([cmyk.sourceChannels, cmyk.data.length], [4, WIDTH * HEIGHT * 3]);
  const deep = await readImage(await bytes(raw(3).toColourspace("rgb16").png()));
  assert.equal(deep.sourceBits, 16);
  assert.deepEqual(deep.data, noise(3));
});

Deno.test({
  name: hasFormats
    ? "readImage() stretches 16-bit grey from its smallest to its largest value"
    : "readImage() on 16-bit grey (skipped: ../shared/data/formats is absent)",
  ignore: !hasFormats,
  fn: async () => {
    const mr = await readImage(`${FORMATS}/mr_t1c_head_256_gray16.png`);
    assert.equal(mr.sourceBits, 16);
    const sorted = mr.data.toSorted();
    assert.deepEqual([sorted[0], sorted.at(-1)], [0, 255]);
    // The recorded sum of the 16-bit values, largest 1213, survives the scaling.
    const sum = mr.data.reduce((a, b) => a + b, 0) / 3 * 1213 / 255;
    assert.ok(Math.abs(sum / 17553094 - 1) < 1e-3, `${sum}`);
    const le = await readImage(`${FORMATS}/gray_u16_le.tif`);
    assert.deepEqual((await readImage(`${FORMATS}/gray_u16_be.tif`)).data, le.data);
    assert.equal(le.data.reduce((a, b) => a + b, 0), 3 * 5100000);
  },
});

Deno.test("stretch16() maps the range onto 0 to 255, and a constant to its upper byte", () => {
  assert.deepEqual([...stretch16(new Uint16Array([100, 1100, 600]))], [0, 255, 128]);
  assert.deepEqual([...stretch16(new Uint16Array([0x1234, 0x1234]))], [0x12, 0x12]);
});

Deno.test("readImage() refuses what is empty, truncated, corrupt or no image, by name", async () => {
  assert.equal(await refusal(new Uint8Array(0)), "Cannot read image x.png: the file is empty");
  const other = ["<svg xmlns='http://www.w3.org/2000/svg'/>", "GIF89a......", "%PDF-1.7", "hello"];
  for (const text of other) {
    const message = await refusal(new TextEncoder().encode(text));
    assert.equal(message, "Cannot read image x.png: it is not a JPEG, PNG, WebP or TIFF file");
  }
  const png = await bytes(raw(3).png());
  const jpeg = await bytes(
    sharp(new Uint8Array(64 * 64 * 3).map((_, i) => i * 31), {
      raw: { width: 64, height: 64, channels: 3 },
    }).jpeg(),
  );
  const corrupt = png.slice();
  corrupt[70] ^= 0xff; // in the pixel data; unknown side chunks may be damaged
  const bad = [png.subarray(0, 20), png.subarray(0, 60), corrupt];
  bad.push(jpeg.subarray(0, 3), jpeg.subarray(0, jpeg.length - 300));
  for (const part of bad) assert.match(await refusal(part), /^Cannot read image x\.png: /);
  assert.match(await refusal("no/such.png"), /^Cannot read image no\/such\.png: /);
  assert.match(await refusal("."), /^Cannot read image \.: it is not a file/);
});

Deno.test("readImage() refuses floating point samples and more than 20 megapixels", async () => {
  const huge = await bytes(
    sharp({ create: { width: 5000, height: 4001, channels: 3, background: "black" } }).png(),
  );
  assert.ok(huge.length < 300_000);
  assert.match(await refusal(huge), /pixel/);
  assert.match(await refusal(floatTiff()), /its samples are float; 8-bit and 16-bit unsigned/);
});

Deno.test("readImage() ends 300 mutated files in an image or an InputError", async () => {
  const sources = [
    await bytes(raw(3).png()),
    await bytes(raw(3).jpeg()),
    await bytes(raw(4).webp()),
  ];
  let state = 99;
  const random = (n: number) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
  let refused = 0;
  for (let i = 0; i < 300; i++) {
    const file = sources[i % 3].slice(0, random(3) ? undefined : random(sources[i % 3].length));
    if (file.length > 12) file[12 + random(file.length - 12)] = random(256);
    if (await refusal(file) !== "accepted") refused++;
  }
  assert.ok(refused > 100, `${refused}`);
});

Deno.test("encodePng() and readImage() are inverse for grey and RGB", async () => {
  for (const channels of [1, 3]) {
    const png = await encodePng({ width: WIDTH, height: HEIGHT, data: noise(channels) });
    const image = await readImage(png);
    assert.equal(image.sourceChannels, channels);
    assert.deepEqual(image.data, expand(channels));
  }
  await assert.rejects(encodePng({ width: 2, height: 2, data: new Uint8Array(8) }), TypeError);
});
