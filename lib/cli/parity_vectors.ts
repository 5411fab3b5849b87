// `deno task parity tokenizer` and `parity safetensors`: files of test vectors, a line for each miss and the totals
// by kind. Nothing here needs a device.

import { openTokenizer } from "../data/tokenizer.ts";
import { checkSafetensorsCase, readSafetensorsCases } from "../parity/safetensors.ts";
import { checkTokenizerVector, readTokenizerVectors } from "../parity/tokenizer.ts";
import type { CheckedCase } from "../parity/vector_list.ts";
import type { Output } from "./parity_folder.ts";

/** Checks a file of tokenizer vectors against the tokenizer of a folder. @returns the exit code, 0 or 1 */
export async function checkTokenizer(path: string, dir: string, output: Output): Promise<number> {
  const vectors = await readTokenizerVectors(path);
  const tokenizer = await openTokenizer(dir);
  return report(vectors.map((vector, i) => checkTokenizerVector(tokenizer, vector, i)), output);
}

/** Checks a file of safetensors cases against our header reader. @returns the exit code, 0 or 1 */
export async function checkSafetensors(path: string, output: Output): Promise<number> {
  const cases = await readSafetensorsCases(path);
  return report(cases.map(checkSafetensorsCase), output);
}

function report(cases: readonly CheckedCase[], { print, emit }: Output): number {
  const kinds = new Map<string, { passed: number; total: number }>();
  for (const { name, kind, misses } of cases) {
    const count = kinds.get(kind) ?? { passed: 0, total: 0 };
    count.total++;
    if (misses.length === 0) count.passed++;
    kinds.set(kind, count);
    emit({ event: "case", name, kind, ok: misses.length === 0, misses });
    for (const miss of misses) print(`MISS ${kind} ${name}: ${miss}`);
  }
  for (const [kind, { passed, total }] of kinds) {
    print(`${passed === total ? "ok  " : "MISS"} ${kind.padEnd(26)} ${passed} of ${total}`);
  }
  const failed = cases.filter(({ misses }) => misses.length > 0).length;
  const passed = cases.length - failed;
  print(`total: ${cases.length} cases, ${passed} as expected, ${failed} not`);
  emit({ event: "done", passed, failed });
  return failed === 0 ? 0 : 1;
}
