import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sharp, { type Sharp } from "sharp";
import { onWhite, toRgb } from "../../lib/data/color.ts";
import { Draws } from "../../lib/data/draws.ts";
import { orient } from "../../lib/data/orient.ts";
import { type Picture, type PictureOptions, readPicture } from "../../lib/data/picture.ts";
import { MAX_PIXELS, reducedSize } from "../../lib/data/reduce.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { insertChunk } from "./png_chunks.ts";

const FORMATS = fileURLToPath(new URL("../../../shared/data/formats/", import.meta.url));
const hasFormats = existsSync(FORMATS);

const [WIDTH, HEIGHT] = [5, 4];
const noise = (channels: number) =>
  Uint8Array.from({ length: WIDTH * HEIGHT * channels }, (_, i) => i * 89 % 256);
const raw = (channels: 1 | 2 | 3 | 4) =>
  sharp(noise(channels), { raw: { width: WIDTH, height: HEIGHT, channels } });
const bytes = async (image: Sharp) => new Uint8Array(await image.toBuffer());
const solid = (width: number, height: number, background = "#406080") =>
  sharp({ create: { width, height, channels: 3, background }, limitInputPixels: false });
const read = (file: Uint8Array, options: PictureOptions = {}) =>
  readPicture(file, { name: "x", ...options });
const pixel = ({ width, data }: Picture, x: number, y: number) => [
  ...data.slice(3 * (y * width + x), 3 * (y * width + x) + 3),
];

async function refusal(source: string | Uint8Array, options: PictureOptions = {}): Promise<string> {
  try {
    await readPicture(source, { name: "x", ...options });
  } catch (error) {
    assert.ok(error instanceof InputError && error.help, `${error}`);
    return error.message.replace("Cannot read picture x: ", "");
  }
  return "accepted";
}

async function usage(file: Uint8Array, options: PictureOptions): Promise<string> {
  const error = await read(file, options).then(() => assert.fail("accepted"), (thrown) => thrown);
  assert.ok(error instanceof UsageError && error.help, `${error}`);
  return error.message;
}

/** 16-bit grey, with alpha if there are twice as many values as pixels. */
const deep = (values: number[], width: number, height: number) => {
  const channels = values.length / (width * height) as 1 | 2;
  return sharp(Uint16Array.from(values), { raw: { width, height, channels } })
    .toColourspace("grey16");
};

Deno.test("readPicture() reads PNG, WebP and TIFF losslessly, bytes or path, Buffer or not", async () => {
  const files = {
    png: raw(3).png(),
    webp: raw(3).webp({ lossless: true }),
    tiff: raw(3).tiff({ compression: "lzw" }),
  };
  const dir = await Deno.makeTempDir();
  for (const [format, image] of Object.entries(files)) {
    await image.toFile(`${dir}/picture.dat`);
    for (const source of [`${dir}/picture.dat`, await image.toBuffer()]) {
      const picture = await readPicture(source);
      assert.deepEqual(picture, {
        width: WIDTH,
        height: HEIGHT,
        data: noise(3),
        format,
        source: { width: WIDTH, height: HEIGHT, bits: 8, channels: 3 },
        notes: [],
      });
    }
  }
  await Deno.remove(dir, { recursive: true });
  const jpeg = await read(await bytes(solid(9, 8).jpeg({ quality: 100 })));
  assert.equal(jpeg.format, "jpeg");
  assert.ok(pixel(jpeg, 8, 7).every((v, c) => Math.abs(v - [64, 96, 128][c]) <= 2));
});

Deno.test("readPicture() puts all transparency on white: RGBA, palette, key colour, grey with alpha", async () => {
  const rgba = await read(await bytes(raw(4).png()));
  assert.deepEqual(rgba.data, toRgb({ width: WIDTH, height: HEIGHT, data: noise(4) }).data);
  assert.deepEqual(rgba.notes, ["transparency put on white"]);
  const palette = await read(await bytes(raw(4).png({ palette: true, colours: 256 })));
  assert.deepEqual(palette.data, rgba.data);
  const pairs = noise(2);
  const onWhiteGrey = Uint8Array.from(
    { length: WIDTH * HEIGHT },
    (_, i) => onWhite(pairs[2 * i], pairs[2 * i + 1]),
  );
  const want = toRgb({ width: WIDTH, height: HEIGHT, data: onWhiteGrey }).data;
  for (
    const image of [
      raw(2).toColourspace("b-w").png(),
      raw(2).toColourspace("b-w").tiff({ compression: "lzw" }),
    ]
  ) {
    assert.deepEqual((await read(await bytes(image))).data, want);
  }
  const keyed = insertChunk(await bytes(raw(1).toColourspace("b-w").png()), "tRNS", [0, 89]);
  assert.deepEqual(pixel(await read(keyed), 1, 0), [255, 255, 255]);
  // 16 bits: the range is that of what is seen.
  const seen = await read(await bytes(deep([1000, 65535, 3000, 65535, 1000, 0], 3, 1).png()));
  assert.deepEqual([...seen.data].filter((_, i) => i % 3 === 0), [0, 255, 255]);
  assert.equal(seen.window?.width, 2000);
});

Deno.test("readPicture() converts CMYK, 1 bit and 16-bit colour, and says so", async () => {
  const cmyk = await read(await bytes(raw(3).toColourspace("cmyk").jpeg()));
  assert.deepEqual([cmyk.source.channels, cmyk.data.length], [4, WIDTH * HEIGHT * 3]);
  assert.ok(cmyk.notes.includes("CMYK converted to RGB"));
  const wide = await read(await bytes(raw(3).toColourspace("rgb16").png()));
  assert.deepEqual([wide.source.bits, wide.data], [16, noise(3)]);
  assert.deepEqual(wide.notes, ["16-bit colour reduced to its upper byte"]);
  const bits = sharp(Uint8Array.of(0, 255, 255, 0), { raw: { width: 2, height: 2, channels: 1 } });
  for (
    const image of [
      bits.clone().png({ palette: true, colours: 2 }),
      bits.clone().toColourspace("b-w").tiff({ bitdepth: 1, compression: "none" }),
    ]
  ) {
    const picture = await read(await bytes(image));
    assert.deepEqual([...picture.data].filter((_, i) => i % 3 === 0), [0, 255, 255, 0]);
    assert.equal(picture.source.bits, 1);
  }
  const profile = await read(await bytes(raw(3).withIccProfile("p3").png()));
  assert.deepEqual(profile.notes, ["colour profile ignored"]);
});

Deno.test("readPicture() windows 16-bit grey, by default from its smallest to its largest value", async () => {
  const file = await bytes(deep([100, 300, 600, 1100], 4, 1).png());
  const first = async (options: PictureOptions) =>
    [...(await read(file, options)).data].filter((_, i) => i % 3 === 0);
  assert.deepEqual(await first({}), [0, 51, 128, 255]);
  assert.deepEqual((await read(file)).window, {
    center: 600,
    width: 1000,
    shape: "LINEAR_EXACT",
    from: "range",
  });
  assert.deepEqual(await first({ window: "300/400" }), [0, 128, 255, 255]);
  assert.match(await usage(file, { window: "bone" }), /presets are for CT/);
  const flat = await read(await bytes(deep([0x1234, 0x1234], 2, 1).png()));
  assert.deepEqual([pixel(flat, 0, 0), flat.window], [[0x12, 0x12, 0x12], undefined]);
});

Deno.test({
  name: hasFormats
    ? "readPicture() reads the 16-bit PNG and TIFF files in both byte orders"
    : "readPicture() on 16-bit files (skipped: ../shared/data/formats is absent)",
  ignore: !hasFormats,
  fn: async () => {
    const mr = await readPicture(`${FORMATS}mr_t1c_head_256_gray16.png`);
    assert.deepEqual([mr.window?.center, mr.window?.width, mr.source.bits], [606.5, 1213, 16]);
    // A window as wide as 8 bits gives the recorded sums back.
    const sum = async (file: string) =>
      (await readPicture(FORMATS + file, { window: "127.5/255" })).data
        .reduce((a, b) => a + b, 0) / 3;
    assert.equal(await sum("gray_u16_le.tif"), 5100000);
    assert.equal(await sum("gray_u16_be.tif"), 5100000);
    const grey = await readPicture(`${FORMATS}microaneurysms_gray8.png`);
    assert.equal(grey.data.reduce((a, b) => a + b, 0) / 3, 1033532);
  },
});

Deno.test("readPicture() applies each EXIF orientation, and orient() is what it applies", async () => {
  // sharp's own turning is the reference.
  for (let orientation = 1; orientation <= 8; orientation++) {
    const file = await bytes(raw(3).withMetadata({ orientation }).png());
    const { data, info } = await sharp(file).autoOrient().raw().toBuffer({
      resolveWithObject: true,
    });
    const picture = await read(file);
    assert.deepEqual([picture.width, picture.height], [info.width, info.height]);
    assert.deepEqual(picture.data, new Uint8Array(data), `${orientation}`);
    const notes = orientation > 1 ? [`EXIF orientation ${orientation} applied`] : [];
    assert.deepEqual(picture.notes.filter((note) => note.startsWith("EXIF")), notes);
  }
  const image = { width: 2, height: 1, data: Uint8Array.of(1, 2) };
  assert.deepEqual(orient(image, 9), image);
  assert.deepEqual(orient(image, 8), { width: 1, height: 2, data: Uint8Array.of(2, 1) });
});

Deno.test("readPicture() takes the first of several frames or pages, or the one asked for", async () => {
  const frames = [[250, 0, 0], [0, 0, 250]].flatMap((colour) =>
    Array.from({ length: 12 }, () => colour).flat()
  );
  const animated = await bytes(
    sharp(Uint8Array.from(frames), { raw: { width: 3, height: 8, channels: 3, pageHeight: 4 } })
      .webp({ lossless: true }),
  );
  const first = await read(animated);
  assert.deepEqual([first.width, first.height, pixel(first, 0, 0)], [3, 4, [250, 0, 0]]);
  assert.deepEqual(first.notes, ["first of 2 frames"]);
  const second = await read(animated, { frame: 1 });
  assert.deepEqual([pixel(second, 2, 3), second.frame], [[0, 0, 250], { index: 1, count: 2 }]);
  assert.equal(
    await usage(animated, { frame: 2 }),
    "Cannot take frame 2 of x: it has 2, from 0 to 1",
  );
  const pages = await read(
    await bytes(
      raw(3).tiff({ compression: "lzw", pyramid: true, tile: true, tileWidth: 16, tileHeight: 16 }),
    ),
  );
  assert.deepEqual(pages.data, noise(3));
  // An animated PNG shows its still picture: the chunk tells how many frames there are.
  const apng = insertChunk(await bytes(raw(3).png()), "acTL", [0, 0, 0, 7, 0, 0, 0, 0]);
  const still = await read(apng);
  assert.deepEqual([still.data, still.notes], [noise(3), ["first of 7 frames"]]);
});

Deno.test("readPicture() refuses what it does not read, by name", async () => {
  const text = (what: string) => new TextEncoder().encode(what);
  const cases: [string | Uint8Array, RegExp][] = [
    [new Uint8Array(0), /^the file is empty$/],
    [text("<svg xmlns='http://www.w3.org/2000/svg'/>"), /^it is an SVG drawing$/],
    [text('<?xml version="1.0"?>\n<!-- x -->\n<svg>'), /^it is an SVG drawing$/],
    [text("\ufeff<!DOCTYPE svg PUBLIC ''><svg>"), /^it is an SVG drawing$/],
    [text("<!DOCTYPE html><html><svg></svg>"), /^it is a web page$/],
    [text("GIF89a......"), /^it is a GIF image$/],
    [text("%PDF-1.7"), /^it is a PDF document$/],
    [Uint8Array.of(0x42, 0x4d, 1, 2, 0, 0, 0, 0, 0, 0, 54), /^it is a BMP image$/],
    [text("\0\0\0\x18ftypheic"), /^it is a HEIC or AVIF image$/],
    [text("\0\0\0\x0cjP  \r\n"), /^it is a JPEG 2000 image$/],
    [text("PK\x03\x04...."), /^it is a ZIP archive$/],
    [text("NRRD0004\n"), /^it is an NRRD volume$/],
    [text("version https://git-lfs.github.com/spec/v1\n"), /^it is a Git LFS pointer/],
    [text("hello"), /^it is not a JPEG, PNG, WebP, TIFF, DICOM or NIfTI file$/],
    [new Uint8Array(4000), /^it is not a JPEG, PNG, WebP, TIFF, DICOM or NIfTI file$/],
    ["no/such.png", /^No such file or directory/],
    [".", /^it is not a file$/],
    ["a\0b", /./],
  ];
  for (const [source, message] of cases) assert.match(await refusal(source), message);
  const web = await readPicture("https://x.example/a.png").catch((error) => error);
  assert.match(web.help, /^Download/);
});

Deno.test("readPicture() refuses truncated and corrupt files", async () => {
  const png = await bytes(raw(3).png());
  const corrupt = png.slice();
  corrupt[70] ^= 0xff;
  const big = sharp(Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => i * 31 % 256), {
    raw: { width: 64, height: 64, channels: 3 },
  });
  const jpeg = await bytes(big.clone().jpeg());
  const webp = await bytes(big.clone().webp());
  const tiff = await bytes(big.clone().tiff({ compression: "deflate" }));
  const bad = [png.subarray(0, 20), png.subarray(0, 60), corrupt, jpeg.subarray(0, 3)];
  bad.push(jpeg.subarray(0, -300), webp.subarray(0, -300), tiff.subarray(0, 200));
  for (const part of bad) assert.match(await refusal(part), /^it is damaged or cut off/);
});

Deno.test("readPicture() refuses options that a file has no use for", async () => {
  const png = await bytes(raw(3).png());
  assert.match(await usage(png, { frame: 0 }), /^Cannot take a frame of x: it is a PNG file$/);
  assert.match(await usage(png, { slice: 0 }), /^Cannot take a slice of x: it is a PNG file$/);
  assert.match(
    await usage(png, { window: "40/400" }),
    /^Cannot window x: it is not DICOM, NIfTI or/,
  );
  assert.match(
    await usage(png, { volume: 1.5 }),
    /^Cannot take volume 1\.5: it is no whole number/,
  );
});

Deno.test("reducedSize() keeps up to 20 megapixels and divides larger sides by one factor", () => {
  assert.deepEqual(reducedSize(5000, 4000), { width: 5000, height: 4000 });
  assert.deepEqual(reducedSize(5000, 4001), { width: 2500, height: 2001 });
  assert.deepEqual(reducedSize(30_000, 30_000), { width: 4286, height: 4286 });
  for (const [w, h] of [[1, 1_000_000_000], [65_535, 15_000], [4473, 4472], [31_622, 31_622]]) {
    const { width, height } = reducedSize(w, h);
    assert.ok(width >= 1 && height >= 1 && width * height <= MAX_PIXELS, `${w}x${h}`);
  }
});

Deno.test("readPicture() reduces large pictures on the way, with their content in place", async () => {
  const spot = await solid(1000, 1000, "#ff2000").png().toBuffer();
  const large = await bytes(
    solid(5200, 4000).composite([{ input: spot, left: 4200, top: 3000 }]).jpeg(),
  );
  const picture = await read(large);
  assert.deepEqual([picture.width, picture.height], [2600, 2000]);
  assert.deepEqual(picture.source, { width: 5200, height: 4000, bits: 8, channels: 3 });
  assert.deepEqual(picture.notes, ["reduced from 5200x4000 to 2600x2000"]);
  const near = (x: number, y: number, want: number[]) =>
    assert.ok(pixel(picture, x, y).every((v, c) => Math.abs(v - want[c]) <= 3), `${x} ${y}`);
  near(2110, 1510, [255, 32, 0]);
  near(2590, 1990, [255, 32, 0]);
  near(2090, 1510, [64, 96, 128]);
  near(2110, 1490, [64, 96, 128]);
  const half = new Uint16Array(5200 * 4000).fill(500);
  half.fill(900, half.length / 2);
  const grey = await bytes(
    sharp(half, { raw: { width: 5200, height: 4000, channels: 1 } }).toColourspace("grey16")
      .png({ compressionLevel: 1 }),
  );
  const flat = await read(grey);
  assert.deepEqual([flat.width, flat.source.bits], [2600, 16]);
  assert.deepEqual([pixel(flat, 9, 990)[0], pixel(flat, 9, 1010)[0]], [0, 255]);
});

Deno.test("readPicture() takes the level of a TIFF pyramid that needs no reducing", async () => {
  const pyramid = await bytes(
    solid(5200, 4000).tiff({ compression: "jpeg", tile: true, pyramid: true }),
  );
  const picture = await read(pyramid);
  assert.deepEqual([picture.width, picture.height], [2600, 2000]);
  assert.deepEqual(picture.source, { width: 5200, height: 4000, bits: 8, channels: 3 });
  assert.match(picture.notes[0], /^level of a pyramid: reduced from 5200x4000 to 2600x2000$/);
});

Deno.test("readPicture() refuses pictures too large to reduce, from the header", async () => {
  // Only the header is needed: sizes are written into a small file.
  const png = await bytes(raw(3).png());
  const sized = (width: number, height: number, interlaced = false) => {
    const head = [...new TextEncoder().encode("IHDR"), ...new Array(13).fill(0)];
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, width);
    view.setUint32(4, height);
    head.splice(4, 8, ...new Uint8Array(view.buffer));
    head.splice(12, 5, 8, 2, 0, 0, interlaced ? 1 : 0);
    const chunk = insertChunk(png, "IHDR", head.slice(4));
    const at = String.fromCharCode(...chunk).lastIndexOf("IHDR") - 4;
    const out = png.slice();
    out.set(chunk.subarray(at, at + 25), 8);
    return out;
  };
  assert.equal(
    await refusal(sized(30_000, 30_000)),
    "it has 30000x30000 pixels; PNG is read up to 400 megapixels",
  );
  assert.equal(
    await refusal(sized(10_000, 8000, true)),
    "it has 10000x8000 pixels; interlaced PNG is read up to 64 megapixels",
  );
  assert.match(await refusal(sized(100_001, 1)), /100001x1 pixels; sides of at most 100000 /);
  assert.match(await refusal(sized(15_000, 15_000)), /^\d+ bytes cannot hold its 15000x15000 pix/);
});

Deno.test("readPicture() ends 200 mutants of each kind of image in a picture or an InputError", async () => {
  const files = [
    await bytes(raw(3).png()),
    await bytes(deep([1, 2, 3, 4], 2, 2).png()),
    await bytes(raw(3).jpeg()),
    await bytes(raw(4).webp()),
    await bytes(raw(3).tiff({ compression: "lzw" })),
    await bytes(raw(3).tiff({ compression: "none" })),
  ];
  const draws = new Draws("mutants of images", 7);
  for (const [kind, whole] of files.entries()) {
    let refused = 0;
    for (let i = 0; i < 200; i++) {
      const file = whole.slice(0, draws.below(4) ? undefined : draws.below(whole.length));
      for (let flips = draws.below(4); flips >= 0; flips--) {
        file[draws.below(file.length)] = draws.below(256);
      }
      if (await refusal(file) !== "accepted") refused++;
    }
    assert.ok(refused > 50 && refused <= 200, `kind ${kind}: ${refused} of 200 refused`);
  }
});

Deno.test("readPicture() reads DICOM and NIfTI with no permission but to read", async () => {
  const { dicomFile, imageParts, words } = await import("./dicom_files.ts");
  const dir = await Deno.makeTempDir();
  await Deno.writeFile(`${dir}/a.dcm`, dicomFile(imageParts(1, 2, words([1, 2]))));
  const url = new URL("../../lib/data/picture.ts", import.meta.url).href;
  await Deno.writeTextFile(
    `${dir}/main.ts`,
    `import { readPicture } from ${JSON.stringify(url)};
     console.log((await readPicture(${JSON.stringify(`${dir}/a.dcm`)})).format);`,
  );
  const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
  const { stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--no-check",
      `--config=${config}`,
      `--allow-read=${dir}`,
      `${dir}/main.ts`,
    ],
  }).output();
  const text = (part: Uint8Array) => new TextDecoder().decode(part);
  assert.equal(text(stdout), "dicom\n", text(stderr));
  await Deno.remove(dir, { recursive: true });
});
