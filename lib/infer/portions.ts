// What is read in one pass: long prompts go in portions, so that activations stay small. Text may be cut anywhere,
// its tokens see only what is before them; an image is one portion, its tokens see each other.

import type { UniMedVLConfig } from "../model/config.ts";
import { type Block, blockTokens } from "./pass.ts";

/** Tokens of a portion, unless a single image has more. */
export const PORTION = 4096;

/**
 * Cuts what each of several sequences reads into portions that are read one after another.
 *
 * @param most tokens of all sequences together in one portion; an image that has more is a portion of its own
 * @returns for each portion, what each sequence reads in it, possibly nothing
 */
export function portionsOf(
  sequences: readonly (readonly Block[])[],
  config: UniMedVLConfig,
  most = PORTION,
): Block[][][] {
  const share = Math.max(1, Math.floor(most / Math.max(1, sequences.length)));
  const queues = sequences.map((blocks) => [...blocks]);
  const portions: Block[][][] = [];
  while (queues.some((queue) => queue.length > 0)) {
    portions.push(queues.map((queue) => takePortion(queue, config, share)));
  }
  return portions;
}

/** Takes blocks off the front of a queue: up to `share` tokens, at least something. */
function takePortion(queue: Block[], config: UniMedVLConfig, share: number): Block[] {
  const taken: Block[] = [];
  let left = share;
  while (queue.length > 0 && left > 0) {
    const [block] = queue;
    const tokens = blockTokens(block, config);
    if (tokens <= left || block.kind !== "text" && taken.length === 0) {
      taken.push(block);
      queue.shift();
      left -= tokens;
      continue;
    }
    if (block.kind !== "text") break;
    const ids = Array.from(block.ids);
    taken.push({ kind: "text", ids: ids.slice(0, left) });
    queue[0] = { kind: "text", ids: ids.slice(left) };
    break;
  }
  return taken;
}
