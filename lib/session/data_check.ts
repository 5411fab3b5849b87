// The data of a training, looked at as `deno task data check` does, before the first step: what cannot be used is left
// out, and what is held out too is not trained on. What was found is kept with the run; a resume looks at nothing again.

import type { Communicator } from "../comm/communicator.ts";
import { SOLO } from "../comm/communicator.ts";
import { checkData, NEAR_BITS } from "../data/training/check.ts";
import type { Finding, FindingKind } from "../data/training/check_findings.ts";
import { DEFAULT_TOKEN_RULES } from "../data/training/check_tally.ts";
import { excludeRecords, placeOf } from "../data/training/exclusions.ts";
import { mostBadAllowed } from "../data/training/too_many_bad.ts";
import { InputError } from "../errors.ts";
import { sha256 } from "../study/provenance.ts";
import type { TrainConfig } from "../train/config/schema.ts";
import { writeWhole } from "../write_whole.ts";
import type { OpenSources } from "./data.ts";

/** A record to leave out, or to warn of. */
export interface Found {
  /** Position of its source. */
  source: number;
  index: number;
  where: string;
  field?: string;
  kind: FindingKind;
  message: string;
}

/** What a check found. */
export interface DataCheck {
  /** Of which data under which rules. */
  key: string;
  /** Records checked. */
  records: number;
  /** Records to leave out, each once. */
  bad: Found[];
  /** Held-out records checked, and those to leave out. */
  heldOut: number;
  badHeldOut: Found[];
  /** Records to warn of, by kind. */
  told: { kind: FindingKind; count: number; first: string }[];
}

/** What a check takes besides the data. */
export interface CheckParts {
  /** Folder of the run, where an earlier check may lie. */
  run?: string;
  comm?: Communicator;
  signal?: AbortSignal;
  onNote?: (text: string) => void;
  /** Called now and then. @param what "reading" or "comparing" */
  onLook?: (what: string, done: number, total: number) => void;
}

type Rules = Pick<TrainConfig["data"], "checkUpTo" | "leaks" | "mostBad" | "workers">;

const FILE = "data-check.json";
const LEAKS: readonly FindingKind[] = ["leak", "near-leak"];
/** Training takes images and texts of any size. */
const LIMITS = { minSide: 0, minText: 0, maxText: Infinity };
/** Records between two words on progress. */
const TELL_EVERY = 50;

/**
 * Checks what is trained on, against what is held out, and what is held out; the first process does it for all.
 *
 * Phantoms are made anew by seeds of their own and are not looked at.
 *
 * @returns undefined if nothing was checked
 * @throws {InputError} If more records are bad than `data.mostBad` allows
 */
export async function checkSources(
  rules: Rules,
  sources: OpenSources,
  heldOut: OpenSources,
  parts: CheckParts = {},
): Promise<DataCheck | undefined> {
  const count = countOf(sources) + countOf(heldOut);
  if (count === 0 || rules.checkUpTo === 0) return undefined;
  const { comm = SOLO } = parts;
  const first = comm.rank === 0;
  if (count > rules.checkUpTo) {
    const why = `more than data.checkUpTo ${rules.checkUpTo}`;
    if (first) {
      parts.onNote?.(`the data's ${count} records, ${why}, are checked only as they are read`);
    }
    return undefined;
  }
  const key = keyOf(rules, real(sources), real(heldOut));
  const check = await fromFirst(comm, async () => {
    const known = parts.run === undefined ? undefined : await readCheck(parts.run);
    return known?.key === key ? known : await look(key, rules, sources, heldOut, parts);
  });
  refuseTooMany(check.bad, check.records, "sources", rules);
  refuseTooMany(check.badHeldOut, check.heldOut, "validation", rules);
  if (first) { for (const note of notesOf(check)) parts.onNote?.(note); }
  return check;
}

/** The sources without those records that a check found bad. */
export function leaveOut(sources: OpenSources, bad: readonly Found[] = []): OpenSources {
  const bySource = Map.groupBy(bad, ({ source }) => source);
  return sources.map((opened, i) => {
    const { source } = opened;
    const list = (bySource.get(i) ?? []).map(({ index, kind, message }) => ({
      record: placeOf(source, index),
      kind,
      why: message,
      index,
      records: source.count,
      fingerprint: source.fingerprint,
    }));
    return list.length === 0 ? opened : { ...opened, source: excludeRecords(source, list) };
  });
}

/** Keeps what was found with the run. */
export async function saveCheck(run: string, check: DataCheck | undefined): Promise<void> {
  if (check) await writeWhole(`${run}/${FILE}`, JSON.stringify(check, null, 2) + "\n");
}

async function readCheck(run: string): Promise<DataCheck | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(`${run}/${FILE}`));
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    throw new InputError(`Cannot read ${run}/${FILE}: ${(cause as Error).message}`, {
      cause,
      help: "remove it: the data is checked again",
    });
  }
}

function keyOf({ leaks }: Rules, own: OpenSources, other: OpenSources): string {
  const prints = (opened: OpenSources) => opened.map(({ source: s }) => [s.name, s.fingerprint]);
  return sha256(JSON.stringify([2, leaks, NEAR_BITS, prints(own), prints(other)]));
}

async function look(
  key: string,
  { leaks, workers }: Rules,
  sources: OpenSources,
  heldOut: OpenSources,
  { onLook, signal }: CheckParts,
): Promise<DataCheck> {
  const others = real(heldOut).map(({ source }) => source);
  const told = new Map<FindingKind, { records: Set<string>; first: string }>();
  const tell = (finding: Finding, source: number) => {
    const before = told.get(finding.kind) ?? { records: new Set(), first: placed(finding) };
    before.records.add(`${source} ${finding.index}`);
    told.set(finding.kind, before);
  };
  const lookAt = async (
    opened: OpenSources,
    isBad: (kind: FindingKind) => boolean,
    own: boolean,
  ) => {
    const bad = new Map<string, Found>();
    for (const [position, { source }] of opened.entries()) {
      if (source.format === "phantoms") continue;
      await checkData(source, {
        against: own ? others : [],
        limits: LIMITS,
        tokens: DEFAULT_TOKEN_RULES,
        near: own ? NEAR_BITS : 0,
        workers,
        onFinding: (finding) => {
          const { kind, level, index, where, field, message } = finding;
          if (level !== "error" || !isBad(kind)) return own ? tell(finding, position) : undefined;
          const about = field === undefined ? {} : { field };
          const found = { source: position, index, where, ...about, kind, message };
          if (!bad.has(`${position} ${index}`)) bad.set(`${position} ${index}`, found);
        },
        onProgress: (what, done, total) => {
          if (done % TELL_EVERY === 0) onLook?.(what, done, total);
        },
        ...(signal ? { signal } : {}),
      });
    }
    return [...bad.values()];
  };
  const bad = await lookAt(sources, (kind) => leaks === "refuse" || !LEAKS.includes(kind), true);
  const badHeldOut = await lookAt(heldOut, (kind) => !LEAKS.includes(kind), false);
  const counted = [...told].map(([kind, { records, first }]) => ({
    kind,
    count: records.size,
    first,
  }));
  return {
    key,
    records: countOf(sources),
    bad,
    heldOut: countOf(heldOut),
    badHeldOut,
    told: counted,
  };
}

const real = (opened: OpenSources) => opened.filter(({ source }) => source.format !== "phantoms");

const countOf = (opened: OpenSources) =>
  real(opened).reduce((n, { source }) => n + source.count, 0);

/** What was found, with its place; what cannot be read has it in its message. */
function placed({ kind, where, field, message }: Omit<Found, "source" | "index">): string {
  if (kind === "record" || kind === "image") return message;
  return `${where}${field === undefined ? "" : `, "${field}"`}: ${message}`;
}

const WORDS: Partial<Record<FindingKind, string>> = {
  record: "cannot be read",
  image: "have an image that cannot be decoded",
  missing: "lack a part",
  leak: "have an image that is held out too",
  "near-leak": "have an image that looks like one held out",
  "text-leak": "have a text that is held out too",
  repeated: "repeat another",
  duplicate: "name a file with the pixels of another",
  "near-duplicate": "have an image that looks like another",
  flat: "have an image of one grey",
};

/** `3 repeat another, 2 lack a part` */
function countsOf(counts: readonly { kind: FindingKind; count: number }[]): string {
  return counts.map(({ kind, count }) => `${count} ${WORDS[kind] ?? kind}`).join(", ");
}

function badCounts(bad: readonly Found[]) {
  return [...Map.groupBy(bad, ({ kind }) => kind)]
    .map(([kind, found]) => ({ kind, count: found.length }));
}

function notesOf({ bad, told, records, badHeldOut, heldOut }: DataCheck): string[] {
  const notes: string[] = [];
  const out = (found: readonly Found[], of: string) =>
    `left out ${found.length} of ${of} (the run's ${FILE} lists them): ${
      countsOf(badCounts(found))
    }`;
  if (bad.length > 0) notes.push(out(bad, `${records} records`));
  if (badHeldOut.length > 0) notes.push(out(badHeldOut, `${heldOut} held-out records`));
  if (told.length > 0) {
    notes.push(
      `warning: of ${records} records ${countsOf(told)}; the first: ` +
        told.map(({ first }) => first).slice(0, 3).join("; "),
    );
  }
  return notes;
}

function refuseTooMany(
  bad: readonly Found[],
  count: number,
  list: "sources" | "validation",
  { mostBad }: Rules,
): void {
  if (bad.length <= mostBadAllowed(mostBad, count)) return;
  const first = bad.slice(0, 3).map((found) => `\n  ${placed(found)}`).join("");
  const rest = bad.length > 3 ? `\n  and ${bad.length - 3} more` : "";
  const leaks = bad.some(({ kind }) => LEAKS.includes(kind));
  const [what, against] = list === "sources"
    ? ["train on this data: of", " --against HELD-OUT"]
    : ["validate on this data: of", ""];
  throw new InputError(
    `Cannot ${what} ${count} records ${countsOf(badCounts(bad))}` +
      `${mostBad === 0 ? "" : `, more than ${100 * mostBad} %`}${first}${rest}`,
    {
      help: `deno task data check PATH${against} --fix lists them for data.${list}.N.exclude; ` +
        `or leave out up to a share of them with data.mostBad${
          leaks ? ', or train on those with data.leaks="tell"' : ""
        }`,
    },
  );
}

/** What the first process makes, on all. */
async function fromFirst(
  comm: Communicator,
  make: () => Promise<DataCheck>,
): Promise<DataCheck> {
  if (comm.size === 1) return await make();
  const own = comm.rank === 0
    ? new TextEncoder().encode(JSON.stringify(await make()))
    : new Uint8Array();
  const [bytes] = await comm.sumNumbers([own.length]);
  const shared = comm.rank === 0 ? own : new Uint8Array(bytes);
  await comm.broadcast(shared, 0);
  return JSON.parse(new TextDecoder().decode(shared));
}
