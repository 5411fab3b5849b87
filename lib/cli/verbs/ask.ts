// `deno task ask`: a question about images, answered word by word.

import { ask } from "../../infer/ask.ts";
import type { ThinkSet } from "../../infer/prompts.ts";
import type { Flags } from "../flags.ts";
import { Display } from "./display.ts";
import {
  ANSWER_OUT,
  CONTEXT_FLAGS,
  IMAGE_FLAGS,
  MODEL_FLAGS,
  PRESET_FLAGS,
  RULE_FLAG,
  SEED_FLAG,
  TEXT_FLAG,
  THINK_FLAG,
  VERB_EXITS,
  WRITING_FLAGS,
} from "./flag_groups.ts";
import { readPictures, sortArguments, textOf } from "./inputs.ts";
import { modelOf, withModel } from "./open.ts";
import { checkOut } from "./output.ts";
import { listPresets, presetTakes, promptOf } from "./prompt.ts";
import { runVerb, type Verb } from "./world.ts";
import { finish, watching, writingOptions } from "./writing.ts";

const FLAGS = {
  ...MODEL_FLAGS,
  ...IMAGE_FLAGS,
  ...TEXT_FLAG,
  ...PRESET_FLAGS,
  ...THINK_FLAG,
  ...RULE_FLAG,
  ...WRITING_FLAGS,
  ...SEED_FLAG,
  ...CONTEXT_FLAGS,
  ...ANSWER_OUT,
} as const satisfies Flags;

const EXAMPLE = 'deno task ask --model DIR scan.dcm "Is there a fracture?"';

/** The command. */
export const ASK: Verb<typeof FLAGS> = {
  spec: {
    name: "ask",
    purpose:
      "Ask a question about images, or about none. An argument that is a file is an image, " +
      "the other one\nis the question; without it, or for -, the question is read from stdin.",
    usage: "--model DIR [IMAGE…] QUESTION [flags]",
    flags: FLAGS,
    examples: [
      [EXAMPLE, "one image"],
      ["deno task ask --model DIR a.png b.png --preset abnormality", "several, a prompt by name"],
      ["deno task ask --model DIR --image a.png < question.txt", "the question from stdin"],
    ],
    exitCodes: VERB_EXITS,
    positionals: { min: 0, max: Infinity, names: [] },
  },
  async work(context) {
    const { flags, signal, world, args, images } = context;
    if (flags.listPresets) return listPresets("ask", context);
    const model = modelOf(context, "ask", EXAMPLE);
    const display = new Display(context);
    const { paths, texts } = await sortArguments(args, images);
    const { preset, out, seed } = flags;
    const think: ThinkSet | false = flags.think ?? false;
    const options = { ...writingOptions(flags), seed, think, imageRule: flags.imageRule };
    if (out !== undefined) await checkOut(out, "text");
    const text = await textOf(world, texts, flags.text, {
      what: "question",
      needed: preset === undefined || presetTakes(preset, "text"),
      example: EXAMPLE,
      note: display.note,
      signal,
    });
    const question = promptOf("ask", preset, { text });
    const pictures = await readPictures(paths, flags, display.note, signal);
    await withModel(context, model, display, async (open) => {
      const onText = display.speak("text", think !== false);
      const answer = await ask(open, pictures, question, {
        ...options,
        ...watching(context, display),
        onText,
      });
      await finish(context, display, answer, out, { question, images: paths, model, options });
    });
  },
};

if (import.meta.main) await runVerb(ASK);
