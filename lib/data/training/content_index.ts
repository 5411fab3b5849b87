// Which contents a check of data has seen, where and in which split. A content is an image, or the texts of
// a record that has no image. About 150 bytes per content and 12 per use: millions fit into memory.

import { HASH_WORDS } from "../perceptual_hash.ts";
import { DigestTable } from "./digest_table.ts";
import type { ImageLook } from "./image_look.ts";
import { NearIndex } from "./near_index.ts";
import { NumberList } from "./number_list.ts";

/** Where records stand, the nearest to training first; a record that tells no split is trained on. */
export const GROUPS = ["train", "val", "test", "held out"] as const;

/** A leak matters if its lower side is one of the first two: what is trained on or chosen by. */
const LAST_LOWER = 1;

/** Two contents, the same or alike, of which one is in a split where the other must not be. */
export interface Leak {
  /** The content on the side nearer to training, and its split, as a position in {@link GROUPS}. */
  lower: number;
  lowerGroup: number;
  /** The content on the other side; `lower` itself if it is in both. */
  higher: number;
  higherGroup: number;
  /** How many of 256 bits differ; undefined if it is the same content. */
  bits?: number;
}

/** Two contents that look alike and are in one split. */
export interface Twins {
  id: number;
  other: number;
  bits: number;
}

/** Everything seen so far. */
export class ContentIndex {
  readonly #digests = new DigestTable();
  /** Bit g: used in group g. */
  readonly #groups = new NumberList();
  readonly #widths = new NumberList();
  readonly #heights = new NumberList();
  /** Where a content's hash begins, plus one; 0 if it has none. */
  readonly #hashAt = new NumberList();
  readonly #hashes = new NumberList();
  readonly #usedContent = new NumberList();
  readonly #usedBy = new NumberList();
  readonly #usedIn = new NumberList();

  /** Different contents. */
  get count(): number {
    return this.#digests.count;
  }

  /** The number of a content, known or new. */
  add(digest: Uint8Array, look?: ImageLook): { id: number; isNew: boolean } {
    const known = this.#digests.add(digest);
    if (!known.isNew) return known;
    this.#groups.push(0);
    this.#widths.push(look?.width ?? 0);
    this.#heights.push(look?.height ?? 0);
    this.#hashAt.push(look?.hash ? this.#hashes.length + 1 : 0);
    for (const word of look?.hash ?? []) this.#hashes.push(word);
    return known;
  }

  /** Notes that a record has a content. @param group position in {@link GROUPS} */
  use(id: number, record: number, group: number): void {
    this.#groups.set(id, this.#groups.at(id) | (1 << group));
    this.#usedContent.push(id);
    this.#usedBy.push(record);
    this.#usedIn.push(group);
  }

  /** Whether a content was used in a group. */
  isIn(id: number, group: number): boolean {
    return (this.#groups.at(id) & (1 << group)) !== 0;
  }

  /** Size of an image, in pixels. */
  sizeOf(id: number): { width: number; height: number } {
    return { width: this.#widths.at(id), height: this.#heights.at(id) };
  }

  /** Whether a content is the texts of a record without images. */
  isText(id: number): boolean {
    return this.#widths.at(id) === 0;
  }

  /** Records that use each of some contents, in the order in which they came. */
  usersOf(wanted: ReadonlySet<number>): Map<number, { record: number; group: number }[]> {
    const users = new Map([...wanted].map((id) => [id, [] as { record: number; group: number }[]]));
    for (let i = 0; i < this.#usedContent.length; i++) {
      users.get(this.#usedContent.at(i))
        ?.push({ record: this.#usedBy.at(i), group: this.#usedIn.at(i) });
    }
    return users;
  }

  /** Contents that are in two splits. */
  *leaks(): Generator<Leak> {
    for (let id = 0; id < this.count; id++) {
      const groups = this.#groups.at(id);
      const leak = leakOf(groups, groups);
      if (leak) yield { lower: id, higher: id, ...leak };
    }
  }

  /**
   * For each image, the earlier one that looks most like it in another split, and in the same.
   *
   * @param bits most of 256 bits that may differ
   * @param onStep called after each image
   */
  *alike(bits: number, onStep: (done: number) => void): Generator<Leak | Twins> {
    const index = new NearIndex(this.count);
    for (let id = 0; id < this.count; id++) {
      const at = this.#hashAt.at(id);
      if (at > 0) {
        const hash = Uint32Array.from(
          { length: HASH_WORDS.all },
          (_, i) => this.#hashes.at(at - 1 + i),
        );
        yield* this.#nearest(id, index.find(hash, bits));
        index.add(id, hash);
      }
      onStep(id + 1);
    }
  }

  *#nearest(id: number, found: { id: number; bits: number }[]): Generator<Leak | Twins> {
    const groups = this.#groups.at(id);
    const nearestFirst = found.sort((a, b) => a.bits - b.bits || a.id - b.id);
    for (const { id: other, bits } of nearestFirst) {
      const leak = leakOf(groups, this.#groups.at(other));
      if (!leak) continue;
      const [lower, higher] = leak.swapped ? [other, id] : [id, other];
      const { lowerGroup, higherGroup } = leak;
      yield { lower, lowerGroup, higher, higherGroup, bits };
      break;
    }
    const twin = nearestFirst.find(({ id: other }) => (groups & this.#groups.at(other)) !== 0);
    if (twin) yield { id, other: twin.id, bits: twin.bits };
  }
}

/** The lowest group of one and another group of the other, if they matter. */
function leakOf(a: number, b: number) {
  for (let lowerGroup = 0; lowerGroup <= LAST_LOWER; lowerGroup++) {
    for (const [lower, higher, swapped] of [[a, b, false], [b, a, true]] as const) {
      if (!(lower & (1 << lowerGroup))) continue;
      const above = higher >>> (lowerGroup + 1);
      if (above === 0) continue;
      const higherGroup = lowerGroup + 1 + Math.log2(above & -above);
      return { lowerGroup, higherGroup, swapped };
    }
  }
  return undefined;
}
