// What the ranks of one training settle together besides gradients: how many tokens a window has, the joint norm of
// gradients that are shared out, and whether their weights are still the same.

import { createHash } from "node:crypto";
import { checkAgreement } from "../comm/agree.ts";
import type { Communicator } from "../comm/communicator.ts";
import { readAll, Tensor } from "../tensor.ts";

/** What the losses of a window are divided by. */
export interface TokenCounts {
  /** Predicted text tokens. */
  textTokens: number;
  /** Sum of their weights. */
  textWeight: number;
  /** Latent tokens with a flow loss. */
  flowTokens: number;
}

/** Sums counts over micro-batches: of one rank's window, or over all. */
export function addCounts(counts: Iterable<Readonly<TokenCounts>>): TokenCounts {
  const sum = { textTokens: 0, textWeight: 0, flowTokens: 0 };
  for (const { textTokens, textWeight, flowTokens } of counts) {
    sum.textTokens += textTokens;
    sum.textWeight += textWeight;
    sum.flowTokens += flowTokens;
  }
  return sum;
}

/**
 * The counts of a whole window over all ranks, in f64, to be asked for before the losses are built: dividing each rank's
 * sums by them gives the same losses and gradients as one process with all the batches.
 */
export async function sumCounts(
  communicator: Communicator,
  own: Readonly<TokenCounts>,
): Promise<TokenCounts> {
  const sums = await communicator.sumNumbers([own.textTokens, own.textWeight, own.flowTokens]);
  return { textTokens: sums[0], textWeight: sums[1], flowTokens: sums[2] };
}

/**
 * `Σ x²` over all ranks' shares of the gradients, for clipping by the joint norm.
 *
 * @param own (1) this rank's sum; undefined if it has no share
 * @returns (1) f32, the same on every rank
 */
export async function sumSquaresOverRanks(
  communicator: Communicator,
  own: Tensor | undefined,
  gpu: Tensor["gpu"],
): Promise<Tensor> {
  const [value] = own ? await own.floats() : [0];
  const [sum] = await communicator.sumNumbers([value]);
  return Tensor.from(gpu, [sum], [1]);
}

/** Bytes that are read back at once to be hashed. */
const MOST_BYTES = 2 ** 26;

/**
 * Compares all weights with those of rank 0, bit by bit through SHA-256.
 *
 * @param parameters name and tensor, the same names in the same order on every rank
 * @throws {LabError} If a rank differs, with the first name that does (exit 1)
 */
export async function checkSameWeights(
  communicator: Communicator,
  parameters: Iterable<readonly [string, Tensor]>,
): Promise<void> {
  if (communicator.size === 1) return;
  const digests = new Map<string, Uint8Array>();
  let batch: (readonly [string, Tensor])[] = [];
  let bytes = 0;
  const hash = async () => {
    const values = await readAll(batch.map(([, tensor]) => tensor));
    values.forEach(({ buffer, byteOffset, byteLength }, i) => {
      const raw = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
      digests.set(batch[i][0], createHash("sha256").update(raw).digest());
    });
    batch = [];
    bytes = 0;
  };
  for (const entry of parameters) {
    batch.push(entry);
    bytes += 4 * entry[1].size;
    if (bytes >= MOST_BYTES) await hash();
  }
  await hash();
  await checkAgreement(communicator, "weights", digests);
}
