// A process that saves checkpoints until it is killed, one line on stdout for each that it has acknowledged. It goes on
// from the newest whole one, as a training run does. Arguments: run folder, session, rows of its tensors in sevens.

import { findCheckpoint } from "../../../lib/train/checkpoint/find.ts";
import { cleanUp } from "../../../lib/train/checkpoint/retention.ts";
import { writeCheckpoint } from "../../../lib/train/checkpoint/write.ts";
import { FILES, snapshotOf } from "./snapshots.ts";

const [runDir, session, scale] = Deno.args;
const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
await cleanUp(runDir);
const found = await findCheckpoint(runDir);
say(`from ${found?.step ?? 0}`);
for (let step = (found?.step ?? 0) + 1;; step++) {
  const snapshot = snapshotOf(step, FILES, Number(scale));
  await writeCheckpoint(runDir, snapshot, { keep: 2, session: Number(session) });
  say(`saved ${step}`);
}
