// `deno task train:vit`: an image encoder from images with texts, for those who have no trained one.

import { saveVitFolder, VIT_DEFAULTS, VitPart } from "../session/vit.ts";
import { runCommand, type Shell } from "./command.ts";
import { partFlags, runPart } from "./train_part.ts";

/** Runs the command. */
export function trainVit(shell?: Shell): Promise<void> {
  return runCommand({
    name: "train:vit",
    purpose: "Train an image encoder on images with texts and write a model folder that has it.",
    usage: "[--data PATH] [flags]",
    flags: partFlags,
    examples: [
      ["deno task train:vit --steps 600", "captions of phantoms, minutes on two cores"],
      [
        "deno task train:vit --data DIR --set base=runs/vae/train/seed-0/model",
        "for a model whose autoencoder was trained before",
      ],
    ],
    exitCodes: {
      3: "data, the base or a checkpoint cannot be used",
      4: "memory, disk or the device gave out; --resume goes on",
      5: "a number is not finite",
      6: "another process writes the run",
    },
  }, (context) =>
    runPart({
      name: "train:vit",
      defaults: VIT_DEFAULTS,
      textless: false,
      open: async (gpu, settings, source) => {
        const part = await VitPart.open(gpu, settings, source);
        const save = async (dir: string) => {
          await saveVitFolder(dir, part, settings);
          return "its image encoder is trained, the rest as it was";
        };
        return { part, warnings: part.warnings, save };
      },
    }, context), shell);
}

if (import.meta.main) await trainVit();
