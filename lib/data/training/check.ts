// A check of training data before it is trained on: every record is read and every image decoded, and what
// is wrong, repeated or in two splits is told. Data is only read. Memory holds hashes and counts.

import { createHash } from "node:crypto";
import { InputError } from "../../errors.ts";
import { Draws } from "../draws.ts";
import { fieldOf, type Finding } from "./check_findings.ts";
import { type LeakCount, type Seen, tellAlike, tellLeaks } from "./check_leaks.ts";
import { RecordCheck, type RecordLimits } from "./check_record.ts";
import { countTokens, Tally, type TokenRules } from "./check_tally.ts";
import { ContentIndex, GROUPS } from "./content_index.ts";
import { DigestTable } from "./digest_table.ts";
import { fileDigest, type ImageLook } from "./image_look.ts";
import { Lookahead } from "./lookahead.ts";
import { type LookPool, openLookPool } from "./look_pool.ts";
import { NumberList } from "./number_list.ts";
import { type ImageRef, type InspectedRecord, inspectParts } from "./record.ts";
import type { TrainingRecord } from "./record.ts";
import { type RecordSource, splitOfName } from "./source.ts";

/** What is checked, and how. */
export interface CheckOptions {
  /** Data that must share nothing with what is checked, such as a test set of its own. Default: none. */
  against?: readonly RecordSource[];
  limits: RecordLimits;
  tokens: TokenRules;
  /** Most of the 256 bits of their looks in which two images that look the same may differ; 0: not looked for. */
  near: number;
  /** Workers that decode; 0: this thread. */
  workers: number;
  onFinding(finding: Finding): void;
  /** @param what "reading" or "comparing" */
  onProgress?(what: string, done: number, total: number): void;
  signal?: AbortSignal;
}

/** Counts of a check. */
export interface CheckReport {
  tally: Tally;
  /** Records that are listed as bad: those with an error, on the training side where it is a leak. */
  bad: number;
  /** Records and images of the other data sets that could not be read. */
  unreadAgainst: number;
  /** Images in two splits. */
  leaks: LeakCount[];
}

/**
 * The distance up to which two images look the same: of 256 bits. At 20, of the 695 images of medpack (64 to
 * 256 pixels) all are found again as JPEG of quality 60, 99.6 % of quality 30, 99.7 % at half the size, and
 * 95.5 % cut by a pixel on each side; of their 241,165 pairs one is found, a true copy under another name.
 * Of 179,700 pairs of phantoms none is; at 24 two are. Cut by 3 % nothing is found.
 */
export const NEAR_BITS = 20;

/** A record as it was read, its images looked at or refused. */
interface Read {
  inspected: InspectedRecord;
  record: TrainingRecord;
  /** For each image its file, and its look unless the file is known. */
  images: { file: Uint8Array; look?: ImageLook | InputError }[];
}

/** Formats that draw what they give, so that all they can give is another question. */
const DRAWN: readonly string[] = ["t2i", "edit", "phantoms"];

/**
 * Checks a data set. Findings come as they are made, in the order of the records; those about two splits
 * come last.
 *
 * @throws What is neither the data's fault nor foreseen; the signal's reason
 */
export async function checkData(
  source: RecordSource,
  options: CheckOptions,
): Promise<CheckReport> {
  const pool = openLookPool(options.workers);
  try {
    return await new Check(source, options, pool).run();
  } finally {
    await pool.close();
  }
}

class Check {
  readonly #tally = new Tally();
  readonly #contents = new ContentIndex();
  /** Files, and the content of each. */
  readonly #files = new DigestTable();
  readonly #contentOf = new NumberList();
  /** First record of each file and of each content. */
  readonly #firstOfContent = new NumberList();
  /** Whole records, by texts and images; the first of each kind, and its groups as bits. */
  readonly #wholes = new DigestTable();
  readonly #firstOfWhole = new NumberList();
  readonly #groupsOfWhole = new NumberList();
  /** Files that are being looked at, by digest in hex. */
  readonly #pending = new Map<string, Promise<ImageLook>>();
  readonly #badRecords: Uint8Array;
  #unreadAgainst = 0;
  /** All sources with the number of each one's first record; the first is the one that is checked. */
  readonly #sources: { source: RecordSource; first: number }[] = [];

  constructor(
    private readonly source: RecordSource,
    private readonly options: CheckOptions,
    private readonly pool: LookPool,
  ) {
    let first = 0;
    for (const each of [source, ...options.against ?? []]) {
      this.#sources.push({ source: each, first });
      first += each.count;
    }
    this.#badRecords = new Uint8Array(source.count);
  }

  async run(): Promise<CheckReport> {
    const { onProgress, signal, near } = this.options;
    const total = this.#sources.reduce((sum, { source }) => sum + source.count, 0);
    for (const { source, first } of this.#sources) {
      let next = 0;
      const depth = 4 * (this.options.workers + 1);
      const ahead = new Lookahead(() => this.#readOrFault(source, next++), depth);
      for (let index = 0; index < source.count; index++) {
        signal?.throwIfAborted();
        const read = await ahead.take();
        if (first === 0) this.#judge(index, read!);
        else this.#note(first + index, read!);
        onProgress?.("reading", first + index + 1, total);
      }
    }
    const seen = this.#seen();
    const leaks = await tellLeaks(seen, [...this.#contents.leaks()]);
    if (near > 0) {
      leaks.push(
        ...await tellAlike(seen, near, (done) => {
          onProgress?.("comparing", done, this.#contents.count);
        }),
      );
    }
    const bad = this.#badRecords.reduce((sum, isBad) => sum + isBad, 0);
    return { tally: this.#tally, bad, unreadAgainst: this.#unreadAgainst, leaks };
  }

  /** Reads a record and has its images looked at; undefined behind the last. */
  async #readOrFault(source: RecordSource, index: number): Promise<Read | InputError | undefined> {
    if (index >= source.count) return undefined;
    try {
      const record = await source.read(index, new Draws("check", index));
      const inspected = DRAWN.includes(source.format)
        ? await source.inspect(index)
        : inspectParts(record);
      const images = await Promise.all(
        inspected.images.map(({ image }) => this.#look(image, record.where)),
      );
      return { record, inspected, images };
    } catch (error) {
      if (error instanceof InputError) return error;
      throw error;
    }
  }

  async #look(image: ImageRef, where: string): Promise<Read["images"][number]> {
    const file = fileDigest(image);
    if (this.#files.find(file) !== undefined) return { file };
    const key = file.toHex();
    // Several records in hand may name one file; whichever is judged first numbers it.
    const shared = this.#pending.get(key);
    const pending = shared ??
      this.pool.look(image, where).finally(() => this.#pending.delete(key));
    this.#pending.set(key, pending);
    try {
      return { file, look: await pending };
    } catch (error) {
      // The error names the record that began: each of the others gets one of its own.
      if (shared) return await this.#look(image, where);
      if (error instanceof InputError) return { file, look: error };
      throw error;
    }
  }

  #judge(index: number, read: Read | InputError): void {
    const { source } = this;
    const where = source.where(index);
    const check = new RecordCheck(source, index, where);
    if (read instanceof InputError) {
      const { help } = read;
      this.#tally.addUnread(splitOfPlace(where));
      this.#tell([check.finding("record", read.message, help === undefined ? {} : { help })]);
      return;
    }
    const { record, inspected } = read;
    const { limits, tokens: rules } = this.options;
    this.#tally.add(inspected);
    const missing = check.missing(inspected);
    this.#tell(missing.length > 0 ? missing : check.nothingToLearn(record));
    this.#tell(check.textLengths(inspected, limits));
    const group = groupOf(inspected);
    const ids = this.#number(index, read, group, check);
    this.#tellRepeated(index, inspected, ids, group, check);
    const sizes = new Map<string, { width: number; height: number }>();
    inspected.images.forEach(({ image }, i) => {
      const id = ids[i];
      if (id !== undefined) sizes.set(image.name, this.#contents.sizeOf(id));
    });
    const tokens = countTokens(record, (name) => sizes.get(name), rules);
    this.#tally.tokens.add(tokens);
    if (limits.maxTokens !== undefined && tokens > limits.maxTokens) {
      this.#tell([
        check.finding("long", `${tokens} tokens, at most ${limits.maxTokens} are taken`),
      ]);
    }
  }

  /** Numbers of the record's images; undefined for those that cannot be decoded. */
  #number(
    index: number,
    { inspected, images }: Read,
    group: number,
    check: RecordCheck,
  ): (number | undefined)[] {
    const ids = images.map(({ file, look }, i) => {
      const part = inspected.images[i];
      this.#tally.uses++;
      const field = fieldOf(this.source.format, "image", part.role);
      if (look instanceof InputError) {
        const help = look.help === undefined ? {} : { help: look.help };
        this.#tell([check.finding("image", look.message, { field, ...help })]);
        return undefined;
      }
      const { id, isNewFile, isNewContent } = this.#addFile(index, file, look);
      if (isNewFile) {
        this.#tally.files++;
        const size = this.#contents.sizeOf(id);
        this.#tally.sides.add(Math.min(size.width, size.height));
        this.#tell(check.imageSize(part, size, this.options.limits));
        if (isNewContent && !look!.hash) {
          this.#tell([check.finding("flat", `${part.image.name} is of one grey`, { field })]);
        }
        if (!isNewContent && this.#contents.isIn(id, group)) {
          const other = this.#placeOf(this.#firstOfContent.at(id));
          const message = `${part.image.name} has the pixels of an image of ${other}`;
          this.#tell([check.finding("duplicate", message, { field, other })]);
        }
      }
      return id;
    });
    for (const id of new Set(ids)) {
      if (id !== undefined) this.#contents.use(id, index, group);
    }
    return ids;
  }

  /** @param look of a file that is not known yet */
  #addFile(record: number, file: Uint8Array, look: ImageLook | undefined) {
    const known = this.#files.add(file);
    if (!known.isNew) {
      return { id: this.#contentOf.at(known.id), isNewFile: false, isNewContent: false };
    }
    const { id, isNew } = this.#contents.add(look!.digest, look!);
    this.#contentOf.push(id);
    if (isNew) {
      this.#firstOfContent.push(record);
      if (record < this.source.count) this.#tally.images++;
    }
    return { id, isNewFile: true, isNewContent: isNew };
  }

  #tellRepeated(
    index: number,
    { texts, images }: InspectedRecord,
    ids: readonly (number | undefined)[],
    group: number,
    check: RecordCheck,
  ): void {
    if (ids.includes(undefined)) return;
    const roles = images.map(({ role }) => role);
    const digest = createHash("sha256").update(JSON.stringify([texts, ids, roles])).digest();
    if (images.length === 0) this.#useText(digest, index, group);
    const { id, isNew } = this.#wholes.add(digest);
    if (isNew) {
      this.#firstOfWhole.push(index);
      this.#groupsOfWhole.push(0);
    }
    const groups = this.#groupsOfWhole.at(id);
    this.#groupsOfWhole.set(id, groups | (1 << group));
    if (!(groups & (1 << group))) return;
    const other = this.#placeOf(this.#firstOfWhole.at(id));
    this.#tell([check.finding("repeated", `the same texts and images as ${other}`, { other })]);
  }

  /** A record without images may leak by its texts. */
  #useText(digest: Uint8Array, record: number, group: number): void {
    const { id, isNew } = this.#contents.add(digest);
    if (isNew) this.#firstOfContent.push(record);
    this.#contents.use(id, record, group);
  }

  /** Notes what a record of another data set has. */
  #note(record: number, read: Read | InputError): void {
    const group = GROUPS.indexOf("held out");
    if (read instanceof InputError) {
      this.#unreadAgainst++;
      return;
    }
    const { inspected, images } = read;
    if (images.length === 0) {
      const digest = createHash("sha256").update(JSON.stringify([inspected.texts, [], []]));
      this.#useText(digest.digest(), record, group);
    }
    for (const { file, look } of images) {
      if (look instanceof InputError) this.#unreadAgainst++;
      else this.#contents.use(this.#addFile(record, file, look).id, record, group);
    }
  }

  /** What was seen, for what is told of two records. */
  #seen(): Seen {
    const { signal } = this.options;
    return {
      source: this.source,
      contents: this.#contents,
      firstOf: (content) => this.#firstOfContent.at(content),
      placeOf: (record) => this.#placeOf(record),
      nameOf: (record, content) => this.#nameOf(record, content),
      tell: (finding) => this.#tell([finding]),
      ...(signal ? { signal } : {}),
    };
  }

  /** What a record calls an image and its field; "its text" if the content is no image. */
  async #nameOf(index: number, id: number): Promise<{ name: string; field?: string }> {
    const { images } = DRAWN.includes(this.source.format)
      ? await this.source.inspect(index)
      : inspectParts(await this.source.read(index, new Draws("check", index)));
    const found = images.find(({ image }) => {
      const file = this.#files.find(fileDigest(image));
      return file !== undefined && this.#contentOf.at(file) === id;
    });
    if (!found) return { name: "its text" };
    return { name: found.image.name, field: fieldOf(this.source.format, "image", found.role) };
  }

  /** The place of a record, counted over all sources. */
  #placeOf(record: number): string {
    const { source, first } = this.#sources.findLast(({ first }) => first <= record)!;
    return source.where(record - first);
  }

  #tell(findings: readonly Finding[]): void {
    for (const finding of findings) {
      if (finding.level === "error") this.#badRecords[finding.index] = 1;
      this.options.onFinding(finding);
    }
  }
}

function groupOf({ split }: Pick<InspectedRecord, "split">): number {
  return split === undefined ? 0 : GROUPS.indexOf(split);
}

/** The split that a place's file is named for. */
function splitOfPlace(where: string) {
  return splitOfName(where.replace(/ (line|row) \d+$/, "").split("/").at(-1)!);
}
