import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { Draws } from "../../lib/data/draws.ts";
import { orientationOf, readNiftiVolume } from "../../lib/data/nifti.ts";
import { readPicture } from "../../lib/data/picture.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { type Fields, niftiFile, STEPS } from "./nifti_files.ts";

const FORMATS = fileURLToPath(new URL("../../../shared/data/formats/", import.meta.url));
const hasFormats = existsSync(FORMATS);
const withFormats = (name: string, fn: () => Promise<void>) =>
  Deno.test({
    name: hasFormats ? name : `${name} (skipped: ../shared/data/formats is absent)`,
    ignore: !hasFormats,
    fn,
  });

const read = (file: Uint8Array, options = {}) => readPicture(file, { name: "x.nii", ...options });

/** The red channel, row by row. */
async function rows(file: Uint8Array, options = {}): Promise<number[][]> {
  const { width, height, data } = await read(file, options);
  return Array.from(
    { length: height },
    (_, y) => Array.from({ length: width }, (_, x) => data[3 * (y * width + x)]),
  );
}

async function refusal(file: Uint8Array, options = {}): Promise<string> {
  try {
    await read(file, options);
  } catch (error) {
    assert.ok(error instanceof InputError && error.help, `${error}`);
    return error.message.replace("Cannot read picture x.nii: ", "");
  }
  return "accepted";
}

/** Values as they are: 0 is black, 255 is white. */
const AS_IS = { window: { center: 127.5, width: 255 } };
/** i to the right, j to the front, k up. */
const RAS = { sform: 1, srow: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0] };

withFormats("readNiftiVolume() finds the recorded voxels of every file", async () => {
  const expected = JSON.parse(await Deno.readTextFile(`${FORMATS}expected.json`));
  const files = Object.keys(expected).filter((file) => file.includes(".nii"));
  assert.equal(files.length, 4);
  for (const file of files) {
    const want = expected[file];
    const bytes = await Deno.readFile(FORMATS + file);
    const first = await readNiftiVolume(bytes, file);
    let [sum, min, max] = [0, Infinity, -Infinity];
    for (let v = 0; v < first.volumes; v++) {
      for (const value of (await readNiftiVolume(bytes, file, v)).values) {
        sum += value;
        min = Math.min(min, value);
        max = Math.max(max, value);
      }
    }
    const { slope, intercept } = first.scale;
    const shape = [...first.shape, ...(first.volumes > 1 ? [first.volumes] : [])];
    assert.deepEqual([sum, shape], [want.raw_sum, want.shape], file);
    assert.deepEqual(first.spacing, want.zooms.slice(0, 3), file);
    assert.ok(Math.abs(slope * min + intercept - want.scaled_min) < 1e-6, file);
    assert.ok(Math.abs(slope * max + intercept - want.scaled_max) < 1e-6, file);
    const half = want.shape.map((n: number) => Math.floor(n / 2));
    const { values } = await readNiftiVolume(bytes, file, half[3] ?? 0);
    const [nx, ny] = first.shape;
    const middle = values[half[0] + nx * (half[1] + ny * half[2])];
    assert.ok(Math.abs(slope * middle + intercept - want.voxel_at_mid) < 1e-6, file);
  }
});

withFormats("readPicture() takes the middle slice and says what it took", async () => {
  const one = await readPicture(`${FORMATS}mri_anatomical.nii`);
  assert.deepEqual([one.width, one.height, one.format], [33, 41, "nifti"]);
  assert.deepEqual(one.slice, { axis: "axial", index: 12, count: 25, volume: 0, volumes: 1 });
  assert.equal(one.window?.from, "percentiles");
  const many = await readPicture(`${FORMATS}example4d_int16.nii.gz`, { axis: "coronal" });
  assert.deepEqual(many.notes, [
    "middle slice: 48 of 0 to 95",
    "first of 2 volumes",
    "volume tilted by 9 degrees: shown along its own axes",
    "resampled from 128x24 to square pixels",
  ]);
  assert.deepEqual([many.width, many.height], [128, 26]); // 24 slices of 2.2 mm in 2 mm pixels
});

Deno.test("readPicture() shows slices as radiologists look at them", async () => {
  const file = niftiFile(STEPS, RAS);
  // Right on the left, front or head up: both axes run backwards.
  assert.deepEqual(await rows(file, { ...AS_IS, slice: 0 }), [[100, 80], [60, 40], [20, 0]]);
  assert.deepEqual((await rows(file, { ...AS_IS, slice: 1 }))[0], [220, 200]);
  assert.deepEqual(await rows(file, { ...AS_IS, axis: "coronal", slice: 0 }), [[140, 120], [
    20,
    0,
  ]]);
  assert.deepEqual(
    await rows(file, { ...AS_IS, axis: "sagittal", slice: 1 }),
    [[220, 180, 140], [100, 60, 20]],
  );
  // The same patient stored to the left, back and down.
  const turned = niftiFile(STEPS.slice().reverse(), {
    sform: 1,
    srow: [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0],
  });
  for (const axis of ["axial", "coronal", "sagittal"]) {
    for (const slice of [0, 1]) {
      const options = { ...AS_IS, axis, slice };
      assert.deepEqual(await rows(turned, options), await rows(file, options));
    }
  }
  // Stored as sagittal slices: i is up, j to the right, k to the front.
  const other = Int16Array.from({ length: 12 }, (_, n) => {
    const [up, right, front] = [n % 2, Math.floor(n / 2) % 2, Math.floor(n / 4)];
    return 20 * (right + 2 * front + 6 * up);
  });
  const stored = niftiFile(other, {
    dim: [3, 2, 2, 3],
    sform: 1,
    srow: [0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0],
  });
  assert.deepEqual(
    await rows(stored, { ...AS_IS, slice: 1 }),
    await rows(file, { ...AS_IS, slice: 1 }),
  );
});

Deno.test("orientationOf() follows sform, then qform with qfac, then nibabel's default", async () => {
  const of = async (fields: Fields) =>
    orientationOf(await readNiftiVolume(niftiFile(STEPS, fields), "x"));
  const straight = { axis: [0, 1, 2], obliqueDegrees: 0 };
  assert.deepEqual(await of({}), { ...straight, flipped: [true, false, false] });
  for (const version of [1, 2] as const) {
    // Half a turn about y: x and z backwards; qfac turns z once more.
    const q = { version, qform: 1, quatern: [0, 1, 0] };
    assert.deepEqual(await of(q), { ...straight, flipped: [true, false, true] });
    assert.deepEqual(await of({ ...q, pixdim: [-1, 1, 1, 1] }), {
      ...straight,
      flipped: [true, false, false],
    });
    assert.deepEqual(await of({ ...q, ...RAS }), { ...straight, flipped: [false, false, false] });
  }
  // A quarter turn about z: i runs to the front, j to the left.
  const quarter = await of({ qform: 1, quatern: [0, 0, Math.SQRT1_2] });
  assert.deepEqual([quarter.axis, quarter.flipped], [[1, 0, 2], [true, false, false]]);
  const tilted = await of({ sform: 1, srow: [1, 0, 0, 0, 0, 1, -1, 0, 0, 1, 1, 0] });
  assert.ok(Math.abs(tilted.obliqueDegrees - 45) < 1e-6);
  assert.deepEqual([...tilted.axis].sort(), [0, 1, 2]);
  assert.deepEqual(await of({ sform: 1, srow: new Array(12).fill(NaN) }), await of({}));
});

Deno.test("readPicture() reads both versions, both byte orders, gzip and every voxel type", async () => {
  const want = await rows(niftiFile(STEPS, RAS), AS_IS);
  for (const version of [1, 2] as const) {
    for (const big of [false, true]) {
      const file = niftiFile(STEPS, { ...RAS, version, big });
      assert.deepEqual(await rows(file, AS_IS), want);
      assert.deepEqual(await rows(new Uint8Array(gzipSync(file)), AS_IS), want);
      assert.deepEqual(
        await rows(Buffer.concat([new Uint8Array(9), file]).subarray(9), AS_IS),
        want,
      );
    }
  }
  const types: [
    number,
    number,
    { from(v: Int16Array): ArrayLike<number> & { buffer: ArrayBuffer } },
  ][] = [
    [2, 8, Uint8Array],
    [8, 32, Int32Array],
    [16, 32, Float32Array],
    [64, 64, Float64Array],
    [512, 16, Uint16Array],
    [768, 32, Uint32Array],
  ];
  for (const [datatype, bitpix, array] of types) {
    const file = niftiFile(array.from(STEPS), { ...RAS, datatype, bitpix, big: true });
    assert.deepEqual(await rows(file, AS_IS), want, `${datatype}`);
  }
  const long = BigInt64Array.from(STEPS, BigInt) as unknown as Float64Array<ArrayBuffer>;
  for (const datatype of [1024, 1280]) {
    assert.deepEqual(await rows(niftiFile(long, { ...RAS, datatype, bitpix: 64 }), AS_IS), want);
  }
  const signed = niftiFile(Int8Array.from(STEPS, (v) => v / 2 - 100), {
    ...RAS,
    datatype: 256,
    bitpix: 8,
    slope: 2,
    inter: 200,
  });
  assert.deepEqual(await rows(signed, AS_IS), want);
  const color = niftiFile(Uint8Array.from({ length: 6 }, (_, i) => i), {
    ...RAS,
    dim: [3, 2, 1, 1],
    datatype: 128,
    bitpix: 24,
  });
  assert.deepEqual([...(await read(color)).data], [3, 4, 5, 0, 1, 2]);
  await assert.rejects(read(color, AS_IS), UsageError);
});

Deno.test("readPicture() scales by slope and intercept, and not by 0 or NaN", async () => {
  const window = async (slope: number, inter: number) =>
    (await read(niftiFile(STEPS, { ...RAS, slope, inter }), { window: "full" })).window;
  assert.deepEqual(await window(2, -10), {
    center: 210,
    width: 440,
    shape: "LINEAR_EXACT",
    from: "range",
  });
  for (const [slope, inter] of [[0, 7], [NaN, 7], [1, 0]]) {
    assert.equal((await window(slope, inter))?.width, 220);
    assert.equal((await window(slope, inter))?.center, 110);
  }
  const holes = Float32Array.from(STEPS, (v, i) => i === 0 ? NaN : i === 11 ? Infinity : v);
  const file = niftiFile(holes, { ...RAS, datatype: 16, bitpix: 32 });
  const { window: measured } = await read(file);
  assert.deepEqual([measured?.center, measured?.width], [110, 180]);
  assert.equal((await rows(file, { slice: 0 })).at(-1)?.at(-1), 0);
  assert.equal((await rows(file, { slice: 1 }))[0][0], 255);
});

Deno.test("readPicture() takes volumes, and makes pixels square", async () => {
  const series = niftiFile(Int16Array.from({ length: 24 }, (_, i) => 10 * i), {
    ...RAS,
    dim: [5, 2, 3, 1, 2, 2],
  });
  assert.deepEqual(
    await rows(series, { ...AS_IS, volume: 3 }),
    [[230, 220], [210, 200], [190, 180]],
  );
  assert.deepEqual((await read(series)).slice?.volumes, 4);
  const thick = niftiFile(STEPS, { ...RAS, pixdim: [1, 1, 1, 3] });
  const { width, height, notes } = await read(thick, { axis: "coronal", slice: 0 });
  assert.deepEqual([width, height], [2, 6]);
  assert.deepEqual(notes, ["resampled from 2x2 to square pixels"]);
  const wild = await read(niftiFile(STEPS, { ...RAS, pixdim: [1, 1, 1, 1e30] }), {
    axis: "coronal",
  });
  assert.deepEqual([wild.width, wild.height], [2, 2]);
  assert.match(wild.notes.join(), /not corrected/);
  const far = await read(niftiFile(STEPS, { ...RAS, pixdim: [1, 1, 1, 40] }), { axis: "coronal" });
  assert.deepEqual([far.width, far.height], [2, 2]);
});

Deno.test("readPicture() refuses slices, volumes and planes that are not there", async () => {
  const file = niftiFile(STEPS, RAS);
  const cases: [object, RegExp][] = [
    [{ slice: 2 }, /^Cannot take axial slice 2 of x\.nii: it has 2, from 0 to 1$/],
    [{ slice: 3, axis: "coronal" }, /^Cannot take coronal slice 3 of x\.nii: it has 3/],
    [{ volume: 1 }, /^Cannot take volume 1 of x\.nii: it has 1, from 0 to 0$/],
    [{ slice: -1 }, /^Cannot take slice -1: it is no whole number from 0 up$/],
    [{ axis: "oblique" }, /^Cannot cut along oblique: it is no known plane$/],
    [{ frame: 0 }, /^Cannot take a frame of x\.nii: it is a NIfTI file$/],
  ];
  for (const [options, message] of cases) {
    await assert.rejects(read(file, options), (error) => {
      assert.ok(error instanceof UsageError && error.help);
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("readPicture() refuses headers that lie, by field", async () => {
  const cases: [RegExp, Fields][] = [
    [/^dim\[0\] is 8, expected 1 to 7/, { dim: [8, 2, 3, 2] }],
    [/^dim\[0\] is 0/, { dim: [0, 2, 3, 2] }],
    [/^dim\[2\] is 0, expected/, { dim: [3, 2, 0, 2] }],
    [/^dim\[4\] is -1, expected/, { dim: [4, 2, 3, 2, -1] }],
    [/^dim says 32767x32767x32767 voxels of int16: \d+ bytes, at most/, {
      dim: [3, 32767, 32767, 32767],
    }],
    [/^the file has 376 bytes; .*\(2x3x3 voxels of int16 from byte 352\) need 388/, {
      dim: [3, 2, 3, 3],
    }],
    [/^the file has 376 bytes; .* need 364/, { dim: [3, 2, 3, 1] }],
    [/^the file has 376 bytes; .* \(2x3x2x32767 voxels of int16/, { dim: [4, 2, 3, 2, 32767] }],
    [/^dim says 1152780773560811500 volumes/, { dim: [7, 2, 3, 2, 32767, 32767, 32767, 32767] }],
    [/^datatype is complex64, which/, { datatype: 32 }],
    [/^datatype is unknown \(code 5\)/, { datatype: 5 }],
    [/^bitpix is 8, int16 has 16/, { bitpix: 8 }],
    [/^vox_offset is 0, expected a whole number from 348/, { offset: 0 }],
    [/^vox_offset is NaN, expected/, { offset: NaN }],
    [/^scl_slope is Infinity/, { slope: Infinity }],
    [/^scl_inter is NaN/, { inter: NaN }],
  ];
  for (const [message, fields] of cases) {
    assert.match(await refusal(niftiFile(STEPS, fields)), message);
  }
  const pair = niftiFile(STEPS);
  pair.set(new TextEncoder().encode("ni1"), 344);
  assert.match(await refusal(pair), /^it is the header of a pair of NIfTI or Analyze files/);
});

Deno.test("readPicture() stops gzip bombs, and refuses damaged gzip", async () => {
  const long = new Uint8Array(5e7);
  long.set(niftiFile(STEPS));
  const bomb = new Uint8Array(gzipSync(long));
  assert.ok(bomb.length < 100_000);
  assert.match(await refusal(bomb), /^it unpacks to more than the 376 bytes that its header needs/);
  const claims = niftiFile(STEPS, { dim: [4, 1000, 1000, 500, 2] });
  assert.match(
    await refusal(new Uint8Array(gzipSync(claims))),
    /^it unpacks to 2000000352 bytes; at/,
  );
  const good = new Uint8Array(gzipSync(niftiFile(STEPS)));
  assert.match(await refusal(good.slice(0, -9)), /^its gzip data is damaged or cut off/);
  const wrong = good.slice();
  wrong[wrong.length - 6] ^= 1;
  assert.match(await refusal(wrong), /^its gzip data is damaged/);
  const other = new Uint8Array(gzipSync(new TextEncoder().encode("a tar file, say")));
  assert.match(await refusal(other), /^it is a gzip file that does not unpack to a NIfTI volume/);
});

Deno.test("readPicture() ends 200 mutants of each kind of NIfTI file in a picture or an InputError", async () => {
  const files = [
    niftiFile(STEPS, RAS),
    niftiFile(STEPS, { ...RAS, big: true }),
    niftiFile(STEPS, { ...RAS, version: 2 }),
    new Uint8Array(gzipSync(niftiFile(STEPS, RAS))),
  ];
  const draws = new Draws("mutants of NIfTI", 7);
  for (const [kind, whole] of files.entries()) {
    let refused = 0;
    for (let i = 0; i < 200; i++) {
      const file = whole.slice(0, draws.below(4) ? undefined : draws.below(whole.length));
      for (let flips = draws.below(4); flips >= 0; flips--) {
        file[draws.below(file.length)] = draws.below(256);
      }
      // Fields that are looked at more often.
      if (draws.below(2)) file[40 + draws.below(80)] = draws.below(256);
      try {
        await read(file);
      } catch (error) {
        assert.ok(error instanceof InputError, `kind ${kind}, mutant ${i}: ${error}`);
        refused++;
      }
    }
    assert.ok(refused > 50 && refused <= 200, `kind ${kind}: ${refused} of 200 refused`);
  }
});
