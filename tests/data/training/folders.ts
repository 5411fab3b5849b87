// Folders of files for tests of the readers of training data.

import assert from "node:assert/strict";
import type { Part } from "../../../lib/data/training/record.ts";
import { openSource } from "../../../lib/data/training/open_source.ts";
import type { RecordSource, SourceOptions } from "../../../lib/data/training/source.ts";
import { InputError } from "../../../lib/errors.ts";

/** Contents by relative path. */
export type Files = Record<string, string | Uint8Array>;

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

/** Opens a folder of files as a source, and closes it after `body`. */
export async function withSource(
  files: Files,
  body: (source: RecordSource, dir: string) => Promise<void>,
  options: SourceOptions & { at?: string } = {},
) {
  await withFolder(files, async (dir) => {
    const { at, ...rest } = options;
    const source = await openSource(at ? `${dir}/${at}` : dir, rest);
    try {
      await body(source, dir);
    } finally {
      source.close();
    }
  });
}

/** The message of the InputError that `work` ends in; checked to have a repair and to be one line. */
export async function refusal(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof InputError, `${(error as Error).stack}`);
    assert.ok(error.help, `no help with: ${error.message}`);
    assert.doesNotMatch(error.message, /\n|os error/);
    return error.message;
  }
  return "accepted";
}

/** Parts in short: `noisy a.png`, `"text"` with + for loss and ? for dropout. */
export function brief(parts: readonly Part[]): string[] {
  return parts.map((part) => {
    const what = part.type === "text"
      ? `${JSON.stringify(part.text)}${part.loss ? "+" : ""}`
      : `${part.use} ${part.image.name.replace(/^.*row \d+, /, "")}`;
    return what + (part.dropout ? "?" : "");
  });
}
