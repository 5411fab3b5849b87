// When records that cannot be used are too many to go on without them.

import { InputError } from "../../errors.ts";

/** The share of bad records is not judged on fewer than this. */
const LEAST_READ = 100;

/** Records that may be bad among those read. @param mostBad their share; 0: none */
export function mostBadAllowed(mostBad: number, read: number): number {
  return mostBad * Math.max(read, LEAST_READ);
}

/**
 * Refuses to go on if records that were left out are too many.
 *
 * @param tally records read and, of them, bad
 * @param mostBad the share that may be bad; 0: none
 * @param messages what is wrong with the last ones
 * @param setting where `mostBad` is set
 * @throws {InputError} If they are
 */
export function refuseTooManyBad(
  { read, bad }: { read: number; bad: number },
  mostBad: number,
  messages: readonly string[],
  setting: string,
): void {
  if (bad <= mostBadAllowed(mostBad, read)) return;
  const help = "Repair or remove these records (deno task data check lists them all), " +
    `or allow a share of bad ones with ${setting}`;
  if (mostBad === 0) throw new InputError(messages.at(-1)!, { help });
  throw new InputError(
    `Cannot go on loading: ${bad} of ${read} records read are bad, more than ${100 * mostBad} %; ` +
      `the last: ${messages.slice(-3).join("; ")}`,
    { help },
  );
}
