// `deno task segment`: a mask of what is named, drawn by the model.

import { segment } from "../../infer/generate.ts";
import { UsageError } from "../../errors.ts";
import type { Flags } from "../flags.ts";
import { Display } from "./display.ts";
import { deliver, drawingOptions, sizeOption, withPreview } from "./drawing.ts";
import {
  CONDITION_FLAGS,
  CONTEXT_FLAGS,
  defaulting,
  DRAWING_FLAGS,
  IMAGE_FLAGS,
  MODALITY_FLAG,
  MODEL_FLAGS,
  pictureOut,
  present,
  PRESET_FLAGS,
  SIZE_FLAG,
  TEXT_FLAG,
  VERB_EXITS,
} from "./flag_groups.ts";
import { readPictures, sortArguments, textOf } from "./inputs.ts";
import { modelOf, withModel } from "./open.ts";
import { checkOut } from "./output.ts";
import { listPresets, promptOf } from "./prompt.ts";
import { runVerb, type Verb } from "./world.ts";
import { watching } from "./writing.ts";

const FLAGS = {
  ...MODEL_FLAGS,
  ...IMAGE_FLAGS,
  ...TEXT_FLAG,
  ...PRESET_FLAGS,
  preset: defaulting(PRESET_FLAGS.preset, "segmentation"),
  ...MODALITY_FLAG,
  ...pictureOut("segment"),
  ...SIZE_FLAG,
  ...DRAWING_FLAGS,
  ...CONDITION_FLAGS,
  ...CONTEXT_FLAGS,
} as const satisfies Flags;

const EXAMPLE = 'deno task segment --model DIR scan.png "left lung" --out mask.png';

/** The command. */
export const SEGMENT: Verb<typeof FLAGS> = {
  spec: {
    name: "segment",
    purpose:
      "Draw a mask, white on black, of what is named in an image. Defaults of drawing are those " +
      "below, or the\nmodel folder's.",
    usage: "--model DIR IMAGE TARGET [flags]",
    flags: FLAGS,
    examples: [
      [EXAMPLE, "a mask of the image's size, by the model's rule of sizes"],
      ["deno task segment --model DIR ct.dcm --window lung --modality ct lesion", "with windowing"],
    ],
    exitCodes: VERB_EXITS,
    positionals: { min: 0, max: Infinity, names: [] },
  },
  async work(context) {
    const { flags, signal, world, args, images } = context;
    if (flags.listPresets) return listPresets("segment", context);
    const model = modelOf(context, "segment", EXAMPLE);
    const display = new Display(context);
    const { paths, texts } = await sortArguments(args, images);
    const { preset, modality, out } = flags;
    if (paths.length !== 1) {
      throw new UsageError(`Cannot segment ${paths.length || "no"} images: it takes one`, {
        help: `as in: ${EXAMPLE}`,
      });
    }
    const size = sizeOption(flags.size);
    const drawing = drawingOptions(flags);
    await checkOut(out, "png");
    const target = await textOf(world, texts, flags.text, {
      what: "target",
      needed: true,
      example: EXAMPLE,
      note: display.note,
      signal,
    });
    promptOf("segment", preset, { text: target, modality }); // refused before anything is read
    const [picture] = await readPictures(paths, flags, display.note, signal);
    const { context: tokens, specialTokens } = flags;
    await withModel(context, model, display, async (open) => {
      const drawn = await withPreview(
        context,
        out,
        display,
        (preview) =>
          segment(open, picture, target!, {
            context: tokens,
            specialTokens,
            ...drawing,
            ...size,
            ...present(flags, ["rules", "posterior", "modality"]),
            preset,
            ...preview,
            ...watching(context, display),
          }),
      );
      const facts = { target, instruction: drawn.instruction, images: paths, model };
      await deliver(context, display, out, drawn, facts);
    });
  },
};

if (import.meta.main) await runVerb(SEGMENT);
