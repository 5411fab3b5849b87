// Words of a command line as a shell takes them.

/** Text as one word of a shell. */
export function quoted(text: string): string {
  return /^[\w.:,=@%+/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Arguments of a training, to be typed again after it stopped: with `--resume`. */
export function argumentsToResume(args: readonly string[]): string {
  return (args.includes("--resume") ? args : [...args, "--resume"]).map(quoted).join(" ");
}
