// Every public name says what it is.

import assert from "node:assert/strict";
import { sourceFiles } from "./source_files.ts";

const EXPORT =
  /^export (?:async |abstract )*(?:function\*?|class|const|let|interface|type|enum) (\w+)/;

/** Exported names of a file without a docstring. A docstring covers the one-line exports right below it. */
function undocumented(text: string): string[] {
  const names: string[] = [];
  let covered = false;
  for (const line of text.split("\n")) {
    const name = EXPORT.exec(line)?.[1];
    if (name !== undefined) {
      if (!covered) names.push(name);
      covered = covered && line.endsWith(";");
    } else if (line.endsWith("*/")) covered = true;
    else if (!line.startsWith("// deno-lint-ignore")) covered = false;
  }
  return names;
}

Deno.test("undocumented() finds a bare export and accepts documented ones", () => {
  const text = [
    "/** Doc. */",
    "export const A = 1;",
    "export type B = 2;",
    "",
    "export interface C {",
    "}",
    "/** Doc. */",
    "export async function d() {",
    "}",
    "export function e() {}",
  ].join("\n");
  assert.deepEqual(undocumented(text), ["C", "e"]);
});

Deno.test("every exported name in lib has a docstring", async () => {
  const missing: string[] = [];
  for (const { path, text } of await sourceFiles("lib")) {
    for (const name of undocumented(text)) missing.push(`${path}: ${name}`);
  }
  assert.deepEqual(missing, []);
});
