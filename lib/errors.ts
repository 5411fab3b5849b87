// The errors a user can cause. Each knows its exit code and, where there is one, the repair;
// everything else that is thrown is a fault of ours and exits 1.

/** Process exit codes of every command. */
export const EXIT = {
  done: 0,
  fault: 1,
  usage: 2,
  input: 3,
  resources: 4,
  numerics: 5,
  busy: 6,
  interrupted: 130,
  terminated: 143,
} as const;

/** An error with an exit code and a repair, printed without a stack. */
export class LabError extends Error {
  /** What to do next, one sentence or one command. */
  readonly help: string | undefined;
  /** The exit code of a command that ends with this error. */
  readonly exitCode: number = EXIT.fault;

  constructor(message: string, options: { help?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.help = options.help;
    this.name = new.target.name;
  }
}

/** Wrong flag, unknown config field, impossible combination (exit 2). */
export class UsageError extends LabError {
  override readonly exitCode = EXIT.usage;
}

/** A file that is missing, unreadable or not what it should be (exit 3). */
export class InputError extends LabError {
  override readonly exitCode = EXIT.input;
}

/** Memory budget, disk, adapter or device (exit 4). */
export class ResourceError extends LabError {
  override readonly exitCode = EXIT.resources;
}

/** The device went away under the work (exit 4): another one can be opened. */
export class DeviceLostError extends ResourceError {}

/** A loss or gradient that is not finite (exit 5). */
export class NumericsError extends LabError {
  override readonly exitCode = EXIT.numerics;
}
