// The group this process is in: the one mpirun or srun started, else a group of one, for which MPI need not be there.

import { UsageError } from "../errors.ts";
import { type Communicator, SOLO } from "./communicator.ts";
import { openMpi } from "./mpi.ts";

/** Environment variables that say which process of which group this is; what `--allow-env` must name. */
export const COMM_VARIABLES = [
  "OMPI_COMM_WORLD_SIZE",
  "OMPI_COMM_WORLD_LOCAL_RANK",
  "OKA_LIBMPI",
] as const;

/** Settings of {@link openCommunicator}. */
export interface OpenOptions {
  /** Value of an environment variable. Default: `Deno.env.get`. */
  variable?: (name: (typeof COMM_VARIABLES)[number]) => string | undefined;
  /** Longest wait for the other ranks in one operation, in milliseconds. */
  patienceMs?: number;
}

/**
 * Joins the group of processes that mpirun started; {@link SOLO} where there is none. `OKA_LIBMPI` names the library
 * where it lies in no usual place.
 *
 * @throws {ResourceError} If mpirun started this process but Open MPI cannot be loaded
 * @throws {UsageError} If the environment says nonsense
 */
export function openCommunicator(options: OpenOptions = {}): Promise<Communicator> {
  const variable = options.variable ?? ((name) => Deno.env.get(name));
  const size = variable("OMPI_COMM_WORLD_SIZE");
  if (size === undefined) return Promise.resolve(SOLO);
  const localRank = Number(variable("OMPI_COMM_WORLD_LOCAL_RANK") ?? 0);
  const library = variable("OKA_LIBMPI");
  if (!(Number(size) >= 1) || !Number.isInteger(localRank)) {
    throw new UsageError(
      `Cannot join a group of processes: OMPI_COMM_WORLD_SIZE is ${size}, its local rank ${localRank}`,
      { help: "start with mpirun -n N, or unset both variables" },
    );
  }
  const { patienceMs } = options;
  return Promise.resolve(openMpi({
    localRank,
    ...(library ? { library } : {}),
    ...(patienceMs === undefined ? {} : { patienceMs }),
  }));
}
