// A tensor: shape, dtype and a counted share of a device buffer. Scopes (`tidy`) give memory back, since
// a garbage collector does not see the device.

import type { GpuBuffer } from "./gpu/buffers.ts";
import type { Gpu } from "./gpu/device.ts";
import { isPacked, type PackedFormat, packedRow, unpackRows } from "./packed_layout.ts";

/**
 * An op's gradient: takes dL/dy, returns dL/dx for each input, `null` where there is none. `needs[i]`
 * is false for inputs whose gradient nobody asked for.
 */
export type BackwardFn = (dy: Tensor, needs: readonly boolean[]) => (Tensor | null)[];

/** How a tensor was computed; written and read by lib/autograd.ts. */
export interface Node {
  readonly inputs: readonly Tensor[];
  readonly backward: BackwardFn;
}

/**
 * Element types. `f16` and `bf16` are stored two to a 32-bit word, low half first; `int8` and `int4` are
 * matrices of packed rows (lib/packed_layout.ts), weights that linear layers and look-ups unpack as they read.
 */
export type DType = "f32" | "i32" | "u32" | "f16" | "bf16" | PackedFormat;

/** Sizes along each axis. */
export type Shape = readonly number[];

/** Number of elements of a shape. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((n, d) => n * d, 1);
}

/** Bytes a tensor takes, rounded up to whole 32-bit words. */
export function bytesOf(shape: Shape, dtype: DType): number {
  const n = sizeOf(shape);
  if (isPacked(dtype)) {
    const columns = shape.at(-1) ?? 0;
    return columns === 0 ? 0 : n / columns * packedRow(columns, dtype).rowBytes;
  }
  return dtype === "f16" || dtype === "bf16" ? 4 * Math.ceil(n / 2) : 4 * n;
}

interface Storage {
  buffer: GpuBuffer;
  references: number;
  /** The memory that this is a part of: it counts as one of its references. */
  whole?: Storage;
}

/** Drops one reference. */
function release(gpu: Gpu, storage: Storage): void {
  if (--storage.references > 0) return;
  if (storage.whole) release(gpu, storage.whole);
  else gpu.buffers.give(storage.buffer);
}

/** Types of 4 bytes. */
const WIDE: readonly DType[] = ["f32", "i32", "u32"];

const scopes: Set<Tensor>[] = [];
/** Tensors of scopes that were left and may be entered again. */
const left = new Set<Set<Tensor>>();

/** Takes a tensor out of every scope. */
function unscope(tensor: Tensor): void {
  for (const scope of scopes) scope.delete(tensor);
  for (const scope of left) scope.delete(tensor);
}

/**
 * Runs `fn` and gives back every tensor made in it, except those it returns (also inside arrays, values of maps,
 * and plain records) and those marked with `keep()`. A promise of a read may be returned too: the read is recorded
 * before the scope ends. An asynchronous `fn` is not for this: the scope ends at its first `await`.
 */
export function tidy<T>(fn: () => T): T {
  const scope = new Set<Tensor>();
  scopes.push(scope);
  let result: T | undefined;
  try {
    return result = fn();
  } finally {
    scopes.pop();
    const outer = scopes.at(-1);
    for (const tensor of tensorsIn(result)) {
      if (scope.delete(tensor)) outer?.add(tensor);
    }
    for (const tensor of scope) tensor.dispose();
  }
}

/**
 * A scope that may be left and entered again, for work with waits in it: every tensor made inside {@link Scope.run} lives
 * until {@link Scope.close}, except those marked with `keep()`.
 */
export class Scope {
  readonly #tensors = new Set<Tensor>();

  /** Runs `fn`, which must not be asynchronous, inside the scope. */
  run<T>(fn: () => T): T {
    scopes.push(this.#tensors);
    try {
      return fn();
    } finally {
      scopes.pop();
      left.add(this.#tensors);
    }
  }

  /** Gives back what was made, but for the tensors in `result`, which go to the scope around. */
  close<T>(result?: T): void {
    left.delete(this.#tensors);
    const outer = scopes.at(-1);
    for (const tensor of tensorsIn(result)) {
      if (this.#tensors.delete(tensor)) outer?.add(tensor);
    }
    for (const tensor of this.#tensors) tensor.dispose();
    this.#tensors.clear();
  }
}

function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) yield value;
  else if (Array.isArray(value)) { for (const v of value) yield* tensorsIn(v); }
  else if (value instanceof Map) { for (const v of value.values()) yield* tensorsIn(v); }
  else if (value && Object.getPrototypeOf(value) === Object.prototype) {
    for (const v of Object.values(value)) yield* tensorsIn(v);
  }
}

/** Host data of a tensor. */
export type HostData = Float32Array | Int32Array | Uint32Array;

function dtypeOf(data: HostData): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Uint32Array) return "u32";
  const kind = (data as object).constructor.name;
  throw new TypeError(
    `Cannot hold a ${kind} in a tensor: expected Float32Array, Int32Array or Uint32Array`,
  );
}

/** An n-dimensional array on the device, row-major and contiguous. */
export class Tensor {
  readonly gpu: Gpu;
  readonly shape: Shape;
  readonly dtype: DType;
  /** True for parameters: `backward` returns their gradient. */
  requiresGrad = false;
  /** How it was computed, when that was recorded. */
  node: Node | undefined;

  readonly #storage: Storage;
  #disposed = false;

  private constructor(gpu: Gpu, shape: Shape, dtype: DType, storage: Storage) {
    this.gpu = gpu;
    this.shape = shape;
    this.dtype = dtype;
    this.#storage = storage;
    scopes.at(-1)?.add(this);
  }

  /** A tensor of undefined contents. */
  static empty(gpu: Gpu, shape: Shape, dtype: DType = "f32"): Tensor {
    const buffer = gpu.buffers.take(
      bytesOf(shape, dtype),
      `a (${shape.join(", ")}) ${dtype} tensor`,
    );
    return new Tensor(gpu, shape, dtype, { buffer, references: 1 });
  }

  /** As {@link Tensor.empty}, of exactly the memory it needs: for weights, which are many and stay. */
  static exact(gpu: Gpu, shape: Shape, dtype: DType): Tensor {
    const what = `a (${shape.join(", ")}) ${dtype} tensor`;
    const buffer = gpu.buffers.take(Math.max(4, bytesOf(shape, dtype)), what, true);
    return new Tensor(gpu, shape, dtype, { buffer, references: 1 });
  }

  /** A tensor of zeros. */
  static zeros(gpu: Gpu, shape: Shape, dtype: DType = "f32"): Tensor {
    const tensor = Tensor.empty(gpu, shape, dtype);
    gpu.clear(tensor.buffer);
    return tensor;
  }

  /**
   * A tensor with the given contents; its dtype follows the array (f32, i32 or u32).
   *
   * @throws {TypeError} If the number of values is not that of the shape, or the array is of another kind
   */
  static from(gpu: Gpu, data: HostData | readonly number[], shape: Shape): Tensor {
    const values = ArrayBuffer.isView(data) ? data as HostData : Float32Array.from(data);
    const dtype = dtypeOf(values);
    if (values.length !== sizeOf(shape)) {
      throw new TypeError(
        `Cannot make a (${shape.join(", ")}) tensor from ${values.length} values`,
      );
    }
    const tensor = Tensor.empty(gpu, shape, dtype);
    if (values.length > 0) gpu.write(tensor.buffer, values);
    return tensor;
  }

  /** A tensor of packed halves (`f16` or `bf16`), given as 16-bit patterns. */
  static fromHalves(gpu: Gpu, bits: Uint16Array, shape: Shape, dtype: "f16" | "bf16"): Tensor {
    if (bits.length !== sizeOf(shape)) {
      throw new TypeError(`Cannot make a (${shape.join(", ")}) tensor from ${bits.length} values`);
    }
    const tensor = Tensor.empty(gpu, shape, dtype);
    gpu.write(tensor.buffer, bits);
    return tensor;
  }

  /**
   * A tensor of any dtype from its stored bytes: halves as 16-bit patterns, packed rows as they are in a file.
   *
   * @throws {TypeError} If the number of bytes is not that of the shape
   */
  static fromBytes(gpu: Gpu, bytes: Uint8Array, shape: Shape, dtype: DType): Tensor {
    const wanted = dtype === "f16" || dtype === "bf16" ? 2 * sizeOf(shape) : bytesOf(shape, dtype);
    if (bytes.length !== wanted) {
      throw new TypeError(
        `Cannot make a (${
          shape.join(", ")
        }) ${dtype} tensor from ${bytes.length} bytes: it takes ${wanted}`,
      );
    }
    const tensor = Tensor.empty(gpu, shape, dtype);
    if (bytes.length > 0) gpu.write(tensor.buffer, bytes);
    return tensor;
  }

  /**
   * The values from number `start` on as a tensor in the same memory, which lives as long as either does. Not
   * recorded.
   *
   * @param start a multiple of 64 (of 128 for halves) if kernels are to use the view; any number (even for halves) for
   *   copies
   * @throws {RangeError} If the values reach beyond the end, or halves start within a word
   * @throws {TypeError} If the values are packed rows
   */
  view(start: number, shape: Shape): Tensor {
    if (isPacked(this.dtype)) throw new TypeError(`Cannot view part of ${this.dtype} values`);
    const bytes = bytesOf(shape, this.dtype);
    const from = WIDE.includes(this.dtype) ? 4 * start : 2 * start;
    if (!(from >= 0 && from % 4 === 0) || from + bytes > bytesOf(this.shape, this.dtype)) {
      throw new RangeError(
        `Cannot view a (${shape.join(", ")}) tensor from value ${start} of ${this.size}`,
      );
    }
    const buffer = this.gpu.buffers.view(this.buffer, from, bytes);
    this.#storage.references++;
    return new Tensor(this.gpu, shape, this.dtype, {
      buffer,
      references: 1,
      whole: this.#storage,
    });
  }

  /**
   * Moves the contents, for all handles on them, into the memory of `place`, which is used up.
   *
   * @param place a tensor of the same shape and dtype that no other handle shares
   */
  moveTo(place: Tensor): void {
    const to = place.#storage;
    if (place.shape.join() !== this.shape.join() || place.dtype !== this.dtype || !place.isSole) {
      throw new TypeError(
        `Cannot move a (${this.shape.join(", ")}) ${this.dtype} tensor into a ` +
          `(${place.shape.join(", ")}) ${place.dtype} one`,
      );
    }
    this.gpu.copy(this.buffer, 0, to.buffer, 0, bytesOf(this.shape, this.dtype));
    const from = { ...this.#storage, references: 1 };
    this.#storage.buffer = to.buffer;
    if (to.whole) this.#storage.whole = to.whole;
    else delete this.#storage.whole;
    release(this.gpu, from);
    place.#disposed = true; // its reference is this tensor's now
    unscope(place);
  }

  /** The device buffer. */
  get buffer(): GpuBuffer {
    if (this.#disposed) {
      throw new Error(
        `internal: a (${this.shape.join(", ")}) tensor is used after its scope ended`,
      );
    }
    return this.#storage.buffer;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Length of an axis; negative counts from the end. */
  dim(axis: number): number {
    const d = this.shape.at(axis);
    if (d === undefined) {
      throw new RangeError(`Cannot take axis ${axis} of a (${this.shape.join(", ")}) tensor`);
    }
    return d;
  }

  /** Another handle on the same memory, with another shape if given. Not recorded: see `reshape`. */
  alias(shape: Shape = this.shape): Tensor {
    if (sizeOf(shape) !== this.size) {
      throw new TypeError(
        `Cannot view a (${this.shape.join(", ")}) tensor as (${shape.join(", ")})`,
      );
    }
    if (this.#disposed) throw new Error("internal: alias of a tensor whose scope ended");
    this.#storage.references++;
    return new Tensor(this.gpu, shape, this.dtype, this.#storage);
  }

  /** True if no other handle shares the memory. */
  get isSole(): boolean {
    return this.#storage.references === 1;
  }

  /** Takes the tensor out of its scope: it lives until `dispose()`. */
  keep(): this {
    unscope(this);
    return this;
  }

  /** True after `dispose()`. */
  get isDisposed(): boolean {
    return this.#disposed;
  }

  /** Gives the memory back once no other handle shares it. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.node = undefined;
    unscope(this);
    release(this.gpu, this.#storage);
  }

  /** Reads the contents back; halves and packed rows are widened to f32. */
  async read(): Promise<HostData> {
    return (await readAll([this]))[0];
  }

  /** Reads an f32, f16 or bf16 tensor back as floats. */
  async floats(): Promise<Float32Array> {
    const data = await this.read();
    if (!(data instanceof Float32Array)) throw new TypeError(`Cannot read ${this.dtype} as floats`);
    return data;
  }

  /** Overwrites the contents. @throws {TypeError} If number or kind of the values differ */
  write(data: HostData): void {
    if (dtypeOf(data) !== this.dtype) {
      throw new TypeError(`Cannot write ${dtypeOf(data)} values into a tensor of ${this.dtype}`);
    }
    if (data.length !== this.size) {
      throw new TypeError(
        `Cannot write ${data.length} values into a (${this.shape.join(", ")}) tensor`,
      );
    }
    this.gpu.write(this.buffer, data);
  }
}

/** Reads several tensors with one wait: each wait costs about 11 ms in Deno, however many. */
export async function readAll(tensors: readonly Tensor[]): Promise<HostData[]> {
  if (tensors.length === 0) return [];
  const ranges = tensors.map((t) => ({
    buffer: t.buffer,
    sizeBytes: bytesOf(t.shape, t.dtype),
  }));
  const raw = await tensors[0].gpu.read(ranges);
  return tensors.map((t, i) => {
    switch (t.dtype) {
      case "f32":
        return new Float32Array(raw[i]);
      case "i32":
        return new Int32Array(raw[i]);
      case "u32":
        return new Uint32Array(raw[i]);
      case "int8":
      case "int4":
        return unpackRows(new Uint8Array(raw[i]), t.dim(-1), t.dtype);
      default:
        return widen(new Uint16Array(raw[i]).subarray(0, t.size), t.dtype);
    }
  });
}

function widen(bits: Uint16Array, dtype: "f16" | "bf16"): Float32Array {
  if (dtype === "f16") {
    return Float32Array.from(new Float16Array(bits.buffer as ArrayBuffer, 0, bits.length));
  }
  const words = new Uint32Array(bits.length);
  bits.forEach((b, i) => words[i] = b << 16);
  return new Float32Array(words.buffer);
}
