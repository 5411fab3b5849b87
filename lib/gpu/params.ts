// Params of launches, written to the device once per batch. Launches differ by the offset at which they read, so
// that a bind group serves every launch over the same buffers.

/** Bytes from one launch's params to the next: an offset that every adapter allows. */
export const PARAMS_STEP = 256;

/** The params of one batch of launches. */
export class BatchParams {
  readonly buffer: GPUBuffer;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #queue: GPUQueue;
  #used = 0;

  /** @param launches launches of a batch at most */
  constructor(device: GPUDevice, launches: number) {
    const size = PARAMS_STEP * launches;
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    this.buffer = device.createBuffer({ label: "params", size, usage });
    this.#bytes = new Uint8Array(size);
    this.#queue = device.queue;
  }

  /** True if no further launch fits before {@link BatchParams.submit}. */
  get full(): boolean {
    return this.#used === this.#bytes.byteLength;
  }

  /** Where the next launch's params go; `write` gets a view of them, filled with whatever was there. */
  put(write: (view: DataView) => void): number {
    const offset = this.#used;
    this.#used += PARAMS_STEP;
    write(new DataView(this.#bytes.buffer, offset, PARAMS_STEP));
    return offset;
  }

  /** Writes what was put, ahead of the commands submitted next. */
  submit(): void {
    if (this.#used > 0) this.#queue.writeBuffer(this.buffer, 0, this.#bytes, 0, this.#used);
    this.#used = 0;
  }
}
