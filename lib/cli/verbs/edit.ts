// `deno task edit`: an image from images and an instruction.

import { edit } from "../../infer/generate.ts";
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
  WRITING_FLAGS,
} from "./flag_groups.ts";
import { readPictures, sortArguments, textOf } from "./inputs.ts";
import { modelOf, withModel } from "./open.ts";
import { checkOut } from "./output.ts";
import { listPresets, presetTakes, promptOf } from "./prompt.ts";
import { runVerb, type Verb } from "./world.ts";
import { watching, writingOptions } from "./writing.ts";

const FLAGS = {
  ...MODEL_FLAGS,
  ...IMAGE_FLAGS,
  ...TEXT_FLAG,
  ...PRESET_FLAGS,
  ...MODALITY_FLAG,
  ...pictureOut("edit"),
  plan: {
    type: "string",
    default: "answer",
    choices: ["answer", "think", "none"],
    help: "what the model adds to the instruction: its answer to it, with or without thinking",
  },
  thinkSet: {
    type: "string",
    choices: ["unimedvl", "bagel"],
    help: "whose prompt a plan is thought with (default unimedvl)",
  },
  ...SIZE_FLAG,
  ...DRAWING_FLAGS,
  ...CONDITION_FLAGS,
  ...WRITING_FLAGS,
  maxTokens: defaulting(WRITING_FLAGS.maxTokens, 800),
  ...CONTEXT_FLAGS,
} as const satisfies Flags;

const EXAMPLE = 'deno task edit --model DIR scan.png "remove the lesion" --out healthy.png';

/** The command. */
export const EDIT: Verb<typeof FLAGS> = {
  spec: {
    name: "edit",
    purpose: "Draw an image from images and an instruction. The model first says what is to be " +
      "done (the plan),\nthen draws by instruction and plan. Defaults of drawing are those below, or the model folder's.",
    usage: "--model DIR IMAGE… INSTRUCTION [flags]",
    flags: FLAGS,
    examples: [
      [EXAMPLE, "with a plan"],
      [
        'deno task edit --model DIR t1.nii --slice 90 --preset cross-modality --text "T2" --plan none',
        "a prompt by name, no plan",
      ],
    ],
    exitCodes: VERB_EXITS,
    positionals: { min: 0, max: Infinity, names: [] },
  },
  async work(context) {
    const { flags, signal, world, args, images } = context;
    if (flags.listPresets) return listPresets("edit", context);
    const model = modelOf(context, "edit", EXAMPLE);
    const display = new Display(context);
    const { paths, texts } = await sortArguments(args, images);
    const { preset, modality, out, plan } = flags;
    if (paths.length === 0) {
      throw new UsageError("Cannot edit without an image", { help: `as in: ${EXAMPLE}` });
    }
    if (flags.thinkSet !== undefined && plan !== "think") {
      throw new UsageError(`Cannot use --think-set with plan ${plan}`, {
        help: "add --plan think, or leave --think-set out",
      });
    }
    const size = sizeOption(flags.size);
    const drawing = drawingOptions(flags);
    const writing = writingOptions(flags);
    await checkOut(out, "png");
    const text = await textOf(world, texts, flags.text, {
      what: "instruction",
      needed: preset === undefined || presetTakes(preset, "text"),
      example: EXAMPLE,
      note: display.note,
      signal,
    });
    const instruction = promptOf("edit", preset, { text, modality });
    const pictures = await readPictures(paths, flags, display.note, signal);
    await withModel(context, model, display, async (open) => {
      const edited = await withPreview(
        context,
        out,
        display,
        (preview) =>
          edit(open, pictures, instruction, {
            ...writing,
            ...drawing,
            ...size,
            ...present(flags, ["rules", "posterior", "thinkSet"]),
            plan,
            ...preview,
            ...watching(context, display),
            ...(plan === "none" ? {} : { onText: display.speak("plan", plan === "think") }),
          }),
      );
      const { plan: written, instruction: drawnBy } = edited;
      const facts = {
        instruction,
        drawnBy,
        images: paths,
        model,
        ...(written === undefined ? {} : { plan: written }),
      };
      await deliver(context, display, out, edited, facts);
    });
  },
};

if (import.meta.main) await runVerb(EDIT);
