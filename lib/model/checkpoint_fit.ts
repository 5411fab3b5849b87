// What a file's tensors say about the model: depths and table sizes are taken from them, so that a config that
// is off by a layer or carries a class default still opens the file; everything else must agree.

import { InputError } from "../errors.ts";
import { configProblem, learnedPositions, type UniMedVLConfig } from "./config.ts";
import { FROZEN, nameInReference } from "./weights.ts";

/** Bytes of a position table that is computed because the file lacks it. */
const MOST_COMPUTED = 2 ** 30;

/** A config that fits the file, and what differed. */
export interface Fit {
  config: UniMedVLConfig;
  /** One sentence per value that the file overruled. */
  notes: string[];
}

/**
 * Takes from the tensors that are there: layers of decoder and image encoder (highest index + 1), vocabulary,
 * sides of the position tables.
 *
 * @param shapes by our names
 * @throws {InputError} If a layer number is beyond reason, or the sizes no longer fit together
 */
export function fitConfig(
  config: UniMedVLConfig,
  shapes: ReadonlyMap<string, readonly number[]>,
  dir: string,
): Fit {
  const fitted = structuredClone(config);
  const notes: string[] = [];
  const take = (what: string, was: number, now: number | undefined, set: (v: number) => void) => {
    if (now === undefined || now === was) return;
    set(now);
    notes.push(`${what}: ${was} by the config, ${now} in the file; the file's is used`);
  };
  const { language, vision } = fitted;
  const depth = { decoder: 0, vit: 0 };
  for (const name of shapes.keys()) {
    const layer = /^(und|gen|vit)\.layers\.(\d+)\./.exec(name);
    if (!layer) continue;
    const stack = layer[1] === "vit" ? "vit" : "decoder";
    depth[stack] = Math.max(depth[stack], Number(layer[2]) + 1);
    if (depth[stack] <= shapes.size) continue;
    throw new InputError(
      `Cannot open ${dir}: ${nameInReference(name)} is of layer ${layer[2]}, ` +
        `and the file has ${shapes.size} tensors of the model`,
      { help: "get the file again; it is damaged" },
    );
  }
  take("decoder layers", language.numHiddenLayers, depth.decoder || undefined, (v) => {
    language.numHiddenLayers = v;
  });
  take("image encoder layers", vision.numHiddenLayers, depth.vit || undefined, (v) => {
    vision.numHiddenLayers = v;
  });
  const rows = (name: string) => shapes.get(name)?.[0];
  const side = (name: string) => {
    const root = Math.sqrt(rows(name) ?? NaN);
    return Number.isInteger(root) ? root : undefined;
  };
  take(
    "entries of the token table",
    language.vocabSize,
    rows("text.embed.weight") ?? rows("text.head.weight"),
    (v) => language.vocabSize = v,
  );
  const learned = "vit.embed.position.weight";
  if (rows(learned) !== learnedPositions(vision)) {
    take(
      "side of the learned position table, in patches",
      Math.floor(vision.imageSize / vision.patchSize),
      side(learned),
      (v) => vision.imageSize = v * vision.patchSize,
    );
  }
  take(
    "side of the ViT position table, in patches (vit_max_num_patch_per_side)",
    config.vitMaxNumPatchPerSide,
    side("connector.position"),
    (v) => fitted.vitMaxNumPatchPerSide = v,
  );
  take(
    "side of the latent position table, in tokens (max_latent_size)",
    config.maxLatentSize,
    side("latent.position"),
    (v) => fitted.maxLatentSize = v,
  );
  for (
    const [name, side] of [
      ["connector.position", fitted.vitMaxNumPatchPerSide],
      ["latent.position", fitted.maxLatentSize],
    ] as const
  ) {
    if (shapes.has(name) || 4 * side ** 2 * language.hiddenSize <= MOST_COMPUTED) continue;
    throw new InputError(
      `Cannot open ${dir}: ${nameInReference(name)} is missing and the config's side ${side} is ` +
        "too large to compute it",
      { help: "give the config the side of the table that the model was trained with" },
    );
  }
  const problem = configProblem(fitted);
  if (problem) {
    throw new InputError(`Cannot open ${dir}: by the file's tensors ${problem.what}`, {
      help: problem.help,
    });
  }
  return { config: fitted, notes };
}

/** How a file's tensors differ from a model's, by the reference's names. */
export interface Differences {
  /** `name (rows, columns)`. */
  missing: string[];
  /** `name is (…) by the config, (…) in the file`. */
  misshapen: string[];
  /** `name is I64, no float`. */
  unreadable: string[];
}

/** What {@link compareTensors} looks at. */
export interface Described {
  dtype: string;
  /** Logical, for packed tensors too. */
  shape: readonly number[];
}

const READ = ["F32", "F16", "BF16", "int8", "int4"];

/**
 * Compares tensors with shapes; the frozen position tables may be absent, since they can be computed.
 *
 * @param found tensors of a file, by the same names as `shapes`
 * @param shown a name as errors say it
 * @param needed whether a tensor must be there
 */
export function compareTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  found: ReadonlyMap<string, Described>,
  shown: (name: string) => string,
  needed: (name: string) => boolean,
): Differences {
  const differences: Differences = { missing: [], misshapen: [], unreadable: [] };
  for (const [name, shape] of shapes) {
    const tensor = found.get(name);
    if (!tensor) {
      if (needed(name) && !FROZEN.has(name)) {
        differences.missing.push(`${shown(name)} (${shape.join(", ")})`);
      }
    } else if (!READ.includes(tensor.dtype)) {
      differences.unreadable.push(`${shown(name)} is ${tensor.dtype}, no float that is read`);
    } else if (tensor.shape.join() !== shape.join()) {
      differences.misshapen.push(
        `${shown(name)} is (${shape.join(", ")}) by the config, ` +
          `(${tensor.shape.join(", ")}) in the file`,
      );
    }
  }
  return differences;
}
