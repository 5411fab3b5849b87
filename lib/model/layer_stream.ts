// Decoder layers from disk, one after another, for models larger than the device's memory: while a layer
// computes, the next one is read. Two layers are on the host or the device at a time, whatever the depth.

import type { Gpu } from "../gpu/device.ts";
import { Parameters } from "../nn/parameters.ts";
import { Tensor } from "../tensor.ts";
import type { Checkpoint, StoredTensor } from "./checkpoint_folder.ts";
import { deviceDtype } from "./device_weights.ts";
import type { Expert } from "./language.ts";
import { type LoraFile, placeLora } from "./lora_file.ts";
import type { LayerSource } from "./unimedvl.ts";

/** A layer's tensors on their way from disk. */
interface Reading {
  index: number;
  experts: readonly Expert[];
  bytes: Promise<[StoredTensor, Uint8Array | Float32Array][]>;
}

/** What streaming has cost so far. */
export interface StreamTimes {
  /** Bytes read from disk. */
  bytes: number;
  /** Seconds that computing waited for the disk. */
  waited: number;
  /** Layers given out. */
  layers: number;
  /** Of them read ahead, while the one before computed. */
  ahead: number;
}

/** Gives layers in any order; reads ahead the one that comes next in a pass. */
export class LayerStream implements LayerSource {
  readonly times: StreamTimes = { bytes: 0, waited: 0, layers: 0, ahead: 0 };
  readonly #gpu: Gpu;
  readonly #checkpoint: Checkpoint;
  #ahead: Reading | undefined;
  #held: { index: number; parameters: Parameters } | undefined;

  /** @param lora adapters that the layers carry */
  constructor(gpu: Gpu, checkpoint: Checkpoint, private readonly lora?: LoraFile) {
    this.#gpu = gpu;
    this.#checkpoint = checkpoint;
  }

  async take(index: number, experts: readonly Expert[]): Promise<Parameters> {
    if (this.#held) throw new Error(`internal: layer ${this.#held.index} was not released`);
    const fits = this.#ahead?.index === index &&
      experts.every((e) => this.#ahead!.experts.includes(e));
    const reading = fits ? this.#ahead! : this.#read(index, experts);
    this.#ahead = undefined;
    const start = performance.now();
    const tensors = await reading.bytes;
    this.times.waited += (performance.now() - start) / 1000;
    this.times.layers++;
    if (fits) this.times.ahead++;
    const parameters = new Parameters();
    this.#held = { index, parameters };
    for (const [stored, data] of tensors) {
      const tensor = Tensor.exact(this.#gpu, stored.shape, deviceDtype(stored));
      parameters.add(stored.ours, tensor, false);
      this.#gpu.write(tensor.buffer, data);
      this.times.bytes += stored.bytes;
    }
    if (this.lora) placeLora(this.#gpu, parameters, this.lora);
    const next = (index + 1) % this.#checkpoint.config.language.numHiddenLayers;
    this.#ahead = this.#read(next, experts);
    return parameters;
  }

  /** Waits for the layer's work: its memory is the next one's. The read ahead goes on meanwhile. */
  async release(index: number): Promise<void> {
    if (this.#held?.index !== index) return;
    await this.#gpu.settle();
    this.#held.parameters.dispose();
    this.#held = undefined;
  }

  dispose(): void {
    this.#held?.parameters.dispose();
    this.#held = undefined;
    this.#ahead = undefined;
  }

  #read(index: number, experts: readonly Expert[]): Reading {
    const checkpoint = this.#checkpoint;
    const wanted = [...checkpoint.tensors.values()].filter(({ ours }) =>
      experts.some((e) => ours.startsWith(`${e}.layers.${index}.`))
    );
    const bytes = Promise.all(wanted.map(async (stored) => {
      const whole = stored.shape.length === 2;
      const data = whole
        ? await checkpoint.readBytes(stored)
        : await checkpoint.readFloat32(stored);
      return [stored, data] as [StoredTensor, Uint8Array | Float32Array];
    }));
    bytes.catch(() => undefined); // whoever takes the layer sees the error
    return { index, experts: [...experts], bytes };
  }
}
