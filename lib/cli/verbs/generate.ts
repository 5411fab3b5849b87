// `deno task generate`: an image from a text.

import { generate, type Generated } from "../../infer/generate.ts";
import { UsageError } from "../../errors.ts";
import type { Flags } from "../flags.ts";
import { Display } from "./display.ts";
import { deliver, drawingOptions, sizeOption, withPreview } from "./drawing.ts";
import {
  CONTEXT_FLAGS,
  defaulting,
  DRAWING_FLAGS,
  MODALITY_FLAG,
  MODEL_FLAGS,
  pictureOut,
  PRESET_FLAGS,
  SIZE_FLAG,
  TEXT_FLAG,
  THINK_FLAG,
  VERB_EXITS,
  WRITING_FLAGS,
} from "./flag_groups.ts";
import { textOf } from "./inputs.ts";
import { modelOf, withModel } from "./open.ts";
import { checkOut, numbered } from "./output.ts";
import { listPresets, presetTakes, promptOf } from "./prompt.ts";
import { runVerb, type Verb } from "./world.ts";
import { watching, writingOptions } from "./writing.ts";

const FLAGS = {
  ...MODEL_FLAGS,
  ...TEXT_FLAG,
  ...PRESET_FLAGS,
  ...MODALITY_FLAG,
  ...pictureOut("generate"),
  count: {
    type: "integer",
    default: 1,
    min: 1,
    unit: "images",
    help: "how many, of seed, seed + 1, …",
  },
  size: { ...SIZE_FLAG.size, help: "pixels (default 1024, or what the model can draw)" },
  ...DRAWING_FLAGS,
  ...THINK_FLAG,
  ...WRITING_FLAGS,
  maxTokens: defaulting(WRITING_FLAGS.maxTokens, 1000),
  ...CONTEXT_FLAGS,
} as const satisfies Flags;

const EXAMPLE = 'deno task generate --model DIR "a chest X-ray without findings" --out xray.png';

/** The command. */
export const GENERATE: Verb<typeof FLAGS> = {
  spec: {
    name: "generate",
    purpose:
      "Draw an image from a text; the result is its path. Defaults of drawing are those below, or the " +
      "model folder's\nwhere it has a defaults.json.",
    usage: "--model DIR PROMPT [flags]",
    flags: FLAGS,
    examples: [
      [EXAMPLE, "one image"],
      [
        'deno task generate --model DIR --preset synthesis --modality oct "macular edema" --count 4',
        "four, of seeds 42 to 45",
      ],
      ["deno task generate --model DIR --size 512 --steps 25 --preview < prompt.txt", "watch it"],
    ],
    exitCodes: VERB_EXITS,
    positionals: { min: 0, max: Infinity, names: [] },
  },
  async work(context) {
    const { flags, signal, world, args, images } = context;
    if (flags.listPresets) return listPresets("generate", context);
    const model = modelOf(context, "generate", EXAMPLE);
    if (images.length > 0) {
      throw new UsageError("Cannot generate from an image", {
        help: "to draw from an image and a text, use deno task edit",
      });
    }
    const display = new Display(context);
    const { preset, modality, out, count, think = false } = flags;
    const size = sizeOption(flags.size);
    const drawing = drawingOptions(flags);
    const writing = writingOptions(flags);
    const text = await textOf(world, args, flags.text, {
      what: "prompt",
      needed: preset === undefined || presetTakes(preset, "text"),
      example: EXAMPLE,
      note: display.note,
      signal,
    });
    const prompt = promptOf("generate", preset, { text, modality });
    const paths = Array.from({ length: count }, (_, i) => numbered(out, i, count));
    for (const path of paths) await checkOut(path, "png");
    const { seed = 42 } = drawing;
    await withModel(context, model, display, async (open) => {
      for (const [i, path] of paths.entries()) {
        if (count > 1) display.note(`image ${i + 1} of ${count}, seed ${seed + i}`);
        const drawn: Generated = await withPreview(
          context,
          out,
          display,
          (preview) =>
            generate(open, prompt, {
              ...writing,
              ...drawing,
              ...size,
              seed: seed + i,
              think,
              ...preview,
              ...watching(context, display),
              ...(think ? { onText: display.speak("thought", false) } : {}),
            }),
        );
        const { thought } = drawn;
        const facts = { prompt, model, ...(thought === undefined ? {} : { thought }) };
        await deliver(context, display, path, drawn, facts);
      }
    });
  },
};

if (import.meta.main) await runVerb(GENERATE);
