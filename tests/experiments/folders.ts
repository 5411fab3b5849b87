// Small data folders for tests: images made on the spot, a manifest, a temporary place for them.

import { encodePng } from "../../lib/data/image.ts";
import { Draws } from "../../lib/data/draws.ts";

/** Files by relative path. */
export type Files = Record<string, string | Uint8Array>;

/** A line of a manifest, and the picture of its file. */
export interface Line {
  id: string;
  file: string;
  split: string;
  modality: string;
  label?: string;
  group?: string;
  qa?: { question: string; answer: string }[];
  pixels: () => Promise<Uint8Array>;
}

/** Writes files to a folder and runs `body` there. */
export async function withFolder(files: Files, body: (dir: string) => Promise<void>) {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(`${dir}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(`${dir}/${name}`, bytes);
    }
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** A medpack folder. */
export async function medpackFolder(list: readonly Line[]): Promise<Files> {
  const files: Files = { "manifest.jsonl": lines(list) };
  for (const { file, pixels } of list) files[file] = await pixels();
  return files;
}

/** A manifest's text. */
export function lines(list: readonly Line[]): string {
  return list.map(({ pixels: _, ...line }) => JSON.stringify(line)).join("\n");
}

/** A 20 × 16 PNG of about this colour; the key decides the grain. */
export function speckle(key: string, colour: readonly number[]): () => Promise<Uint8Array> {
  return () => {
    const draws = new Draws("speckle", key, ...colour);
    const data = Uint8Array.from({ length: 960 }, (_, i) => colour[i % 3] + draws.below(30));
    return encodePng({ width: 20, height: 16, data });
  };
}

/** A 20 × 16 PNG of one colour. */
export function flat(colour: readonly number[]): () => Promise<Uint8Array> {
  const data = Uint8Array.from({ length: 960 }, (_, i) => colour[i % 3]);
  return () => encodePng({ width: 20, height: 16, data });
}
