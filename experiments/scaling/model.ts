// What exchanging gradients costs: bytes and seconds of one window on N ranks, from a few measured or assumed speeds.
// Ring all-reduce (Patarasuk and Yuan 2009): each rank sends 2 (N - 1) / N of the values, in 2 (N - 1) rounds.

/** Speeds of a machine. */
export interface Machine {
  name: string;
  /** Seconds of one message between two ranks, however small. */
  latency: number;
  /** Bytes per second that a rank sends (and receives at the same time), sums included. */
  network: number;
  /** Seconds lost once per exchange, however little is copied: Deno looks for finished work every 10 ms. */
  wait: number;
  /** Bytes per second from the device to the host, and back. */
  readBack: number;
  writeBack: number;
}

/** What a rank does in one window. */
export interface Work {
  name: string;
  /** Trainable scalars: 4 bytes of gradient each. */
  trainable: number;
  /** Bytes of one trainable weight as it is stored on the device. */
  weightBytes: number;
  /** Seconds of the window without any exchange. */
  compute: number;
  /** Seconds of its last micro-batch's backward: what an exchange can hide behind. */
  backward: number;
}

/** Seconds and bytes of one window. */
export interface Cost {
  ranks: number;
  /** Bytes that a rank sends: gradients, and weights where updates are shared out. */
  sent: number;
  /** Seconds of the whole exchange, one thing after the other. */
  exchange: number;
  /** Seconds of it that stay after backward. */
  exposed: number;
  /** compute / (compute + exposed): of N ranks' speed, what is used. */
  efficiency: number;
}

/** The usual size of a bucket, in bytes. */
export const BUCKET = 2 ** 25;

/**
 * The cost of a window on N ranks.
 *
 * exchange = wait + D / readBack + ring(D) + D / writeBack,  ring(D) = 2 (N - 1)/N · D / network + 2 (N - 1) · buckets · latency
 *
 * All of it can hide behind backward but for the last bucket, which is complete only when backward ends. With updates
 * shared out, half of the ring (the all-gather) is of weights and comes after the update: nothing hides it.
 */
export function costOf(
  machine: Machine,
  work: Work,
  ranks: number,
  sharded = false,
  bucketBytes = BUCKET,
): Cost {
  if (ranks === 1) return { ranks, sent: 0, exchange: 0, exposed: 0, efficiency: 1 };
  const gradients = 4 * work.trainable;
  const weights = sharded ? work.weightBytes * work.trainable : 4 * work.trainable;
  const buckets = Math.ceil(gradients / bucketBytes);
  const half = (bytes: number) =>
    ((ranks - 1) / ranks) * bytes / machine.network + (ranks - 1) * buckets * machine.latency;
  // A rank reads all gradients back; with updates shared out it writes its share of them, and all but its weights.
  const first = machine.wait + gradients / machine.readBack + half(gradients) +
    (sharded ? 0 : half(gradients)) + (sharded ? gradients / ranks : gradients) / machine.writeBack;
  const second = sharded
    ? machine.wait + weights / ranks / machine.readBack + half(weights) +
      weights / machine.writeBack
    : 0;
  const exposed = Math.max(machine.wait + (first - machine.wait) / buckets, first - work.backward) +
    second;
  return {
    ranks,
    sent: ((ranks - 1) / ranks) * (gradients + weights),
    exchange: first + second,
    exposed,
    efficiency: work.compute / (work.compute + exposed),
  };
}
