// Host bytes on their way to the device with the batch in hand: they are written to one buffer ahead of the batch and
// copied to their places within it, so that an upload between two launches does not end the batch.

/** Bytes of a batch's uploads, at most: larger ones are written on their own. */
const MOST_BYTES = 2 ** 20;

/** The uploads of one batch. */
export class BatchUploads {
  readonly #device: GPUDevice;
  #buffer: GPUBuffer | undefined;
  readonly #bytes = new Uint8Array(MOST_BYTES);
  #used = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** True if so many bytes fit in beside those put before. */
  fits(byteLength: number): boolean {
    return this.#used + byteLength <= MOST_BYTES;
  }

  /** Takes bytes along; says where to copy them from. Offset and size are multiples of 4, filled up with zeros. */
  put(bytes: Uint8Array): { buffer: GPUBuffer; offset: number; sizeBytes: number } {
    const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    this.#buffer ??= this.#device.createBuffer({ label: "uploads", size: MOST_BYTES, usage });
    const offset = this.#used;
    const sizeBytes = 4 * Math.ceil(bytes.byteLength / 4);
    this.#bytes.set(bytes, offset);
    this.#bytes.fill(0, offset + bytes.byteLength, offset + sizeBytes);
    this.#used += sizeBytes;
    return { buffer: this.#buffer, offset, sizeBytes };
  }

  /** Writes what was put, ahead of the commands submitted next. */
  submit(): void {
    if (this.#used === 0) return;
    this.#device.queue.writeBuffer(this.#buffer!, 0, this.#bytes, 0, this.#used);
    this.#used = 0;
  }
}
