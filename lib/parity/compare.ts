// Fixture folders (golden numbers recorded from the reference) and the comparison they ask for:
// |x - ref| <= a + rtol·|ref| for floats, equality for integers. One row per tensor.

import { InputError } from "../errors.ts";
import { fileReason, jsonReason } from "../data/jsonl.ts";
import { openSafetensors, type Safetensors } from "../data/safetensors.ts";

/** The verdict on one tensor (or one list, size table, …). */
export interface Row {
  /** The case, such as `rmsnorm` of `rmsnorm/y`; the part of the name before the first slash. */
  case: string;
  /** The rest of the name. */
  tensor: string;
  /** |x - ref| at the element that comes closest to (or goes farthest past) its tolerance. */
  error: number;
  /** a + rtol·|ref| at that element; 0 for exact comparisons. */
  tolerance: number;
  ok: boolean;
  /** Where it went wrong, in words. */
  note?: string;
}

/** One tensor of a fixture. */
export interface FixtureTensor {
  shape: number[];
  dtype: "F32" | "I32" | "U8";
  data: Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;
}

/** What index.json says of one tensor. */
interface IndexEntry {
  s: number[];
  d: string;
  /** Role: in, out, grad, prep. */
  r: string;
  /** Absolute tolerance. */
  a?: number;
  n?: string;
}

/** The part of index.json that is used here. */
export interface FixtureIndex {
  fixture: string;
  rtol: number;
  files: Record<string, { role?: string; tensors?: Record<string, IndexEntry> }>;
}

/** A folder of golden numbers; {@link close} it when done. */
export class Fixture {
  readonly #files = new Map<string, Promise<Safetensors>>();

  constructor(
    readonly dir: string,
    /** config.json, as it is. */
    // deno-lint-ignore no-explicit-any
    readonly config: any,
    readonly index: FixtureIndex,
  ) {}

  /** Relative tolerance of all float comparisons. */
  get rtol(): number {
    return this.index.rtol;
  }

  /** Whether index.json lists the file (`ops.safetensors`). */
  has(file: string): boolean {
    return Object.hasOwn(this.index.files, file);
  }

  /** A JSON file of the folder. @throws {InputError} If it is missing or not JSON */
  // deno-lint-ignore no-explicit-any
  json(file: string): Promise<any> {
    return readJson(`${this.dir}/${file}`);
  }

  /** The open safetensors file; weights are read through this. */
  file(file: string): Promise<Safetensors> {
    let opened = this.#files.get(file);
    if (!opened) this.#files.set(file, opened = openSafetensors(`${this.dir}/${file}`));
    return opened;
  }

  /** The names index.json lists for a file, in its order; with `role`, only those. */
  names(file: string, role?: string): string[] {
    const tensors = this.index.files[file]?.tensors ?? {};
    return Object.keys(tensors).filter((name) => role === undefined || tensors[name].r === role);
  }

  /** Reads a tensor. @throws {InputError} If it is absent or not F32, I32 or U8 */
  async tensor(file: string, name: string): Promise<FixtureTensor> {
    const source = await this.file(file);
    const { dtype, shape } = source.info(name);
    if (dtype !== "F32" && dtype !== "I32" && dtype !== "U8") {
      throw new InputError(
        `Cannot read ${name} of ${source.path}: dtype ${dtype} is not used here`,
      );
    }
    const { buffer } = await source.read(name);
    const data = dtype === "F32"
      ? new Float32Array(buffer)
      : dtype === "I32"
      ? new Int32Array(buffer)
      : new Uint8Array(buffer);
    return { shape, dtype, data };
  }

  /** A tensor known to be F32. @throws {InputError} If it is not */
  async float(file: string, name: string): Promise<Float32Array<ArrayBuffer>> {
    return (await this.file(file)).readFloat32(name);
  }

  /** A tensor known to be I32. @throws {InputError} If it is not */
  async int(file: string, name: string): Promise<Int32Array<ArrayBuffer>> {
    return (await this.file(file)).readInt32(name);
  }

  /** Absolute tolerance of a tensor. @throws {InputError} If index.json gives none */
  atolOf(file: string, name: string): number {
    const atol = this.#entry(file, name)?.a;
    if (typeof atol !== "number") {
      throw new InputError(`Cannot compare ${name}: ${this.dir}/index.json has no "a" for it`);
    }
    return atol;
  }

  /** in, out, grad, prep or weight. @throws {InputError} If index.json does not say */
  roleOf(file: string, name: string): string {
    const role = this.#entry(file, name)?.r ?? this.index.files[file]?.role;
    if (!role) {
      throw new InputError(`Cannot find the role of ${name}: ${this.dir}/index.json has none`);
    }
    return role;
  }

  /** Compares `got` with a tensor of the fixture, by the rule for its dtype. */
  async compare(file: string, name: string, got: ArrayLike<number>): Promise<Row> {
    const ref = await this.tensor(file, name);
    return ref.dtype === "F32"
      ? compareFloat(name, got, ref.data, this.atolOf(file, name), this.rtol)
      : compareExact(name, got, ref.data);
  }

  async close(): Promise<void> {
    for (const file of this.#files.values()) (await file).close();
    this.#files.clear();
  }

  #entry(file: string, name: string): IndexEntry | undefined {
    return this.index.files[file]?.tensors?.[name];
  }
}

const FOLDER_HELP = "Give a folder of golden numbers: it holds index.json and config.json";

/**
 * Opens a fixture folder: reads config.json and index.json; tensors are read on demand.
 *
 * @throws {InputError} If the folder or one of the two files is missing or malformed
 */
export async function openFixture(dir: string): Promise<Fixture> {
  const index = await readJson(`${dir}/index.json`);
  if (typeof index?.rtol !== "number" || typeof index?.files !== "object" || !index.files) {
    throw new InputError(`Cannot use ${dir}/index.json: it needs "rtol" and "files"`, {
      help: FOLDER_HELP,
    });
  }
  return new Fixture(dir, await readJson(`${dir}/config.json`), index);
}

/**
 * The row of a float comparison: passes when |x - ref| <= atol + rtol·|ref| everywhere. Equal
 * infinities agree; NaN agrees with nothing.
 *
 * @param name `case/tensor`
 */
export function compareFloat(
  name: string,
  got: ArrayLike<number>,
  ref: ArrayLike<number>,
  atol: number,
  rtol: number,
): Row {
  let worst = { ratio: -1, error: 0, tolerance: atol, at: 0 };
  if (got.length !== ref.length) return row(name, Infinity, atol, false, lengths(got, ref));
  for (let i = 0; i < ref.length; i++) {
    const tolerance = Number.isFinite(ref[i]) ? atol + rtol * Math.abs(ref[i]) : atol;
    const distance = Math.abs(got[i] - ref[i]);
    const error = got[i] === ref[i] ? 0 : Number.isNaN(distance) ? Infinity : distance;
    const ratio = error === 0 ? 0 : error / tolerance;
    if (ratio > worst.ratio) worst = { ratio, error, tolerance, at: i };
  }
  const ok = worst.error <= worst.tolerance;
  const note = `element ${worst.at}: got ${got[worst.at]}, expected ${ref[worst.at]}`;
  return row(name, worst.error, worst.tolerance, ok, ok ? undefined : note);
}

/**
 * The row of an integer comparison: passes when all elements are equal; `error` is the largest
 * difference.
 *
 * @param name `case/tensor`
 */
export function compareExact(name: string, got: ArrayLike<number>, ref: ArrayLike<number>): Row {
  if (got.length !== ref.length) return row(name, Infinity, 0, false, lengths(got, ref));
  let [error, wrong, first] = [0, 0, -1];
  for (let i = 0; i < ref.length; i++) {
    if (got[i] === ref[i]) continue;
    if (wrong++ === 0) first = i;
    const distance = Math.abs(got[i] - ref[i]);
    error = Math.max(error, Number.isNaN(distance) ? Infinity : distance);
  }
  if (wrong === 0) return row(name, 0, 0, true);
  const note = `${wrong} differ, first element ${first}: got ${got[first]}, expected ${ref[first]}`;
  return row(name, error, 0, false, note);
}

function row(name: string, error: number, tolerance: number, ok: boolean, note?: string): Row {
  const slash = name.indexOf("/");
  return {
    case: slash < 0 ? "" : name.slice(0, slash),
    tensor: name.slice(slash + 1),
    error,
    tolerance,
    ok,
    ...(note === undefined ? {} : { note }),
  };
}

function lengths(got: ArrayLike<number>, ref: ArrayLike<number>): string {
  return `got ${got.length} elements, expected ${ref.length}`;
}

// deno-lint-ignore no-explicit-any
async function readJson(path: string): Promise<any> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: ${fileReason(cause)}`, { cause, help: FOLDER_HELP });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`Cannot read ${path}: it is not JSON: ${jsonReason(cause)}`, {
      cause,
      help: "Get the folder of golden numbers again",
    });
  }
}
