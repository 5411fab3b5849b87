// Device time per kernel label, from timestamps around each dispatch.

const CAPACITY = 2048; // dispatches per submit, two timestamps each

/** Calls and time of one kernel. */
export interface KernelTime {
  label: string;
  calls: number;
  milliseconds: number;
}

/** Collects timestamps; read with `table()`. */
export class Profile {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #totals = new Map<string, KernelTime>();
  #labels: string[] = [];
  #waiting: { labels: string[]; resolved: GPUBuffer; buffer: GPUBuffer }[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 * CAPACITY });
  }

  /** Timestamps for the next pass, which holds one dispatch. */
  begin(label: string): GPUComputePassTimestampWrites {
    const i = this.#labels.length;
    if (i >= CAPACITY) throw new Error("internal: more dispatches in one submit than timestamps");
    this.#labels.push(label);
    return {
      querySet: this.#queries,
      beginningOfPassWriteIndex: 2 * i,
      endOfPassWriteIndex: 2 * i + 1,
    };
  }

  /** Records the read-back of what was timed in this encoder. */
  resolve(encoder: GPUCommandEncoder): void {
    const count = 2 * this.#labels.length;
    if (count === 0) return;
    const size = 8 * count;
    const resolved = this.#device.createBuffer({
      size,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    const buffer = this.#device.createBuffer({
      size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    encoder.resolveQuerySet(this.#queries, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, buffer, 0, size);
    this.#waiting.push({ labels: this.#labels, resolved, buffer });
    this.#labels = [];
  }

  /** Times per kernel, largest first. Waits for submitted work. */
  async table(): Promise<KernelTime[]> {
    const waiting = this.#waiting.splice(0);
    await Promise.all(waiting.map(({ buffer }) => buffer.mapAsync(GPUMapMode.READ)));
    for (const { labels, resolved, buffer } of waiting) {
      const times = new BigUint64Array(buffer.getMappedRange());
      labels.forEach((label, i) => {
        const entry = this.#totals.get(label) ?? { label, calls: 0, milliseconds: 0 };
        entry.calls++;
        entry.milliseconds += Number(times[2 * i + 1] - times[2 * i]) / 1e6;
        this.#totals.set(label, entry);
      });
      buffer.destroy();
      resolved.destroy();
    }
    return [...this.#totals.values()].sort((a, b) => b.milliseconds - a.milliseconds);
  }
}
