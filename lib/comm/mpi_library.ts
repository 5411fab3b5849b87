// Open MPI's library through FFI: where it lies, which functions are called, and the addresses of its constants. The one
// file to allow is the library itself: the C functions that look symbols up are found through it.

import { ResourceError } from "../errors.ts";

/** Where packages put the library. A flag `--allow-ffi` names files, so these are full paths. */
export const LIBRARY_PATHS: readonly string[] = [
  "/usr/lib/x86_64-linux-gnu/libmpi.so.40",
  "/usr/lib/aarch64-linux-gnu/libmpi.so.40",
  "/usr/lib64/openmpi/lib/libmpi.so.40",
  "/usr/lib/libmpi.so.40",
  "/opt/homebrew/lib/libmpi.40.dylib",
];

const INSTALL = "install Open MPI (Debian: apt-get install openmpi-bin libopenmpi3)";

// Everything is passed as a "buffer": making pointers of one's own would ask for `--allow-ffi` without any list of files.
const SYMBOLS = {
  dlopen: { parameters: ["buffer", "i32"], result: "pointer" },
  dlsym: { parameters: ["pointer", "buffer"], result: "pointer" },
  MPI_Init_thread: { parameters: ["pointer", "pointer", "i32", "buffer"], result: "i32" },
  MPI_Comm_rank: { parameters: ["pointer", "buffer"], result: "i32" },
  MPI_Comm_size: { parameters: ["pointer", "buffer"], result: "i32" },
  MPI_Comm_set_errhandler: { parameters: ["pointer", "pointer"], result: "i32" },
  MPI_Error_string: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  /** What is sent is always MPI_IN_PLACE, the address 1: a number here. */
  MPI_Iallreduce: {
    parameters: ["usize", "buffer", "i32", "pointer", "pointer", "pointer", "buffer"],
    result: "i32",
  },
  MPI_Ibcast: {
    parameters: ["buffer", "i32", "pointer", "i32", "pointer", "buffer"],
    result: "i32",
  },
  MPI_Ireduce_scatter: {
    parameters: ["buffer", "buffer", "buffer", "pointer", "pointer", "pointer", "buffer"],
    result: "i32",
  },
  MPI_Iallgatherv: {
    parameters: [
      ...["buffer", "i32", "pointer"] as const,
      ...["buffer", "buffer", "buffer", "pointer", "pointer", "buffer"] as const,
    ],
    result: "i32",
  },
  MPI_Ibarrier: { parameters: ["pointer", "buffer"], result: "i32" },
  MPI_Test: { parameters: ["buffer", "buffer", "pointer"], result: "i32" },
  MPI_Abort: { parameters: ["pointer", "i32"], result: "i32" },
  MPI_Finalize: { parameters: [], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Open MPI's constants: its handles are addresses of these objects. */
const CONSTANTS = {
  world: "ompi_mpi_comm_world",
  float: "ompi_mpi_float",
  double: "ompi_mpi_double",
  byte: "ompi_mpi_byte",
  sum: "ompi_mpi_op_sum",
  errorsReturn: "ompi_mpi_errors_return",
} as const;

/** Functions and constants of the loaded library. */
export interface MpiLibrary {
  path: string;
  call: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  constants: Record<keyof typeof CONSTANTS, Deno.PointerObject>;
}

const NOW = 0x2;
const GLOBAL = Deno.build.os === "darwin" ? 0x8 : 0x100; // plug-ins of Open MPI find its symbols

const cString = (text: string) => new TextEncoder().encode(text + "\0");

/**
 * Loads Open MPI. Needs `--allow-ffi` for the library's file, and for no other.
 *
 * @param path of the library; absent: the first of {@link LIBRARY_PATHS} that is there
 * @throws {ResourceError} If it is not there, may not be loaded, or is another MPI
 */
export function loadMpi(path?: string): MpiLibrary {
  const failures: Error[] = [];
  for (const candidate of path === undefined ? LIBRARY_PATHS : [path]) {
    let library: Deno.DynamicLibrary<typeof SYMBOLS>;
    try {
      library = Deno.dlopen(candidate, SYMBOLS);
    } catch (cause) {
      if (!(cause instanceof Error)) throw cause;
      failures.push(cause);
      continue;
    }
    return { path: candidate, call: library.symbols, constants: constantsOf(library, candidate) };
  }
  throw refusal(failures, path);
}

function constantsOf(
  { symbols }: Deno.DynamicLibrary<typeof SYMBOLS>,
  path: string,
): MpiLibrary["constants"] {
  // A symbol declared to Deno as static gives its value; what is needed is where it lies.
  const handle = symbols.dlopen(cString(path), NOW | GLOBAL);
  const entries = Object.entries(CONSTANTS).map(([name, symbol]) => {
    const address = handle && symbols.dlsym(handle, cString(symbol));
    if (!address) {
      throw new ResourceError(`Cannot use ${path}: it has no ${symbol}, so it is not Open MPI`, {
        help: INSTALL,
      });
    }
    return [name, address];
  });
  return Object.fromEntries(entries);
}

/** Of several failures the one that says most: a file that is there but refused, before those that are missing. */
function refusal(failures: readonly Error[], path: string | undefined): ResourceError {
  const missing = (error: Error) => /No such file|no such file|not found/.test(error.message);
  const denied = failures.find((error) => error instanceof Deno.errors.NotCapable);
  const broken = failures.find((error) => !missing(error) && error !== denied);
  const cause = broken ?? denied ?? failures[0];
  const where = path ?? LIBRARY_PATHS[0];
  const why = cause.message.split("\n")[0].replace(/^(Could not open library: )+/, "");
  const help = cause === denied
    ? `run with --allow-ffi=${where} (or where libmpi.so.40 is), or without mpirun`
    : `${INSTALL}, or name the library with OKA_LIBMPI`;
  return new ResourceError(`Cannot load Open MPI: ${why}`, { help, cause });
}
