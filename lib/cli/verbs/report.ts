// `deno task report`: a report about images; with an image as its result, the images drawn again from it, or as they
// would look under another condition.

import type { Picture } from "../../data/picture.ts";
import { UsageError } from "../../errors.ts";
import { ask } from "../../infer/ask.ts";
import type { DrawingOptions, Drawn } from "../../infer/draw.ts";
import { counterfactual } from "../../infer/generate.ts";
import type { ThinkSet } from "../../infer/prompts.ts";
import { reconstruct } from "../../infer/reconstruct.ts";
import type { Flags } from "../flags.ts";
import { Display } from "./display.ts";
import { deliver, drawingOptions, typedDrawingFlags, withPreview } from "./drawing.ts";
import {
  CONDITION_FLAGS,
  CONTEXT_FLAGS,
  defaulting,
  DRAWING_FLAGS,
  IMAGE_FLAGS,
  MODALITY_FLAG,
  MODEL_FLAGS,
  present,
  PRESET_FLAGS,
  TEXT_FLAG,
  THINK_FLAG,
  VERB_EXITS,
  WRITING_FLAGS,
} from "./flag_groups.ts";
import { readPictures, sortArguments, textOf } from "./inputs.ts";
import { modelOf, withModel } from "./open.ts";
import { checkOut, isPng, numbered } from "./output.ts";
import { listPresets, presetTakes, promptOf } from "./prompt.ts";
import { runVerb, type Verb, type VerbContext } from "./world.ts";
import { finish, watching, writingOptions } from "./writing.ts";

const FLAGS = {
  ...MODEL_FLAGS,
  ...IMAGE_FLAGS,
  instruction: { type: "string", unit: "TEXT", help: "what to write, instead of a preset" },
  ...TEXT_FLAG,
  text: { ...TEXT_FLAG.text, help: "the condition of preset counterfactual; - reads stdin" },
  ...PRESET_FLAGS,
  preset: { ...PRESET_FLAGS.preset, help: "a prompt by name (default report)" },
  ...MODALITY_FLAG,
  out: {
    type: "string",
    unit: "FILE",
    help: "write the report there too; a FILE.png gets the images, drawn again from the report",
  },
  ...THINK_FLAG,
  ...WRITING_FLAGS,
  maxTokens: defaulting(WRITING_FLAGS.maxTokens, 800),
  ...CONTEXT_FLAGS,
  ...DRAWING_FLAGS,
  ...CONDITION_FLAGS,
  seed: {
    ...DRAWING_FLAGS.seed,
    help: "decides sampling (default 0), or noise and sampling of a drawing (default 42)",
  },
} as const satisfies Flags;

const EXAMPLE = "deno task report --model DIR chest.dcm --modality cxr";

/** What is asked of the model. */
interface Task {
  model: string;
  pictures: Picture[];
  paths: string[];
  prompt: string;
  /** What the preset's place for a text was filled with. */
  condition: string;
  writing: ReturnType<typeof writingOptions>;
  drawing: DrawingOptions;
}

/** The command. */
export const REPORT: Verb<typeof FLAGS> = {
  spec: {
    name: "report",
    purpose: "Write a report about images. With --out FILE.png the model also draws the images " +
      "again from it; with\n--preset counterfactual it says and draws what would differ.",
    usage: "--model DIR IMAGE… [flags]",
    flags: FLAGS,
    examples: [
      [EXAMPLE, "findings and impression"],
      ["deno task report --model DIR chest.png --out again.png", "text, and the image drawn again"],
      [
        'deno task report --model DIR mri.png --preset counterfactual --text "no tumour" --out no.png',
        "text and image",
      ],
    ],
    exitCodes: VERB_EXITS,
    positionals: { min: 0, max: Infinity, names: [] },
  },
  async work(context) {
    const { flags, signal, args, images } = context;
    if (flags.listPresets) return listPresets("report", context);
    const model = modelOf(context, "report", EXAMPLE);
    const display = new Display(context);
    const { paths, texts } = await sortArguments(args, images);
    if (texts.length > 0) {
      throw new UsageError(`Cannot take ${JSON.stringify(texts[0])}: it is no file`, {
        help: "arguments are images; what to write goes behind --instruction",
      });
    }
    if (paths.length === 0) {
      throw new UsageError("Cannot report without an image", { help: `as in: ${EXAMPLE}` });
    }
    const preset = presetOf(flags);
    const imagined = preset === "counterfactual";
    const out = flags.out ?? (imagined ? "results/report.png" : undefined);
    const draws = imagined || out !== undefined && isPng(out);
    if (out !== undefined) await checkOut(out, draws ? "png" : "text");
    checkFlags(context, draws, imagined, paths.length);
    const writing = writingOptions(flags);
    const drawing = drawingOptions(flags);
    const asked = await promptFor(context, display, preset);
    const pictures = await readPictures(paths, flags, display.note, signal);
    const task = { model, pictures, paths, ...asked, writing, drawing };
    if (!draws) await write(context, display, task, out);
    else if (imagined) await imagine(context, display, task, out!);
    else await drawAgain(context, display, task, out!);
  },
};

type Report = VerbContext<typeof FLAGS>;

function presetOf(flags: Report["flags"]): string | undefined {
  if (flags.instruction === undefined) return flags.preset ?? "report";
  if (flags.preset === undefined) return undefined;
  throw new UsageError("Cannot report with both --instruction and --preset", {
    help: "leave one of them out",
  });
}

/** Flags that mean nothing for what is to be done are refused. */
function checkFlags({ flags, given }: Report, draws: boolean, imagined: boolean, count: number) {
  const idle = draws ? [] : [
    ...typedDrawingFlags(given),
    ...["rules", "posterior"]
      .filter((name) => given.has(name)).map((name) => `--${name}`),
  ];
  if (idle.length > 0) {
    throw new UsageError(`Cannot use ${idle.join(", ")}: nothing is drawn`, {
      help: "add --out FILE.png to have the images drawn again, or leave it out",
    });
  }
  if (draws && !imagined && flags.think !== undefined) {
    throw new UsageError("Cannot think in a report that is drawn", {
      help: "leave out --think, or give --out another name than .png",
    });
  }
  if (imagined && count !== 1) {
    throw new UsageError(`Cannot imagine ${count} images otherwise: it takes one`, {
      help: "give one image",
    });
  }
}

/** The prompt, with the condition read from stdin if it is not given. */
async function promptFor(
  context: Report,
  display: Display,
  preset: string | undefined,
): Promise<Pick<Task, "prompt" | "condition">> {
  const { flags, world, signal } = context;
  const wants = preset !== undefined && presetTakes(preset, "text");
  const example = `${EXAMPLE} --preset ${preset} --text "no tumour"`;
  const reading = { example, note: display.note, signal };
  const text = await textOf(world, [], flags.text, {
    what: "condition",
    needed: wants,
    ...reading,
  });
  const { modality } = flags;
  if (preset !== undefined) {
    return { prompt: promptOf("report", preset, { text, modality }), condition: text ?? "" };
  }
  if (text !== undefined) {
    throw new UsageError("Cannot report with both --instruction and --text", {
      help: "put all of it in --instruction",
    });
  }
  const instruction = await textOf(world, [], flags.instruction, {
    what: "instruction",
    needed: true,
    ...reading,
  });
  return { prompt: promptOf("report", undefined, { text: instruction, modality }), condition: "" };
}

/** The report alone. */
async function write(
  context: Report,
  display: Display,
  { model, pictures, paths, prompt, writing }: Task,
  out: string | undefined,
) {
  const { seed = 0 } = context.flags;
  const think: ThinkSet | false = context.flags.think ?? false;
  const options = { ...writing, seed, think };
  await withModel(context, model, display, async (open) => {
    const answer = await ask(open, pictures, prompt, {
      ...options,
      ...watching(context, display),
      onText: display.speak("text", think !== false),
    });
    await finish(context, display, answer, out, { prompt, images: paths, model, options });
  });
}

/** The report, and each image drawn again from it. */
async function drawAgain(
  context: Report,
  display: Display,
  { model, pictures, paths, prompt, writing, drawing }: Task,
  out: string,
) {
  await withModel(context, model, display, async (open) => {
    const { images, ...answer } = await withPreview(
      context,
      out,
      display,
      (preview) =>
        reconstruct(open, pictures, prompt, {
          ...writing,
          ...drawing,
          ...present(context.flags, ["rules", "posterior"]),
          ...preview,
          ...watching(context, display),
          onText: display.speak("text", false),
        }),
    );
    const facts = { prompt, images: paths, model, options: writing };
    await finish(context, display, answer, undefined, facts);
    if (images.length === 0) context.warn("nothing was drawn: the report is empty");
    for (const [i, drawn] of images.entries()) {
      await deliverImage(context, display, numbered(out, i, images.length), drawn, paths[i]);
    }
  });
}

/** What would differ under another condition, and the image of it. */
async function imagine(
  context: Report,
  display: Display,
  { model, pictures: [picture], paths, prompt, condition, writing, drawing }: Task,
  out: string,
) {
  const { flags } = context;
  await withModel(context, model, display, async (open) => {
    const { text, instruction, ...drawn } = await withPreview(
      context,
      out,
      display,
      (preview) =>
        counterfactual(open, picture, condition, {
          ...writing,
          ...drawing,
          ...present(flags, ["rules", "posterior", "modality"]),
          ...(flags.think === undefined ? {} : { plan: "think", thinkSet: flags.think } as const),
          ...preview,
          ...watching(context, display),
          onText: display.speak("text", flags.think !== undefined),
        }),
    );
    const facts = { prompt, instruction, images: paths, model, options: writing };
    await finish(context, display, { text }, undefined, facts);
    await deliverImage(context, display, out, drawn, paths[0]);
  });
}

/** Stdout has the text: where the image went is a note. */
async function deliverImage(
  context: Report,
  display: Display,
  path: string,
  drawn: Drawn,
  source: string,
) {
  await deliver({ ...context, print: () => {} }, display, path, drawn, { source });
  display.note(`image in ${path}`);
}

if (import.meta.main) await runVerb(REPORT);
