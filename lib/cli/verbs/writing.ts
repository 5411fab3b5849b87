// Writing verbs: flags into the library's options, and the finished answer.

import type { Answer } from "../../infer/ask.ts";
import { checkSampling } from "../../infer/sampling.ts";
import type { Display } from "./display.ts";
import { writeAnswer } from "./output.ts";
import type { Desk } from "./world.ts";

/**
 * Options of writing as the flags give them. What makes no sense is refused here, before a model is opened.
 *
 * @throws {UsageError} Naming the option and the repair
 */
export function writingOptions(flags: {
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  context: number;
  specialTokens: boolean;
}) {
  const { maxTokens, temperature, topK, topP, context, specialTokens } = flags;
  checkSampling({ temperature, topK, topP });
  return { maxTokens, temperature, topK, topP, context, specialTokens };
}

/** What a verb watches while it works: for the library's options. */
export function watching({ signal }: Desk, { onProgress, note }: Display) {
  return { signal, onProgress, onNote: note };
}

/** Ends an answer that was streamed: the file of --out, a note if it was cut, with --json the event. */
export async function finish(
  { emit }: Desk,
  display: Display,
  answer: Pick<Answer, "text"> & Partial<Answer>,
  out: string | undefined,
  facts: Record<string, unknown>,
): Promise<void> {
  display.done();
  if (answer.text === "") display.note("the answer is empty: the model ended it at once");
  if (out !== undefined) await writeAnswer(out, answer.text);
  if (answer.ended === false) {
    const tokens = answer.tokens?.length;
    display.note(`the answer was cut at ${tokens} tokens; --max-tokens allows more`);
  }
  emit({ event: "answer", ...answer, ...facts });
}
