// Small data sets with planted faults, for tests of the check of training data.

import { encodePng } from "../../../lib/data/image.ts";
import type { Image } from "../../../lib/data/resize.ts";
import { decodeRef } from "../../../lib/data/training/decode_ref.ts";
import { openPhantoms } from "../../../lib/data/training/phantom_source.ts";
import { checkData, NEAR_BITS } from "../../../lib/data/training/check.ts";
import type { CheckOptions } from "../../../lib/data/training/check.ts";
import type { Finding } from "../../../lib/data/training/check_findings.ts";
import { PAPER_LIMITS } from "../../../lib/data/training/check_record.ts";
import { DEFAULT_TOKEN_RULES } from "../../../lib/data/training/check_tally.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import type { RecordSource } from "../../../lib/data/training/source.ts";

/** A phantom, different for each number. */
export async function phantomImage(index: number, size: number): Promise<Image> {
  const source = openPhantoms(`phantoms?count=${4 * index + 4}&size=${size}`);
  const { images: [{ image }] } = await source.inspect(4 * index);
  return await decodeRef(image);
}

/** The same as a PNG file. */
export async function phantomPng(index: number, size = 160): Promise<Uint8Array> {
  return await encodePng(await phantomImage(index, size));
}

/** A question about an image as VLM JSONL has it; other fields replace these. */
export function vlm(image: string, more: Record<string, unknown> = {}): string {
  return JSON.stringify({
    image,
    conversations: [
      { from: "human", value: `<image>What is on ${image}?` },
      { from: "gpt", value: "A round spot in the upper left." },
    ],
    ...more,
  });
}

/** Writes files into a new folder, and removes it afterwards. */
export async function inWorld(
  files: Record<string, string | Uint8Array>,
  work: (dir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "oka-check-" });
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(`${dir}/${name}`.replace(/[^/]*$/, ""), { recursive: true });
      if (typeof content === "string") await Deno.writeTextFile(`${dir}/${name}`, content);
      else await Deno.writeFile(`${dir}/${name}`, content);
    }
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Checks a path or a source, and gathers what is found. */
export async function check(
  data: string | RecordSource,
  more: Partial<CheckOptions> = {},
) {
  const source = typeof data === "string" ? await openSource(data) : data;
  const findings: Finding[] = [];
  try {
    const report = await checkData(source, {
      limits: PAPER_LIMITS,
      tokens: DEFAULT_TOKEN_RULES,
      near: NEAR_BITS,
      workers: 0,
      onFinding: (finding) => void findings.push(finding),
      ...more,
    });
    return { report, findings, kinds: findings.map(({ kind }) => kind) };
  } finally {
    source.close();
  }
}
