// What the demo keeps of each arm, so that an interrupted run goes on where it stopped: an arm is kept only
// when it is finished and was made from the same settings and the same start.

import { InputError } from "../../lib/errors.ts";
import { writeWhole } from "../../lib/show/export.ts";
import type { ArmResult } from "./arm.ts";
import type { DemoWorld } from "./world.ts";
import type { Pixels } from "../../lib/data/transforms.ts";

/** Finished arms under one folder, one JSON file each. */
export class ArmStore {
  readonly #dir: string;
  readonly #fingerprint: string;
  readonly #resume: boolean;

  /** @param fingerprint of everything that decides the result: arms with another are not used */
  constructor(dir: string, fingerprint: string, resume: boolean) {
    this.#dir = dir;
    this.#fingerprint = fingerprint;
    this.#resume = resume;
  }

  /** The finished arm, if it is to be used again. @throws {InputError} If its file is damaged */
  async find(world: DemoWorld, arm: string): Promise<ArmResult | undefined> {
    if (!this.#resume) return undefined;
    const path = this.#path(world, arm);
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return undefined;
      throw cause;
    }
    try {
      const { fingerprint, result } = JSON.parse(text);
      return fingerprint === this.#fingerprint ? revive(result) : undefined;
    } catch (cause) {
      throw new InputError(`Cannot use ${path}: ${(cause as Error).message}`, {
        cause,
        help: "remove the file, or run without --resume",
      });
    }
  }

  /** Keeps a finished arm. */
  async keep(world: DemoWorld, result: ArmResult): Promise<void> {
    await Deno.mkdir(`${this.#dir}/arms`, { recursive: true });
    const pictures = result.drawn?.pictures.map(({ width, height, data }) => ({
      width,
      height,
      data: Array.from(data, (v) => Number(v.toFixed(4))),
    }));
    const drawn = result.drawn && { ...result.drawn, pictures };
    const record = { fingerprint: this.#fingerprint, result: { ...result, drawn } };
    await writeWhole(this.#path(world, result.arm), JSON.stringify(record) + "\n");
  }

  #path(world: DemoWorld, arm: string): string {
    return `${this.#dir}/arms/${world.key}-${arm}.json`;
  }
}

function revive(result: ArmResult): ArmResult {
  if (!result.drawn) return result;
  const pictures = result.drawn.pictures.map((picture): Pixels => ({
    ...picture,
    data: Float32Array.from(picture.data),
  }));
  return { ...result, drawn: { ...result.drawn, pictures } };
}
