// The state of a training as the files of a checkpoint, and back. Weights and averages stand under the checkpoint's
// names beside a config and a vocabulary, so that the folder can also be used as a model.

import { InputError } from "../errors.ts";
import { ADAPTER_FILE, AUTOENCODER_FILE } from "../model/checkpoint_files.ts";
import { LORA_PREFIX } from "../model/lora.ts";
import { ownConfigText } from "../model/own_config.ts";
import type { BestState } from "./best.ts";
import type { UniMedVL } from "../model/unimedvl.ts";
import type { Parameters } from "../nn/parameters.ts";
import { nameInReference } from "../model/weights.ts";
import type { LoaderState } from "../data/training/loader.ts";
import type { Task } from "../data/training/record.ts";
import type { Json } from "../study/config.ts";
import type { Tensor } from "../tensor.ts";
import type { AdamW } from "../train/adamw.ts";
import type { OpenSnapshot } from "../train/checkpoint/open.ts";
import type { Snapshot, TensorEntry } from "../train/checkpoint/snapshot.ts";
import { groupedEntries, type Saved } from "./read_back.ts";

/** Samples and tokens by task. */
export type Drawn = Record<Task, { samples: number; tokens: number }>;

/** What a checkpoint's state.json holds. */
export interface TrainState {
  format: 1;
  /** Updates made. */
  step: number;
  /** Position of the stage those end in; the next step may begin another. */
  stage: number;
  /** Where the loaders go on, by rank: the first batch of the next step. */
  loaders: LoaderState[];
  /** Drawn in this stage so far. */
  drawn: Drawn;
  /** Updates by parameter. */
  updates: Record<string, number>;
  divergence: { losses: number[]; warned: boolean };
  /** Steps that changed nothing since the last that did, and since the start. */
  skipped: { inARow: number; ever: number };
  tokens: number;
  /** The lowest held-out loss; absent until one was measured. */
  best?: BestState;
  /** Kernel choices measured on the adapter, pinned for the run: another choice sums in another order. */
  tuned: Json;
}

/** Files of weights beside the moments. */
const WEIGHTS = "model.safetensors";
const AVERAGE = "ema.safetensors";
const MOMENTS = "optimizer.safetensors";

/** Everything that is saved. */
export interface SnapshotParts {
  model: UniMedVL;
  optimizer: AdamW;
  state: TrainState;
  /** True if only adapters are trained: the base is left out. */
  adaptersOnly: boolean;
  /** Of the base: not trained, but a folder without it could not draw. */
  autoencoder?: Parameters;
  /** The header of the file with the adapters, which makes it usable by itself. */
  adapterMetadata?: Readonly<Record<string, string>>;
  /** Reads what ranks share out, by the optimizer's names: it stands in for the optimizer's own tensors. */
  shared?: ReadonlyMap<string, TensorEntry["read"]>;
  /** More text files of the folder, such as the vocabulary. */
  texts: Record<string, string>;
}

/** The files of a checkpoint; tensors are read back as they are written, small ones in groups. */
export function snapshotOf(
  { model, optimizer, state, adaptersOnly, adapterMetadata, autoencoder, texts, shared }:
    SnapshotParts,
): Snapshot {
  const weights = [...model.parameters.entries()]
    .filter(([name]) => adaptersOnly ? name.startsWith(LORA_PREFIX) : true);
  const extra: Map<string, Saved | TensorEntry> = shared
    ? sharedStates(model, shared)
    : new Map([...optimizer.tensors()].map(([name, tensor]) => [name, saved(name, tensor)]));
  const averages = adaptersOnly || ![...extra.keys()].some((name) => name.startsWith("ema/"))
    ? []
    : weights.map(([name, tensor]) => {
      const average = extra.get(`ema/${name}`);
      return average ? { ...average, name: fileName(name) } : saved(fileName(name), tensor);
    });
  const moments = [...extra.values()].filter(({ name }) =>
    adaptersOnly || !name.startsWith("ema/")
  );
  const files = [
    {
      name: adaptersOnly ? ADAPTER_FILE : WEIGHTS,
      tensors: weights.map(([name, tensor]) => saved(fileName(name), tensor)),
      ...(adapterMetadata ? { metadata: adapterMetadata } : {}),
    },
    { name: AVERAGE, tensors: averages },
    { name: MOMENTS, tensors: moments },
    {
      name: AUTOENCODER_FILE,
      tensors: adaptersOnly ? [] : [...autoencoder?.entries() ?? []].map(([n, t]) => saved(n, t)),
    },
  ];
  return {
    step: state.step,
    files: files.filter(({ tensors }) => tensors.length > 0)
      .map(({ tensors, ...file }) => ({ ...file, tensors: entriesOf(tensors) })),
    state,
    texts: adaptersOnly ? texts : { "config.json": ownConfigText(model.config), ...texts },
  };
}

/** Entries of what ranks share out: f32, of the shape of their parameter. */
function sharedStates(
  { parameters }: UniMedVL,
  shared: ReadonlyMap<string, TensorEntry["read"]>,
): Map<string, TensorEntry> {
  return new Map([...shared].map(([name, read]) => {
    const { shape } = parameters.get(name.slice(name.indexOf("/") + 1));
    return [name, { name, shape, dtype: "F32", read }];
  }));
}

type StoredDtype = TensorEntry["dtype"];

const STORED: Partial<Record<Tensor["dtype"], StoredDtype>> = {
  f32: "F32",
  bf16: "BF16",
  f16: "F16",
};

function saved(name: string, tensor: Tensor): Saved {
  const dtype = STORED[tensor.dtype];
  if (!dtype) throw new TypeError(`internal: cannot save ${name}: it is ${tensor.dtype}`);
  return { name, dtype, tensor };
}

/** This process's own tensors are read in groups; shared ones one by one, as the other ranks do. */
function entriesOf(tensors: readonly (Saved | TensorEntry)[]): TensorEntry[] {
  const own = tensors.filter((each): each is Saved => "tensor" in each);
  const shared = tensors.filter((each): each is TensorEntry => "read" in each);
  return [...groupedEntries(own), ...shared];
}

const fileName = (name: string) => name.startsWith(LORA_PREFIX) ? name : nameInReference(name);

/**
 * Puts a checkpoint into a model and its optimizer, bit by bit. The optimizer must have been made for the same
 * parameters.
 *
 * @param options `isOwn`: whether this process's optimizer updates a parameter
 * @throws {InputError} If the checkpoint lacks a tensor, or has another shape
 */
export async function restoreSnapshot(
  opened: OpenSnapshot,
  model: UniMedVL,
  optimizer: AdamW,
  { adaptersOnly, isOwn }: { adaptersOnly: boolean; isOwn: (name: string) => boolean },
): Promise<TrainState> {
  const state = readState(opened);
  await restoreWeights(opened, model, adaptersOnly);
  const average = opened.names.includes(AVERAGE) ? opened.file(AVERAGE) : undefined;
  const moments = opened.names.includes(MOMENTS) ? opened.file(MOMENTS) : undefined;
  const updates = Object.fromEntries(Object.entries(state.updates).filter(([name]) => isOwn(name)));
  await optimizer.restore(updates, async (name, shape) => {
    const ema = name.startsWith("ema/") && average;
    const file = ema || moments;
    if (!file) {
      throw new InputError(`Cannot resume from step ${opened.step}: it has no ${name}`, {
        help: "The run was started without it; keep the settings of the run",
      });
    }
    const stored = ema ? fileName(name.slice("ema/".length)) : name;
    return new Float32Array((await readTensor(file, stored, shape, "F32")).buffer);
  });
  return state;
}

/** Puts the weights of a checkpoint, or only its adapters, into a model. */
export async function restoreWeights(
  opened: OpenSnapshot,
  model: UniMedVL,
  adaptersOnly: boolean,
): Promise<void> {
  const weights = opened.file(adaptersOnly ? ADAPTER_FILE : WEIGHTS);
  for (const [name, tensor] of model.parameters.entries()) {
    if (adaptersOnly && !name.startsWith(LORA_PREFIX)) continue;
    const bytes = await readTensor(weights, fileName(name), tensor.shape, STORED[tensor.dtype]!);
    tensor.gpu.write(tensor.buffer, bytes);
  }
}

async function readTensor(
  file: ReturnType<OpenSnapshot["file"]>,
  name: string,
  shape: readonly number[],
  dtype: StoredDtype,
): Promise<Uint8Array<ArrayBuffer>> {
  const info = file.info(name);
  if (info.dtype !== dtype || info.shape.join() !== shape.join()) {
    throw new InputError(
      `Cannot resume from ${file.path}: ${name} is ${info.dtype} (${info.shape.join(", ")}), ` +
        `the model has ${dtype} (${shape.join(", ")})`,
      { help: "Resume with the settings the run was started with" },
    );
  }
  return await file.read(name);
}

function readState(opened: OpenSnapshot): TrainState {
  const state = opened.state as unknown as TrainState;
  if (state?.format === 1) return state;
  throw new InputError(
    `Cannot resume from step ${opened.step}: its state is of format ${state?.format}, this code reads 1`,
    { help: "Use the version of the code that wrote it" },
  );
}
