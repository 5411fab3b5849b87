// Fresh weights. A parameter's draws depend on the seed and its own name alone, so two models that share
// a name and shape share the values, whatever else differs.

import { Draws } from "../data/draws.ts";
import { sinCosTable } from "../data/position_tables.ts";
import type { Gpu } from "../gpu/device.ts";
import { Parameters } from "../nn/parameters.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import { checkConfig, type UniMedVLConfig } from "./config.ts";
import { parameterShapes } from "./shapes.ts";
import { UniMedVL } from "./unimedvl.ts";
import { FROZEN } from "./weights.ts";

/** How weights are drawn. */
export interface InitOptions {
  /**
   * `fan-in`: linear weights N(0, 1/inputs), which a small model learns from; `reference`: N(0, 0.02) for
   * the decoder as in the published training code. Default: `fan-in`.
   */
  scheme?: "fan-in" | "reference";
  /** Standard deviation of the token and learned position tables. Default: 0.02 × √hidden under `fan-in`. */
  embeddingScale?: number;
}

/**
 * A new model. Biases are 0, norms 1, the flow head 0, gen layers copies of und layers (as `init_moe`
 * does), position tables fixed.
 *
 * @throws {UsageError} If the config's sizes do not fit together
 * @throws {ResourceError} If the memory budget ends before the weights do; nothing stays allocated
 */
export function initModel(
  gpu: Gpu,
  config: UniMedVLConfig,
  seed: number,
  options: InitOptions = {},
): UniMedVL {
  checkConfig(config);
  const parameters = new Parameters();
  try {
    for (const [name, shape] of parameterShapes(config)) {
      const values = initialValues(name, shape, config, seed, options);
      parameters.add(name, Tensor.from(gpu, values, shape), !FROZEN.has(name));
    }
  } catch (cause) {
    parameters.dispose(); // those before the one without room
    throw cause;
  }
  return new UniMedVL(gpu, config, parameters);
}

function initialValues(
  name: string,
  shape: number[],
  config: UniMedVLConfig,
  seed: number,
  options: InitOptions,
): Float32Array {
  const n = sizeOf(shape);
  if (name === "connector.position" || name === "latent.position") {
    return sinCosTable(Math.sqrt(shape[0]), shape[1]);
  }
  const constant = name.startsWith("latent.out.") || name.endsWith(".bias")
    ? 0
    : /[nN]orm\.weight$/.test(name)
    ? 1
    : undefined;
  if (constant !== undefined) return new Float32Array(n).fill(constant);
  const draws = new Draws("init", seed, name.replace(/^gen\.layers\./, "und.layers."));
  const sd = deviation(name, shape, config, options);
  return Float32Array.from({ length: n }, () => sd * draws.normal());
}

function deviation(
  name: string,
  shape: number[],
  config: UniMedVLConfig,
  { scheme = "fan-in", embeddingScale }: InitOptions,
): number {
  const table = name === "text.embed.weight" || name === "vit.embed.position.weight";
  if (table && embeddingScale !== undefined) return embeddingScale;
  if (scheme === "reference" && /^(text|und|gen)\./.test(name)) return 0.02;
  if (table) return 0.02 * Math.sqrt(config.language.hiddenSize);
  return 1 / Math.sqrt(shape[1]);
}
