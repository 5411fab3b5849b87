import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { deflateRawSync } from "node:zlib";
import sharp from "sharp";
import { readDicomFrame } from "../../lib/data/dicom.ts";
import { readDataSet } from "../../lib/data/dicom_elements.ts";
import { parseDicom } from "../../lib/data/dicom_header.ts";
import { Draws } from "../../lib/data/draws.ts";
import { readPicture } from "../../lib/data/picture.ts";
import { InputError } from "../../lib/errors.ts";
import {
  ALLOCATED,
  BYTE,
  bytes,
  CENTER,
  dicomFile,
  FRAMES,
  greys,
  HIGH,
  imageParts,
  join,
  MODALITY,
  type Part,
  PHOTOMETRIC,
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

const FORMATS = fileURLToPath(new URL("../../../shared/data/formats/", import.meta.url));
const hasFormats = existsSync(FORMATS);
const withFormats = (name: string, fn: () => Promise<void>) =>
  Deno.test({
    name: hasFormats ? name : `${name} (skipped: ../shared/data/formats is absent)`,
    ignore: !hasFormats,
    fn,
  });

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

withFormats("readDataSet() finds every element where dicom-parser finds it", async () => {
  const { default: parser } = await import("dicom-parser") as unknown as {
    default: typeof import("dicom-parser");
  };
  let compared = 0;
  for await (const { name } of Deno.readDir(FORMATS)) {
    if (!name.endsWith(".dcm") || name === "ct_small_no_meta.dcm") continue;
    const file = await Deno.readFile(FORMATS + name);
    const theirs = Object.entries(
      parser.parseDicom(file, { untilTag: "x7fe00010" }).elements,
    ).filter(([tag]) => tag > "x0002ffff");
    const { bytes: dataSet, syntax } = parseDicom(file, name);
    const ours = readDataSet(
      dataSet,
      { implicit: syntax.implicit ?? false, bigEndian: syntax.bigEndian ?? false },
      new Set(theirs.map(([tag]) => Number(`0${tag}`))),
    );
    const shift = dataSet.byteOffset - file.byteOffset;
    assert.deepEqual(
      [...ours].map(([tag, { start, length }]) => [tag, start + shift, length]),
      theirs.map(([tag, { dataOffset, length, hadUndefinedLength }]) => [
        Number(`0${tag}`),
        dataOffset,
        hadUndefinedLength ? undefined : length,
      ]),
      name,
    );
    compared += theirs.length;
  }
  assert.ok(compared > 500, `${compared}`);
});

Deno.test("readPicture() steps over sequences of every kind, and refuses endless nesting", async () => {
  const [open, item] = [[8, 0, 0x11, 0x11, 83, 81, 0, 0], [0xfe, 0xff, 0, 0xe0]];
  const none = [0xff, 0xff, 0xff, 0xff];
  const [itemEnd, end] = [[0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0], [
    0xfe,
    0xff,
    0xdd,
    0xe0,
    0,
    0,
    0,
    0,
  ]];
  const name = [0x10, 0, 0x10, 0, 80, 78, 4, 0, 65, 94, 66, 32];
  const known = [...open, 20, 0, 0, 0, ...item, 12, 0, 0, 0, ...name];
  const unknown = [...open, ...none, ...item, ...none, ...name, ...known, ...itemEnd, ...end];
  // A sequence of unknown type is implicit inside.
  const other = [9, 0, 1, 0, 85, 78, 0, 0, ...none, ...item, ...none];
  other.push(0x10, 0, 0x10, 0, 4, 0, 0, 0, 65, 94, 66, 32, ...itemEnd, ...end);
  const head = dicomFile([]);
  const rest = dicomFile(imageParts(2, 4, words(RAMP)), { preamble: false, meta: false });
  assert.deepEqual(await greys(join(head, known, unknown, other, rest)), await greys(ramp()));
  const deep = join(...Array.from({ length: 10_000 }, () => [...open, ...none, ...item, ...none]));
  assert.match(await refusal(join(head, deep)), /cut off: its sequences are nested too deep$/);
  assert.match(await refusal(join(head, unknown.slice(0, -8))), /cut off: a sequence has no end$/);
  assert.match(
    await refusal(join(head, [8, 0, 1, 0, 67, 83, 9, 0, 1])),
    /element at byte 0 ends at/,
  );
  assert.match(await refusal(join(head, [8, 0, 1, 0, 1, 2, 9, 0, 1])), /byte 0 has no known type$/);
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
  // A 64-bit type before the pixels.
  const offsets: Part = [0x7fe00001, "OV", bytes(0, 0, 0, 0, 0, 0, 0, 0)];
  assert.deepEqual(await greys(dicomFile([...little.slice(0, -1), offsets, little.at(-1)!])), want);
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
  const long = dicomFile(imageParts(2, 4, words([...RAMP, 0])));
  assert.match(await refusal(long), /has 18 bytes in the file; 4x2x1 samples of 16 bits need 16$/);
  assert.match(await refusal(long.slice(0, -2)), /has 16 bytes in the file of 18 declared; 4x2x1/);
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
