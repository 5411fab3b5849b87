// `deno task train:vae`: an autoencoder from images, for those who have no trained one.

import { saveVaeFolder, VAE_DEFAULTS, VaePart } from "../session/vae.ts";
import { vocabularyOf } from "../session/part_data.ts";
import { PRESETS } from "../model/config.ts";
import { runCommand, type Shell } from "./command.ts";
import { partFlags, runPart } from "./train_part.ts";

/** Runs the command. */
export function trainVae(shell?: Shell): Promise<void> {
  return runCommand({
    name: "train:vae",
    purpose: "Train an autoencoder on images and write a model folder whose latents it makes.",
    usage: "[--data PATH] [flags]",
    flags: partFlags,
    examples: [
      ["deno task train:vae", "phantoms of 32 pixels, minutes on two cores"],
      [
        "deno task train:vae --data DIR --size 64 --set chMult=[1,2,4],zChannels=8",
        "images of a folder, 4 pixels to a latent",
      ],
    ],
    exitCodes: {
      3: "data or a checkpoint cannot be used",
      4: "memory, disk or the device gave out; --resume goes on",
      5: "a number is not finite",
      6: "another process writes the run",
    },
  }, (context) =>
    runPart({
      name: "train:vae",
      defaults: VAE_DEFAULTS,
      textless: true,
      open: async (gpu, settings, source) => {
        const part = await VaePart.open(gpu, settings, source);
        const save = async (dir: string) => {
          const { vocabSize } = PRESETS[settings.preset as "tiny" | "small"].language;
          const words = await vocabularyOf(source, vocabSize);
          const { scaleFactor, shiftFactor } = await saveVaeFolder(dir, part, settings, words);
          const known = words.words.length === 0
            ? "; the images have no texts, so its vocabulary has no words"
            : "";
          return `latents are (z ${shiftFactor < 0 ? "+" : "-"} ${
            Math.abs(shiftFactor).toPrecision(4)
          }) · ${scaleFactor.toPrecision(4)}${known}`;
        };
        return { part, save };
      },
    }, context), shell);
}

if (import.meta.main) await trainVae();
