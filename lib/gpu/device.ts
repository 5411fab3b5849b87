// Opens an adapter with every limit and feature that is useful here, and is the one place that records,
// submits and reads back. Work is recorded into one open pass and submitted in batches: on every adapter
// seen, the cost of a submit is that of several dispatches.

import { DeviceLostError, ResourceError } from "../errors.ts";
import { type AdapterFacts, adapterFacts, requestAll } from "./adapter.ts";
import { BufferPool, type GpuBuffer, rootOf } from "./buffers.ts";
import { BatchParams } from "./params.ts";
import { Profile } from "./profile.ts";
import { TEXEL_COLUMNS, type Texels } from "./texel_copies.ts";
import type { Work } from "./timings.ts";
import { BatchUploads } from "./uploads.ts";
import { readTuned, type Tuned, tunedKey } from "./tuned.ts";

/** How to open a device. */
export interface GpuOptions {
  /** `gpu` refuses a software adapter, `software` asks for one, `any` prefers hardware (default). */
  adapter?: "any" | "gpu" | "software";
  /** Upper bound of all device memory in use, in bytes. Default: 4 GiB. */
  budgetBytes?: number;
  /** Time every dispatch and copy with timestamps (slower: one pass per dispatch). Default: false. */
  profile?: boolean;
  /** Go by what was measured on this adapter (see tuned.ts). Default: true. */
  tuned?: boolean;
}

const MAX_PENDING = 256; // dispatches per submit
/** Limits kept at hand. */
const ASKED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupsPerDimension",
  "maxTextureDimension2D",
] as const;
type AskedLimit = (typeof ASKED_LIMITS)[number];
const DEFAULT_BUDGET = 4 * 2 ** 30;

/**
 * Opens a device: hardware first, all useful limits and features requested.
 *
 * @throws {ResourceError} If there is no adapter of the kind asked for, or `profile` is asked of one without timestamps
 */
export async function openDevice(options: GpuOptions = {}): Promise<Gpu> {
  const kind = options.adapter ?? "any";
  const adapter = await navigator.gpu?.requestAdapter(
    kind === "software" ? { forceFallbackAdapter: true } : { powerPreference: "high-performance" },
  );
  const help = "run `deno task setup`: it finds an adapter or names the command that installs one";
  if (!adapter) throw new ResourceError("Cannot open a GPU: no WebGPU adapter", { help });
  const facts = adapterFacts(adapter);
  if (kind === "software" && !facts.software) {
    throw new ResourceError(`Cannot open a software adapter: there is only ${facts.name}`, {
      help: "install Mesa's lavapipe (mesa-vulkan-drivers), or use --adapter any",
    });
  }
  if (kind === "gpu" && facts.software) {
    throw new ResourceError(`Cannot open a GPU: the only adapter is software (${facts.name})`, {
      help: "install the graphics driver, or use --adapter any",
    });
  }
  if (options.profile && !adapter.features.has("timestamp-query")) {
    throw new ResourceError(`Cannot profile on ${facts.name}: it has no timestamps`, {
      help: "leave --profile out, or use another adapter: --adapter software",
    });
  }
  const { device, subgroupSize, subgroupLine } = await requestAll(adapter);
  const gpu = new Gpu(device, facts, subgroupSize, subgroupLine, options);
  if (options.tuned !== false) gpu.tuned = await readTuned(gpu.tuned.key);
  return gpu;
}

function lost(message: string): DeviceLostError {
  const help = "start again with --resume; the last checkpoint stands";
  return new DeviceLostError(`Cannot go on: the GPU was lost (${message})`, { help });
}

/** One open device with its queue, memory and state. Everything in `lib/` that computes is handed one. */
export class Gpu {
  readonly device: GPUDevice;
  /** Name, vendor, software or not. */
  readonly adapter: AdapterFacts;
  /** The device's limits that every launch looks at: its own object is slow to ask. */
  readonly limits: Readonly<Record<AskedLimit, number>>;
  /** Lanes per subgroup when the adapter guarantees exactly one size, else 0. */
  readonly subgroupSize: number;
  /** The WGSL line a kernel with subgroup builtins must start with on this platform, often empty. */
  readonly subgroupLine: string;
  /** Device memory: reuse, accounting, budget. */
  readonly buffers: BufferPool;
  /** Times per kernel, when opened with `profile`. */
  readonly profile: Profile | undefined;
  /** Params of the launches in the open batch. */
  readonly params: BatchParams;
  /** What was measured on this adapter before; nothing unless {@link openDevice} found it. */
  tuned: Tuned;
  /** Dispatches recorded so far. */
  dispatches = 0;

  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  readonly #uploads: BatchUploads;
  #pending = 0;
  readonly #offset = new Uint32Array(1);
  #failure: Error | undefined;
  #closed = false;
  #afterSubmit: (() => void)[] = [];
  /** Kernels in the open batch, for messages. */
  #batch = new Set<string>();
  /** Resolves when all that was watched has given its verdict. */
  #verdict: Promise<void> = Promise.resolve();

  constructor(
    device: GPUDevice,
    adapter: AdapterFacts,
    subgroupSize: number,
    subgroupLine: string,
    options: GpuOptions,
  ) {
    this.device = device;
    this.adapter = adapter;
    const { limits } = device;
    this.limits = Object.fromEntries(ASKED_LIMITS.map((name) => [name, limits[name]])) as Record<
      AskedLimit,
      number
    >;
    this.subgroupSize = subgroupSize;
    this.subgroupLine = subgroupLine;
    this.params = new BatchParams(device, MAX_PENDING);
    this.#uploads = new BatchUploads(device);
    this.buffers = new BufferPool(this, options.budgetBytes ?? DEFAULT_BUDGET);
    this.profile = options.profile ? new Profile(device, adapter.name) : undefined;
    this.tuned = { key: tunedKey(adapter, device.adapterInfo), tables: {} };
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { message } = (event as GPUUncapturedErrorEvent).error;
      this.fail(new Error(`internal: invalid GPU command: ${message}`));
    });
    device.lost.then((info) => {
      if (!this.#closed) this.fail(lost(info.message));
    });
  }

  /**
   * Whether kernels read copies of their inputs as texels. llvmpipe loads storage one lane after the other and texels
   * all lanes at once; on SwiftShader neither wins.
   */
  get readsTexels(): boolean {
    return this.adapter.software && /llvmpipe|lavapipe/i.test(this.adapter.name);
  }

  /** Largest range one binding may cover, in bytes. */
  get maxBindingBytes(): number {
    return this.limits.maxStorageBufferBindingSize;
  }

  /** Remembers the first failure; every later call throws it. What fails for want of the device is its loss. */
  fail(error: Error): void {
    const gone = !(error instanceof DeviceLostError) && /device is lost/i.test(error.message);
    this.#failure ??= gone ? lost(error.message) : error;
  }

  /**
   * Fails with the error that `verdict` gives, if any. Reading and settling wait for it; of several errors, the
   * one watched first counts, being the cause of the others.
   */
  watch(verdict: Promise<Error | undefined>): void {
    const earlier = this.#verdict;
    this.#verdict = verdict.then(async (error) => {
      await earlier;
      if (error) this.fail(error);
    }, async (cause) => {
      await earlier;
      this.fail(lost(String(cause)));
    });
  }

  /** Throws the failure, if there was one. Silent zeros are never results. */
  check(): void {
    if (this.#failure) throw this.#failure;
    if (this.#closed) throw new Error("Cannot use a closed device");
  }

  /** Records one dispatch; `offset` is that of the bind group's dynamic buffer, if any; `work` is for the profile. */
  dispatch(
    pipeline: GPUComputePipeline,
    bindGroup: GPUBindGroup,
    offset: number | undefined,
    grid: readonly number[],
    label: string,
    work?: Work,
  ): void {
    this.check();
    const encoder = this.#openEncoder();
    const timestampWrites = this.profile?.begin(label, work, pipeline);
    const pass = this.#pass ??= encoder.beginComputePass(
      timestampWrites ? { timestampWrites } : {},
    );
    pass.setPipeline(pipeline);
    if (offset === undefined) pass.setBindGroup(0, bindGroup);
    else {
      this.#offset[0] = offset;
      pass.setBindGroup(0, bindGroup, this.#offset, 0, 1);
    }
    pass.dispatchWorkgroups(grid[0] ?? 1, grid[1] ?? 1, grid[2] ?? 1);
    this.#batch.add(label);
    this.dispatches++;
    if (this.profile) this.#endPass();
    if (++this.#pending >= MAX_PENDING) this.flush();
  }

  /** Records a copy between buffers; offsets and size in bytes, multiples of 4. */
  copy(
    from: GpuBuffer,
    fromOffset: number,
    to: GpuBuffer,
    toOffset: number,
    sizeBytes: number,
  ): void {
    rootOf(to).version++;
    const [fromByte, toByte] = [from.offset + fromOffset, to.offset + toOffset];
    this.#command("copy", 2 * sizeBytes, (encoder) => {
      encoder.copyBufferToBuffer(from.raw, fromByte, to.raw, toByte, sizeBytes);
    });
  }

  /**
   * Records a copy of part of a buffer to the start of a texture, from a multiple of 16 bytes on; a size is rounded up
   * to whole texels, for which every buffer has room.
   */
  copyToTexels(from: GpuBuffer, offset: number, sizeBytes: number, to: Texels): void {
    const texels = Math.ceil(sizeBytes / 16);
    const rows = Math.floor(texels / TEXEL_COLUMNS);
    const rest = texels - rows * TEXEL_COLUMNS;
    const bytesPerRow = 16 * TEXEL_COLUMNS;
    const target = { texture: to.raw, origin: [0, 0] };
    this.#command("texel copy", 2 * sizeBytes, (encoder) => {
      if (rows > 0) {
        const source = { buffer: from.raw, offset, bytesPerRow, rowsPerImage: rows };
        encoder.copyBufferToTexture(source, target, [TEXEL_COLUMNS, rows]);
      }
      if (rest > 0) {
        const source = { buffer: from.raw, offset: offset + rows * bytesPerRow };
        encoder.copyBufferToTexture(source, { ...target, origin: [0, rows] }, [rest, 1]);
      }
    });
  }

  /** Records setting a whole buffer to zero. */
  clear(buffer: GpuBuffer): void {
    rootOf(buffer).version++;
    const { raw, offset } = buffer;
    const sizeBytes = buffer.heldBytes;
    this.#command("clear", sizeBytes, (encoder) => encoder.clearBuffer(raw, offset, sizeBytes));
  }

  /** Writes host bytes to a buffer, after everything recorded so far. */
  write(buffer: GpuBuffer, data: ArrayBufferView, offset = 0): void {
    this.check();
    rootOf(buffer).version++;
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    const at = buffer.offset + offset;
    if (this.#encoder && this.#uploads.fits(bytes.byteLength)) {
      const from = this.#uploads.put(bytes);
      this.#command("upload", 2 * from.sizeBytes, (encoder) => {
        encoder.copyBufferToBuffer(from.buffer, from.offset, buffer.raw, at, from.sizeBytes);
      });
      return;
    }
    this.flush(); // queue writes overtake recorded work that was not submitted
    const done = this.profile?.host("upload", { bytes: data.byteLength });
    const even = bytes.byteLength & ~3;
    const queue = this.device.queue;
    if (even > 0) queue.writeBuffer(buffer.raw, at, bytes, 0, even);
    if (even < bytes.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(bytes.subarray(even));
      queue.writeBuffer(buffer.raw, at + even, tail);
    }
    done?.();
  }

  /** Submits what was recorded. */
  flush(): void {
    this.check();
    if (!this.#encoder) return;
    this.#endPass();
    this.profile?.resolve(this.#encoder);
    this.params.submit();
    this.#uploads.submit();
    this.device.queue.submit([this.#encoder.finish()]);
    this.profile?.submitted();
    const kernels = [...this.#batch].join(", ");
    this.watch(
      this.device.popErrorScope().then((error) => {
        if (!error) return undefined;
        return new Error(
          `internal: invalid GPU command (in a batch of ${kernels}): ${error.message}`,
        );
      }),
    );
    this.#batch.clear();
    this.#encoder = undefined;
    this.#pending = 0;
    for (const run of this.#afterSubmit.splice(0)) run();
  }

  /** Runs something once the work recorded so far is submitted: destroying a buffer, say. */
  afterSubmit(run: () => void): void {
    if (this.#encoder) this.#afterSubmit.push(run);
    else run();
  }

  /** Reads ranges of several buffers with one wait. */
  async read(ranges: readonly { buffer: GpuBuffer; sizeBytes: number }[]): Promise<ArrayBuffer[]> {
    this.check();
    const staging = ranges.map(({ buffer, sizeBytes }) => {
      const size = Math.max(4, Math.ceil(sizeBytes / 4) * 4);
      const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
      const target = this.device.createBuffer({ label: "read", size, usage });
      this.#command("read", 2 * size, (encoder) => {
        encoder.copyBufferToBuffer(buffer.raw, buffer.offset, target, 0, size);
      });
      return target;
    });
    this.flush();
    const done = this.profile?.host("wait");
    try {
      await Promise.all(staging.map((b) => b.mapAsync(GPUMapMode.READ)));
      await this.#verdict;
      this.check();
    } catch (cause) {
      for (const buffer of staging) buffer.destroy();
      await this.#verdict;
      await new Promise((resolve) => setTimeout(resolve)); // until a loss of the device is reported
      this.check();
      throw lost(String(cause));
    }
    done?.();
    return staging.map((buffer, i) => {
      const copy = buffer.getMappedRange().slice(0, ranges[i].sizeBytes);
      buffer.destroy();
      return copy;
    });
  }

  /** Waits until everything recorded so far has run, and throws what went wrong. */
  async settle(): Promise<void> {
    this.flush();
    const done = this.profile?.host("wait");
    await this.device.queue.onSubmittedWorkDone();
    done?.();
    await this.#verdict;
    this.check();
  }

  /** Gives everything back. */
  close(): void {
    if (this.#closed) return;
    if (!this.#failure) this.flush();
    this.#closed = true;
    this.device.destroy();
  }

  /** Records what belongs in no pass; bytes read and written are for the profile. */
  #command(label: string, bytes: number, record: (encoder: GPUCommandEncoder) => void): void {
    this.check();
    this.#endPass();
    const encoder = this.#openEncoder();
    if (this.profile) this.profile.around(encoder, label, bytes, () => record(encoder));
    else record(encoder);
    this.#batch.add(label);
    this.#pending++;
  }

  #openEncoder(): GPUCommandEncoder {
    if (this.profile?.full) this.flush();
    if (this.#encoder) return this.#encoder;
    this.device.pushErrorScope("validation"); // until the batch is submitted
    return this.#encoder = this.device.createCommandEncoder();
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }
}
