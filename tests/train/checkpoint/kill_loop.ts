// Kills a process that saves checkpoints, again and again at random moments, and looks at what it left.

import assert from "node:assert/strict";
import { findCheckpoint } from "../../../lib/train/checkpoint/find.ts";
import { cleanUp } from "../../../lib/train/checkpoint/retention.ts";
import { uniform } from "../../helpers.ts";
import { assertHolds, assertNoHalves, FILES, namesIn } from "./snapshots.ts";

const CHILD = new URL("kill_child.ts", import.meta.url).pathname;
/** Rows of the largest tensors, in sevens: a save takes some tens of milliseconds. */
const SCALE = 500;

/** What came of the kills. */
export interface Kills {
  /** Checkpoints acknowledged by all processes together. */
  acknowledged: number;
  /** Kills that left an unfinished folder. */
  interrupted: number;
}

/**
 * Runs a process in a run folder and kills it with SIGKILL at a random moment of its saving; `kills` times,
 * each going on where the one before came to. After each kill the newest acknowledged checkpoint, or a later one, must
 * be found whole and right to the byte, and nothing half written may have a final name.
 *
 * @param deno path of Deno
 * @param seed of the moments
 */
export async function killRepeatedly(
  runDir: string,
  kills: number,
  deno: string,
  seed: number,
): Promise<Kills> {
  const next = uniform(seed);
  const result: Kills = { acknowledged: 0, interrupted: 0 };
  let last = 0;
  let saveMs = 50;
  for (let session = 1; session <= kills; session++) {
    const child = new Deno.Command(deno, {
      args: [
        "run",
        "--no-prompt",
        "--no-check",
        "--allow-read",
        `--allow-write=${runDir}`,
        CHILD,
        runDir,
        String(session),
        String(SCALE),
      ],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const lines = linesOf(child.stdout);
    const first = await lines.next();
    assert.equal(first.value, `from ${last}`, `seed ${seed}, kill ${session}`);
    // After up to two saves, somewhere in the next one or just behind it: however fast the machine is today.
    let saves = Math.floor(3 * next());
    const kill = () => setTimeout(() => child.kill("SIGKILL"), 1.2 * saveMs * next());
    if (saves === 0) kill();
    let since = performance.now();
    for await (const line of lines) {
      last = Number(/^saved (\d+)$/.exec(line)?.[1]);
      result.acknowledged++;
      saveMs = performance.now() - since;
      since = performance.now();
      if (--saves === 0) kill();
    }
    const { signal } = await child.status;
    assert.equal(signal, "SIGKILL");
    const what = `seed ${seed}, kill ${session}: ${namesIn(runDir).join(", ")}`;
    if (namesIn(runDir).some((name) => /\.(tmp|old)/.test(name))) result.interrupted++;
    await assertNoHalves(runDir);
    await cleanUp(runDir);
    assert.ok(namesIn(runDir).every((name) => /^(latest|step-\d{7})$/.test(name)), what);
    const found = await findCheckpoint(runDir);
    // The one in hand may have been complete before it could be acknowledged.
    assert.ok(found === null ? last === 0 : found.step === last || found.step === last + 1, what);
    assert.deepEqual(found?.skipped ?? [], []);
    last = found?.step ?? 0;
    if (found) await assertHolds(found.path, found.step, FILES, SCALE);
  }
  return result;
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
