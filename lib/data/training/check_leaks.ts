// What a check of data tells about two records: images that are in two splits, the same or alike, and images of
// one split that look the same.

import type { Finding } from "./check_findings.ts";
import { RecordCheck } from "./check_record.ts";
import { type ContentIndex, GROUPS, type Leak, type Twins } from "./content_index.ts";
import type { RecordSource } from "./source.ts";

/** Images in two splits. */
export interface LeakCount {
  /** The splits, the one nearer to training first. */
  splits: [lower: string, higher: string];
  /** Whether they are the same; else they look the same. */
  same: boolean;
  /** Different images of the lower split. */
  images: number;
  /** Records of each of the two splits that have them. */
  records: [lower: number, higher: number];
}

/** What was seen of all data. Records are counted over all sources, those of `source` first. */
export interface Seen {
  /** What is checked; findings are about its records. */
  source: RecordSource;
  contents: ContentIndex;
  /** The first record that has a content. */
  firstOf(content: number): number;
  /** File and line of a record. */
  placeOf(record: number): string;
  /** What a record of `source` calls a content, and its field. */
  nameOf(record: number, content: number): Promise<{ name: string; field?: string }>;
  tell(finding: Finding): void;
  signal?: AbortSignal;
}

type Users = ReturnType<ContentIndex["usersOf"]>;

/** Tells leaks, one finding for each record on the training side. @returns their numbers */
export async function tellLeaks(seen: Seen, leaks: readonly Leak[]): Promise<LeakCount[]> {
  const { source, contents } = seen;
  const users = contents.usersOf(new Set(leaks.flatMap(({ lower, higher }) => [lower, higher])));
  for (const leak of leaks) {
    const { lower, lowerGroup, higher, higherGroup } = leak;
    const far = users.get(higher)!.find(({ group }) => group === higherGroup)!;
    const other = seen.placeOf(far.record);
    const near = users.get(lower)!.filter(({ group, record }) =>
      group === lowerGroup && record < source.count
    );
    for (const { record } of near) {
      seen.signal?.throwIfAborted();
      const { name, ...field } = await seen.nameOf(record, lower);
      const { kind, message } = leakText(contents, leak, name, other);
      seen.tell(checkOf(source, record).finding(kind, message, { other, ...field }));
    }
  }
  return countLeaks(contents, leaks, users);
}

/**
 * Looks for images that look the same, and tells them.
 *
 * @param bits most of 256 bits that may differ
 * @param onStep called after each content
 * @returns numbers of those in two splits
 */
export async function tellAlike(
  seen: Seen,
  bits: number,
  onStep: (done: number) => void,
): Promise<LeakCount[]> {
  const leaks: Leak[] = [];
  const twins: Twins[] = [];
  const pairs = seen.contents.alike(bits, (done) => {
    seen.signal?.throwIfAborted();
    onStep(done);
  });
  for (const pair of pairs) {
    if ("lower" in pair) leaks.push(pair);
    else twins.push(pair);
  }
  for (const pair of twins) await tellTwins(seen, pair);
  return await tellLeaks(seen, leaks);
}

async function tellTwins(seen: Seen, { id, other, bits }: Twins): Promise<void> {
  const { source } = seen;
  const [record, before] = [seen.firstOf(id), seen.firstOf(other)];
  // An edited picture looks like the one before, and belongs to it.
  if (record >= source.count || record === before) return;
  const { name, ...field } = await seen.nameOf(record, id);
  const place = seen.placeOf(before);
  const message = `${name} looks like an image of ${place} (${bits} of 256 bits differ)`;
  const more = { other: place, ...field };
  seen.tell(checkOf(source, record).finding("near-duplicate", message, more));
}

const checkOf = (source: RecordSource, record: number) =>
  new RecordCheck(source, record, source.where(record));

function leakText(
  contents: ContentIndex,
  { lower, lowerGroup, higherGroup, bits }: Leak,
  name: string,
  other: string,
) {
  const sides = `${GROUPS[lowerGroup]} and ${GROUPS[higherGroup]}`;
  if (bits === undefined) {
    const kind = contents.isText(lower) ? "text-leak" : "leak";
    return { kind, message: `${name} is in ${sides}: also in ${other}` } as const;
  }
  const message = `${name} looks the same in ${sides}: like an image of ${other} ` +
    `(${bits} of 256 bits differ)`;
  return { kind: "near-leak", message } as const;
}

function countLeaks(contents: ContentIndex, leaks: readonly Leak[], users: Users): LeakCount[] {
  const ofImages = leaks.filter(({ lower }) => !contents.isText(lower));
  const pairs = Map.groupBy(
    ofImages,
    ({ lowerGroup, higherGroup }) => `${lowerGroup} ${higherGroup}`,
  );
  return [...pairs.values()].map((pair) => {
    const { lowerGroup, higherGroup, bits } = pair[0];
    const recordsOf = (ids: number[], wanted: number) => {
      const uses = [...new Set(ids)].flatMap((id) => users.get(id)!);
      return new Set(uses.filter(({ group }) => group === wanted).map(({ record }) => record)).size;
    };
    const lower = pair.map((leak) => leak.lower);
    return {
      splits: [GROUPS[lowerGroup], GROUPS[higherGroup]],
      same: bits === undefined,
      images: new Set(lower).size,
      records: [
        recordsOf(lower, lowerGroup),
        recordsOf(pair.map((leak) => leak.higher), higherGroup),
      ],
    };
  });
}
