// `deno task chat`: a conversation, a line per turn, from a terminal or a pipe.

import { InputError, LabError, UsageError } from "../../errors.ts";
import { Chat, type ChatOptions } from "../../infer/chat.ts";
import type { OpenModel } from "../../infer/open_model.ts";
import type { Picture } from "../../data/picture.ts";
import { type Flags, nearest } from "../flags.ts";
import { Display } from "./display.ts";
import {
  CONTEXT_FLAGS,
  defaulting,
  IMAGE_FLAGS,
  MODEL_FLAGS,
  RULE_FLAG,
  SEED_FLAG,
  VERB_EXITS,
  WRITING_FLAGS,
} from "./flag_groups.ts";
import { linesOf, readPictures, sortArguments } from "./inputs.ts";
import { modelOf, withModel } from "./open.ts";
import { runVerb, type Verb, type VerbContext } from "./world.ts";
import { finish, watching, writingOptions } from "./writing.ts";

const FLAGS = {
  ...MODEL_FLAGS,
  ...IMAGE_FLAGS,
  ...RULE_FLAG,
  ...WRITING_FLAGS,
  ...SEED_FLAG,
  ...CONTEXT_FLAGS,
  context: {
    ...defaulting(CONTEXT_FLAGS.context, 4096),
    help: "tokens of the whole conversation; its memory is taken at once",
  },
} as const satisfies Flags;

const EXAMPLE = "deno task chat --model DIR scan.png";

const COMMANDS = {
  image: "/image PATH: show an image with the next line",
  reset: "/reset: start anew",
  help: "/help: these commands",
  quit: "/quit: end (Ctrl-D does too)",
} as const;

/** The command. */
export const CHAT: Verb<typeof FLAGS> = {
  spec: {
    name: "chat",
    purpose: "Talk with a model about images, a line per turn, with all earlier turns in mind. " +
      "Lines from a pipe\nwork too; then the first that fails ends it. Commands:\n  " +
      Object.values(COMMANDS).join("\n  "),
    usage: "--model DIR [IMAGE…] [flags]",
    flags: FLAGS,
    examples: [
      [EXAMPLE, "the image is shown with the first line"],
      [
        String.raw`printf 'Which organ?\nIs it normal?\n' | deno task chat --model DIR scan.png`,
        "from a pipe",
      ],
    ],
    exitCodes: VERB_EXITS,
    positionals: { min: 0, max: Infinity, names: [] },
  },
  async work(context) {
    const { flags, signal, args, images } = context;
    const model = modelOf(context, "chat", EXAMPLE);
    const display = new Display(context);
    const { paths, texts } = await sortArguments(args, images);
    if (texts.length > 0) {
      throw new UsageError(`Cannot take ${JSON.stringify(texts[0])}: it is no file`, {
        help: "arguments are images; say the rest when the conversation has begun",
      });
    }
    const options = { ...writingOptions(flags), seed: flags.seed, imageRule: flags.imageRule };
    const pictures = await readPictures(paths, flags, display.note, signal);
    await withModel(context, model, display, async (open) => {
      const watched = watching(context, display);
      await open.need(["head", "und"], {
        signal,
        onNote: watched.onNote,
        onProgress: (done, total) => watched.onProgress({ stage: "load", done, total }),
      });
      display.done();
      await new Conversation(context, display, open, options, { pictures, paths }).run();
    });
  },
};

type Shown = { pictures: Picture[]; paths: string[] };

/** A conversation on the command line. */
class Conversation {
  #chat: Chat;
  #turn = 0;

  constructor(
    readonly context: VerbContext<typeof FLAGS>,
    readonly display: Display,
    readonly open: OpenModel,
    readonly options: ChatOptions,
    /** Images for the next turn. */
    readonly shown: Shown,
  ) {
    this.#chat = this.#begin();
  }

  #begin(): Chat {
    return new Chat(this.open, { ...this.options, ...watching(this.context, this.display) });
  }

  /** Reads lines until they end or `/quit`. */
  async run(): Promise<void> {
    const { world, signal } = this.context;
    try {
      this.#prompt();
      for await (const line of linesOf(world.stdin(), signal)) {
        if (line.trim() === "/quit") break;
        if (line.trim() !== "") await this.#take(line.trim());
        this.#prompt();
      }
    } finally {
      this.#chat.dispose();
    }
  }

  #prompt(): void {
    const { world, flags } = this.context;
    if (world.stdinTerminal && !flags.json) world.stderr("> ");
  }

  /** A line; where somebody types, one that cannot be taken is said and the conversation goes on. */
  async #take(line: string): Promise<void> {
    try {
      const [, command, rest] = /^\/(\S*)\s*(.*)$/s.exec(line) ?? [];
      if (command === undefined) await this.#say(line);
      else await this.#obey(command, rest);
    } catch (error) {
      this.display.done();
      const { world } = this.context;
      const mine = error instanceof UsageError || error instanceof InputError;
      if (!mine || !world.stdinTerminal) throw error;
      this.#complain(error);
    }
  }

  #complain({ message, help, exitCode }: LabError): void {
    const { world, emit } = this.context;
    world.stderr(`error: ${message}\n${help ? `help: ${help}\n` : ""}`);
    emit({ event: "refused", message, ...(help ? { help } : {}), exitCode });
  }

  async #obey(command: string, rest: string): Promise<void> {
    const { context: { flags, signal, world }, display, shown } = this;
    if (command === "help") {
      world.stderr(`${Object.values(COMMANDS).join("\n")}\n`);
    } else if (command === "reset") {
      this.#chat.dispose();
      this.#chat = this.#begin();
      shown.pictures.length = shown.paths.length = 0;
      display.note("a new conversation begins");
    } else if (command === "image" && rest !== "") {
      shown.pictures.push(...await readPictures([rest], flags, display.note, signal));
      shown.paths.push(rest);
    } else {
      const near = nearest(command, Object.keys(COMMANDS));
      throw new UsageError(`Cannot understand /${command}${rest ? ` ${rest}` : ""}`, {
        help: near === undefined
          ? Object.values(COMMANDS).join("; ")
          : COMMANDS[near as keyof typeof COMMANDS],
      });
    }
  }

  async #say(line: string): Promise<void> {
    const { context, display, shown } = this;
    const images = [...shown.paths];
    const answer = await this.#chat.say(line, shown.pictures, {
      onText: display.speak("text", false),
    });
    shown.pictures.length = shown.paths.length = 0;
    const turn = ++this.#turn;
    await finish(context, display, answer, undefined, {
      turn,
      said: line,
      images,
      contextTokens: this.#chat.tokens,
    });
  }
}

if (import.meta.main) await runVerb(CHAT);
