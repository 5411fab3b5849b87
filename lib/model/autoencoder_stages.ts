// What an autoencoder runs, in order: a list of blocks that both ways of running it share, the one that records
// for gradients and the one in steps.

import type { Parameters } from "../nn/parameters.ts";
import {
  attentionBlock,
  convolve,
  downsample,
  normalize,
  resnetBlock,
  upsample,
} from "../nn/image_blocks.ts";
import {
  attentionSteps,
  type BlockSteps,
  convolveBlock,
  downsampleSteps,
  outputBlock,
  resnetSteps,
  upsampleSteps,
} from "../nn/image_steps.ts";
import type { Held, Steps } from "../ops/steps.ts";
import type { Tensor } from "../tensor.ts";
import type { AutoencoderConfig } from "./autoencoder.ts";

/** The half that makes latents and the half that makes images. */
export type Half = "encoder" | "decoder";

/** Kinds of blocks. */
export type StageKind =
  | "convolve"
  | "resnet"
  | "attention"
  | "downsample"
  | "upsample"
  | "output";

/** One block. */
export interface Stage {
  kind: StageKind;
  /** Where its weights are in the half; empty if they are the half's own. */
  name: string;
  /** Channels before and after. */
  from: number;
  to: number;
}

/** How a kind of block runs: with gradients on channels-last images, and in steps. */
const BLOCKS: Record<StageKind, {
  run: (x: Tensor, p: Parameters) => Tensor;
  steps: BlockSteps;
}> = {
  convolve: { run: convolve, steps: convolveBlock },
  resnet: { run: resnetBlock, steps: resnetSteps },
  attention: { run: attentionBlock, steps: attentionSteps },
  downsample: { run: downsample, steps: downsampleSteps },
  upsample: { run: upsample, steps: upsampleSteps },
  output: {
    run: (x, p) => convolve(normalize(x, p.sub("norm_out")), p.sub("conv_out")),
    steps: outputBlock,
  },
};

/** The blocks of a half, in order. */
export function stagesOf(config: AutoencoderConfig, half: Half): Stage[] {
  const { chMult, ch, numResBlocks, zChannels } = config;
  const stages: Stage[] = [];
  const widths = chMult.map((m) => m * ch);
  let channels = half === "encoder" ? ch : widths[widths.length - 1];
  const add = (kind: StageKind, name: string, to = channels) => {
    stages.push({ kind, name, from: channels, to });
    channels = to;
  };
  const middle = () => {
    add("resnet", "mid.block_1");
    add("attention", "mid.attn_1");
    add("resnet", "mid.block_2");
  };
  const first = half === "encoder" ? config.inChannels : zChannels;
  stages.push({ kind: "convolve", name: "conv_in", from: first, to: channels });
  if (half === "encoder") {
    for (const [level, width] of widths.entries()) {
      for (let b = 0; b < numResBlocks; b++) add("resnet", `down.${level}.block.${b}`, width);
      if (level < widths.length - 1) add("downsample", `down.${level}.downsample`);
    }
    middle();
  } else {
    middle();
    for (let level = widths.length - 1; level >= 0; level--) {
      for (let b = 0; b <= numResBlocks; b++) {
        add("resnet", `up.${level}.block.${b}`, widths[level]);
      }
      if (level > 0) add("upsample", `up.${level}.upsample`);
    }
  }
  add("output", "", half === "encoder" ? 2 * zChannels : config.outCh);
  return stages;
}

/** Runs a block in the way that gradients can be recorded of; the input stays. */
export function runStage(stage: Stage, x: Tensor, half: Parameters): Tensor {
  return BLOCKS[stage.kind].run(x, weightsOf(stage, half));
}

/** Runs a block in steps; the input, in charge of `held`, is used up. */
export function stageSteps(
  stage: Stage,
  held: Held,
  x: Tensor,
  half: Parameters,
): Steps<Tensor> {
  return BLOCKS[stage.kind].steps(held, x, weightsOf(stage, half));
}

function weightsOf({ name }: Stage, half: Parameters): Parameters {
  return name === "" ? half : half.sub(name);
}
