// The samples in experiments/formats/, and the decoding of whatever images records name.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { makeFormats } from "../../../experiments/make_formats.ts";
import { Draws } from "../../../lib/data/draws.ts";
import { decodeRef } from "../../../lib/data/training/decode_ref.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import { type InspectedRecord, TASKS } from "../../../lib/data/training/record.ts";
import { normalize } from "../../../lib/data/transforms.ts";
import { refusal } from "./folders.ts";

const SAMPLES = fileURLToPath(new URL("../../../experiments/formats", import.meta.url));
const FORMATS = fileURLToPath(new URL("../../../../shared/data/formats", import.meta.url));
const hasFormats = existsSync(FORMATS);

/** All of a sample, pictures decoded. */
async function contents(dir: string) {
  const source = await openSource(dir);
  try {
    assert.equal(source.bad.count, 0);
    const records: unknown[] = [];
    for (let i = 0; i < source.count; i++) {
      const { where: _, images, ...rest }: InspectedRecord = await source.inspect(i);
      const decoded = await Promise.all(images.map(({ image }) => decodeRef(image)));
      assert.ok((await source.read(i, new Draws(i))).parts.length >= 2);
      records.push({ ...rest, roles: images.map((image) => image.role), decoded });
    }
    const tasks = [...new Set([...source.tasks].map((t) => TASKS[t]))].sort();
    return { format: source.format, tasks, records };
  } finally {
    source.close();
  }
}

const EXPECTED = {
  unimedvl: ["i2t", "interleaved", "t2i", "text"],
  vlm: ["i2t", "text"],
  t2i: ["t2i"],
  edit: ["interleaved"],
  folder: ["t2i"],
};

Deno.test("each format has a page and a sample, which its script makes again", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await makeFormats(dir);
    for (const [format, tasks] of Object.entries(EXPECTED)) {
      const kept = await contents(`${SAMPLES}/${format}`);
      assert.deepEqual([kept.format, kept.tasks], [format, tasks]);
      assert.ok(kept.records.length >= 2);
      assert.deepEqual(await contents(`${dir}/${format}`), kept);
      const page = await Deno.readTextFile(`${SAMPLES}/${format}/README.md`);
      assert.match(page, new RegExp(`deno task data check experiments/formats/${format}`));
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("decodeRef() gives paths, bytes and pixels alike, EXIF orientation ignored", async () => {
  const data = Uint8Array.from({ length: 5 * 4 * 3 }, (_, i) => i * 89 % 256);
  const raw = sharp(data, { raw: { width: 5, height: 4, channels: 3 } });
  const bytes = new Uint8Array(await raw.withMetadata({ orientation: 6 }).png().toBuffer());
  const path = await Deno.makeTempFile();
  await Deno.writeFile(path, bytes);
  const pixels = normalize({ width: 5, height: 4, data });
  for (const source of [{ path }, { bytes }, { pixels }]) {
    const { width, height, data: found } = await decodeRef({ name: "x", ...source });
    assert.deepEqual([width, height, found], [5, 4, data]);
  }
  await Deno.remove(path);
  assert.match(
    await refusal(() => decodeRef({ name: "a.png", path }, { where: "d.jsonl line 3" })),
    /^Cannot read picture a\.png of d\.jsonl line 3: No such file/,
  );
  assert.match(
    await refusal(() => decodeRef({ name: "row 3", bytes: bytes.subarray(0, 60) })),
    /^Cannot read picture row 3: it is damaged or cut off/,
  );
});

Deno.test({
  name: "decodeRef() reads DICOM, NIfTI and 16-bit pictures" +
    (hasFormats ? "" : " (skipped: ../shared/data is absent)"),
  ignore: !hasFormats,
  fn: async () => {
    const names = [
      "ct_small_explicit_le_16bit.dcm",
      "example_nifti2.nii.gz",
      "gray_u16_be.tif",
      "mr_t1c_head_256_gray16.png",
    ];
    for (const name of names) {
      const { width, height, data } = await decodeRef({ name, path: `${FORMATS}/${name}` });
      assert.equal(data.length, 3 * width * height, name);
      assert.ok(new Set(data).size >= 8, `${name} has ${new Set(data).size} levels`);
    }
    const ct = { name: "ct", path: `${FORMATS}/${names[0]}` };
    const lung = await decodeRef(ct, { window: "lung" });
    assert.notDeepEqual(lung.data, (await decodeRef(ct)).data);
  },
});
