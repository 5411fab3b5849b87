// The layer every command shares: flags and help, results on stdout and everything else on stderr, errors as
// `error:` and `help:`, exit codes, and an AbortSignal for Ctrl-C. The system is a record, so tests pass theirs.

import { EXIT, LabError, UsageError } from "../errors.ts";
import { dashed, type Flag, type Flags, type FlagValues, nearest, readFlags } from "./flags.ts";

/** What a command is. */
export interface CommandSpec<T extends Flags> {
  /** As typed after `deno task`. */
  name: string;
  /** One sentence. */
  purpose: string;
  /** What follows the name: `DIR [flags]`. */
  usage: string;
  /** The command's own flags; help, json, quiet, color and verbose are added. */
  flags: T;
  /** Two command lines, with what each does. */
  examples: readonly (readonly [command: string, meaning: string])[];
  /** Exit codes it can end with beyond 0, 1, 2 and 130/143. */
  exitCodes?: Readonly<Record<number, string>>;
  /** How many arguments that are not flags; default none. */
  positionals?: { min: number; max: number; names: readonly string[] };
}

const SHARED = {
  help: { type: "boolean", help: "show this text" },
  json: { type: "boolean", help: "one JSON object per line on stdout" },
  quiet: { type: "boolean", help: "no progress and no notes, only results and errors" },
  color: {
    type: "boolean",
    default: true,
    help: "no colours (nor without a terminal, nor with NO_COLOR)",
  },
  verbose: { type: "boolean", help: "stack traces of errors" },
} as const satisfies Flags;

/** What a command's main gets. */
export interface Context<T extends Flags> {
  flags: FlagValues<T & typeof SHARED>;
  /** Flags that were typed, by their name in code. */
  given: Set<string>;
  args: string[];
  /** Aborted by the first SIGINT or SIGTERM; its reason is the Interrupted error. */
  signal: AbortSignal;
  /** A result for people, on stdout; nothing with --json. */
  print(text: string): void;
  /** A result for programs, one line on stdout; nothing without --json. */
  emit(event: { event: string } & Record<string, unknown>): void;
  /** A note on stderr; nothing with --quiet. */
  note(text: string): void;
  /** A warning on stderr, always. */
  warn(text: string): void;
  /** True when stderr is a terminal that may be redrawn. */
  terminal: boolean;
}

/** A command's work. It returns an exit code, or nothing for 0. */
export type Main<T extends Flags> = (context: Context<T>) => Promise<number | void> | number | void;

/** Thrown by work that was asked to stop; ends the command with 130 or 143. */
export class Interrupted extends LabError {
  override readonly exitCode: number;
  /** The name of the signal that came. */
  readonly signal: "SIGINT" | "SIGTERM";

  constructor(signal: "SIGINT" | "SIGTERM", help?: string) {
    super(`Stopped by ${signal}`, help === undefined ? {} : { help });
    this.signal = signal;
    this.exitCode = signal === "SIGINT" ? EXIT.interrupted : EXIT.terminated;
  }
}

/** What a command needs from the process. */
export interface Shell {
  args: readonly string[];
  stdout(text: string): void;
  stderr(text: string): void;
  /** True when stderr is a terminal. */
  terminal: boolean;
  noColor: boolean;
  exit(code: number): void;
  /** Calls `listener` on each SIGINT and SIGTERM. */
  onSignal(listener: (signal: "SIGINT" | "SIGTERM") => void): void;
  /** Calls `listener` with errors that nobody catches. */
  onStray(listener: (error: unknown) => void): void;
}

/** The shell of this process. Needs no permission. */
export function processShell(): Shell {
  const encoder = new TextEncoder();
  const writeTo = (stream: { writeSync(bytes: Uint8Array): number }) => (text: string) => {
    let bytes = encoder.encode(text);
    try {
      while (bytes.length > 0) bytes = bytes.subarray(stream.writeSync(bytes));
    } catch (cause) {
      if (cause instanceof Deno.errors.BrokenPipe) Deno.exit(141); // the reader left, as `| head` does
      throw cause;
    }
  };
  return {
    args: Deno.args,
    stdout: writeTo(Deno.stdout),
    stderr: writeTo(Deno.stderr),
    terminal: Deno.stderr.isTerminal(),
    noColor: Deno.noColor,
    exit: (code) => Deno.exit(code),
    onSignal: (listener) => {
      Deno.addSignalListener("SIGINT", () => listener("SIGINT"));
      if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => listener("SIGTERM"));
    },
    onStray: (listener) => {
      globalThis.addEventListener("unhandledrejection", (event) => {
        event.preventDefault();
        listener(event.reason);
      });
      globalThis.addEventListener("error", (event) => {
        event.preventDefault();
        listener(event.error ?? event.message);
      });
    },
  };
}

/** Runs a command from parsing to exit code; the only place that calls exit. */
export async function runCommand<const T extends Flags>(
  spec: CommandSpec<T>,
  main: Main<T>,
  shell: Shell = processShell(),
): Promise<void> {
  let json = shell.args.includes("--json");
  let verbose = shell.args.includes("--verbose");
  let color = shell.terminal && !shell.noColor && !shell.args.includes("--no-color");
  const paint = (code: number, text: string) => color ? `\x1b[${code}m${text}\x1b[0m` : text;
  const line = (event: object) => shell.stdout(JSON.stringify(event) + "\n");

  function report(error: unknown): number {
    const known = error instanceof LabError;
    const message = error instanceof Error ? error.message : String(error);
    const exitCode = known ? error.exitCode : EXIT.fault;
    const help = known ? error.help : undefined;
    if (json) line({ event: "error", message, ...(help && { help }), exitCode });
    const prefix = error instanceof Interrupted ? "" : `${paint(31, "error:")} `;
    shell.stderr(`${prefix}${message}\n`);
    if (help) shell.stderr(`${paint(36, "help:")} ${help}\n`);
    const stack = error instanceof Error ? error.stack : undefined;
    if (stack && (!known || verbose)) shell.stderr(`${stack}\n`);
    return exitCode;
  }

  const stop = new AbortController();
  shell.onSignal((signal) => {
    const interrupted = new Interrupted(signal);
    if (stop.signal.aborted) return shell.exit(interrupted.exitCode);
    shell.stderr(`\nstopping after this step (${signal}); once more stops at once\n`);
    stop.abort(interrupted);
  });
  shell.onStray((error) => shell.exit(report(error)));

  const args = shell.args.map((arg) => arg === "-h" ? "--help" : arg);
  let exitCode: number;
  try {
    const all = { ...SHARED, ...spec.flags };
    const { values, positionals, given } = readFlags(args, all);
    const shared = values as FlagValues<typeof SHARED>;
    ({ json, verbose } = shared);
    color = color && shared.color;
    if (shared.help) {
      shell.stdout(helpText(spec));
      return shell.exit(EXIT.done);
    }
    checkPositionals(spec, positionals);
    const started = performance.now();
    const result = await main({
      flags: values as FlagValues<T & typeof SHARED>,
      given,
      args: positionals,
      signal: stop.signal,
      print: (text) => json || shell.stdout(text + "\n"),
      emit: (event) => json && line(event),
      note: (text) => shared.quiet || shell.stderr(text + "\n"),
      warn: (text) => shell.stderr(`${paint(33, "warning:")} ${text}\n`),
      terminal: shell.terminal,
    });
    stop.signal.throwIfAborted(); // work that returned early because it was asked to
    exitCode = result ?? EXIT.done;
    const seconds = (performance.now() - started) / 1000;
    if (json) line({ event: "done", exitCode, seconds: Number(seconds.toFixed(3)) });
  } catch (error) {
    const cut = stop.signal.aborted && error instanceof DOMException && error.name === "AbortError";
    exitCode = report(cut ? stop.signal.reason : error);
  }
  shell.exit(exitCode);
}

function checkPositionals<T extends Flags>(spec: CommandSpec<T>, got: string[]): void {
  const { min, max, names } = spec.positionals ?? { min: 0, max: 0, names: [] };
  const help = `usage: deno task ${spec.name} ${spec.usage}`;
  if (got.length < min) {
    throw new UsageError(
      `Cannot run ${spec.name}: ${names[got.length] ?? "an argument"} is missing`,
      {
        help,
      },
    );
  }
  if (got.length > max) {
    const extra = got[max];
    const flag = nearest(extra, Object.keys({ ...SHARED, ...spec.flags }).map(dashed));
    throw new UsageError(`Cannot run ${spec.name}: unexpected argument ${extra}`, {
      help: flag ? `did you mean --${flag}?` : help,
    });
  }
}

/** The text of `--help`. */
export function helpText<T extends Flags>(spec: CommandSpec<T>): string {
  const rows = Object.entries<Flag>({ ...spec.flags, ...SHARED }).map(([name, flag]) => {
    const negative = flag.type === "boolean" && flag.default === true;
    const value = flag.type === "boolean"
      ? ""
      : ` ${flag.choices ? flag.choices.join("|") : flag.unit ?? flag.type}`;
    const shown = Array.isArray(flag.default) ? flag.default.join(",") : String(flag.default);
    const fallback = flag.default === undefined || flag.type === "boolean"
      ? ""
      : ` (default ${shown}${flag.unit && flag.type !== "string" ? ` ${flag.unit}` : ""})`;
    return [
      `--${negative ? "no-" : ""}${dashed(name)}${value}`,
      `${flag.help}${fallback}`,
    ] as const;
  });
  const codes: [string, string][] = Object.entries({
    0: "done",
    1: "a fault of ours or the system's",
    2: "usage: unknown flag or impossible value",
    ...spec.exitCodes,
    130: "interrupted (Ctrl-C); 143 terminated",
  });
  return [
    spec.purpose,
    "",
    `usage: deno task ${spec.name} ${spec.usage}`.trimEnd(),
    "",
    "flags",
    ...table(rows),
    "",
    "examples",
    ...table(spec.examples),
    "",
    "exit codes",
    ...table(codes),
    "",
  ].join("\n");
}

function table(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.min(36, Math.max(...rows.map(([left]) => left.length)));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}
