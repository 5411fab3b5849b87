// Which checkpoint a run goes on from: the newest one that is whole, by the sizes and sums in its list. What was
// passed over is told, with the reason.

import { InputError } from "../../errors.ts";
import { DISK, tellingFiles } from "./files.ts";
import { type Manifest, readManifest, verifyFolder } from "./manifest.ts";
import { checkpointsOf, givenNames, leftover, stepFolder, stepOf } from "./names.ts";

/** A folder that may be a checkpoint. */
export interface Candidate {
  path: string;
  /** The folder's name. */
  name: string;
  step: number;
  /** Absent if it cannot be read; then `why` says so. */
  manifest?: Manifest;
  why?: string;
}

/** A checkpoint that is whole. */
export interface Found {
  path: string;
  step: number;
  manifest: Manifest;
  /** Newer ones that are not whole. */
  skipped: { path: string; why: string }[];
}

/**
 * The folders of a run's steps by what their lists say, newest first: of two sessions the later, then of two steps the
 * later. So a run that went on from an earlier step goes on from what it did then. Those without a readable list are
 * last, by step. A folder that was set aside counts while nothing stands in its place.
 */
export async function candidates(runDir: string): Promise<Candidate[]> {
  const folder = checkpointsOf(runDir);
  const names = await tellingFiles(DISK).list(folder) ?? [];
  const found: Candidate[] = [];
  for (const name of names) {
    const aside = leftover(name);
    const stands = aside?.kind === "old" && !names.includes(aside.step);
    const step = stepOf(stands ? aside.step : name);
    if (step === undefined) continue;
    const path = `${folder}/${name}`;
    try {
      found.push({ path, name, step, manifest: await readManifest(path) });
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      found.push({ path, name, step, why: error.message });
    }
  }
  const session = ({ manifest }: Candidate) => manifest?.session ?? -1;
  return found.sort((a, b) => session(b) - session(a) || b.step - a.step);
}

/**
 * The checkpoint to go on from. Reads all bytes of it, and of newer ones that are damaged.
 *
 * @param which a step, or a name such as `best`; default: the newest that is whole
 * @returns null if the run has none at all
 * @throws {InputError} If the one asked for is absent or damaged, or if there are some and none is whole
 */
export async function findCheckpoint(
  runDir: string,
  which: { step?: number; name?: string } = {},
): Promise<Found | null> {
  const all = await candidates(runDir);
  if (which.name !== undefined || which.step !== undefined) {
    return await findOne(runDir, all, which);
  }
  const skipped: Found["skipped"] = [];
  const broken = all.filter(({ manifest }) => !manifest);
  for (const { path, step, manifest } of all) {
    if (!manifest) break;
    try {
      await verifyFolder(path);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      skipped.push({ path, why: error.message });
      continue;
    }
    const newer = broken.filter((other) => other.step > step);
    for (const other of newer) skipped.push({ path: other.path, why: other.why! });
    return { path, step, manifest, skipped };
  }
  if (all.length === 0) return null;
  const reasons = [...skipped.map(({ why }) => why), ...broken.map(({ why }) => why!)];
  throw new InputError(
    `Cannot resume ${runDir}: none of its ${all.length} checkpoints is whole: ${
      reasons.join("; ")
    }`,
    {
      help: "start another run by --run, or remove the damaged checkpoints to start this one over",
    },
  );
}

async function findOne(
  runDir: string,
  all: readonly Candidate[],
  { step, name }: { step?: number; name?: string },
): Promise<Found> {
  let wanted = step === undefined ? undefined : stepFolder(step);
  if (name !== undefined) {
    wanted = (await givenNames(runDir)).get(name);
    if (wanted === undefined) {
      throw new InputError(`Cannot resume ${runDir} from ${name}: no checkpoint has this name`);
    }
  }
  const found = all.find((candidate) => stepFolder(candidate.step) === wanted);
  if (!found) {
    const there = all.map((candidate) => candidate.step).sort((a, b) => a - b).join(", ");
    throw new InputError(
      `Cannot resume ${runDir} from ${name ?? `step ${step}`}: it has no such ` +
        `checkpoint`,
      { help: there ? `it has those of steps ${there}` : "it has none at all" },
    );
  }
  const manifest = await verifyFolder(found.path);
  return { path: found.path, step: found.step, manifest, skipped: [] };
}
