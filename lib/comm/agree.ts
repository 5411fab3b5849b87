// Whether all ranks hold the same, and whether any of them wants something: what a group must settle together, since a
// rank that stops or differs alone leaves the others waiting or trains another model.

import { createHash } from "node:crypto";
import { LabError } from "../errors.ts";
import type { Communicator } from "./communicator.ts";

/** Bytes of a digest (SHA-256). */
export const DIGEST_BYTES = 32;

/** True on every rank if it is true on any: a wish to stop, a loss that is not finite. */
export async function anyRank(communicator: Communicator, wish: boolean): Promise<boolean> {
  const [wishes] = await communicator.sumNumbers([wish ? 1 : 0]);
  return wishes > 0;
}

/**
 * Compares digests of named contents with those of rank 0. All ranks learn of a difference and throw alike.
 *
 * @param digests {@link DIGEST_BYTES} bytes by name, the same names in the same order on every rank
 * @throws {LabError} If a rank differs, with the first name that does
 * @throws {RangeError} If a digest has another size
 */
export async function checkAgreement(
  communicator: Communicator,
  what: string,
  digests: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const { rank, size } = communicator;
  const names = [...digests.keys()];
  const list = createHash("sha256").update(names.join("\n")).digest();
  const parts = [["list of names", list] as const, ...digests];
  const own = new Uint8Array(DIGEST_BYTES * parts.length);
  parts.forEach(([name, digest], i) => {
    if (digest.length !== DIGEST_BYTES) {
      throw new RangeError(`Cannot compare ${name}: its digest has ${digest.length} bytes`);
    }
    own.set(digest, DIGEST_BYTES * i);
  });
  const [n, squares] = await communicator.sumNumbers([names.length, names.length ** 2]);
  if (size * squares !== n * n) { // not all equal, as every rank can tell
    throw new LabError(
      `Cannot go on: rank ${rank} has ${names.length} ${what}, others have another number of them`,
      { help: "start every rank with the same config and checkpoint" },
    );
  }
  const first = own.slice();
  await communicator.broadcast(first, 0);
  const at = own.findIndex((byte, i) => byte !== first[i]);
  // Each rank fills its own place: 0 if it agrees, else 1 + the number of the name.
  const mine = Array.from(
    { length: size },
    (_, r) => r === rank && at >= 0 ? 1 + Math.floor(at / DIGEST_BYTES) : 0,
  );
  const all = await communicator.sumNumbers(mine);
  const other = all.findIndex((found) => found > 0);
  if (other < 0) return;
  const differing = all.filter((found) => found > 0).length;
  const more = differing > 1 ? ` (and ${differing - 1} more ranks differ)` : "";
  throw new LabError(
    `Cannot go on: ${what} differ between ranks: rank ${other} has another ` +
      `${parts[all[other] - 1][0]} than rank 0${more}`,
    {
      help: "start again with --resume from the last checkpoint, on machines with the same adapter",
    },
  );
}
