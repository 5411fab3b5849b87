// A Slurm cluster of one node on loopback, for as long as a test needs it: munge, controller and node, each from a
// folder of its own, on free ports. Works as root where slurm-wlm is installed.

import { runQuietly } from "../../lib/cli/python.ts";

/** A cluster that runs. */
export interface Cluster {
  /** For sbatch, squeue and scontrol. */
  env: Record<string, string>;
  close(): Promise<void>;
}

const PROGRAMS = ["munged", "slurmctld", "slurmd"] as const;

/** Why no cluster can be started here; undefined if one can. */
export async function whyNoCluster(): Promise<string | undefined> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return "needs root on Linux";
  for (const program of ["sbatch", ...PROGRAMS]) {
    const found = await runQuietly(program, ["--version"]);
    if (!found) return `no ${program}: apt-get install slurm-wlm`;
  }
  return undefined;
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return port;
}

async function must(command: string, args: string[], env: Record<string, string> = {}) {
  const result = await runQuietly(command, args, env);
  if (result?.code !== 0) throw new Error(`${command} ${args.join(" ")}: ${result?.stderr}`);
  return result;
}

/** Starts a cluster in a folder that is not there yet, and waits until its node is idle. */
export async function startCluster(folder: string): Promise<Cluster> {
  await Deno.mkdir(`${folder}/state`, { recursive: true });
  await Deno.mkdir(`${folder}/spool`);
  const key = `${folder}/munge.key`;
  await Deno.writeFile(key, crypto.getRandomValues(new Uint8Array(1024)), { mode: 0o400 });
  const host = (await must("hostname", ["-s"])).stdout.trim();
  const conf = `${folder}/slurm.conf`;
  const settings = {
    ClusterName: "test",
    SlurmctldHost: `${host}(127.0.0.1)`,
    SlurmUser: "root",
    SlurmdUser: "root",
    AuthType: "auth/munge",
    AuthInfo: `socket=${folder}/munge.sock`,
    CredType: "cred/munge",
    SlurmctldPort: freePort(),
    SlurmdPort: freePort(),
    StateSaveLocation: `${folder}/state`,
    SlurmdSpoolDir: `${folder}/spool`,
    SlurmctldPidFile: `${folder}/slurmctld.pid`,
    SlurmdPidFile: `${folder}/slurmd.pid`,
    SlurmctldLogFile: `${folder}/slurmctld.log`,
    SlurmdLogFile: `${folder}/slurmd.log`,
    ProctrackType: "proctrack/linuxproc",
    TaskPlugin: "task/none",
    SwitchType: "switch/none",
    MpiDefault: "none",
    ReturnToService: 2,
    SchedulerType: "sched/builtin",
    SchedulerParameters: "sched_interval=1",
    SelectType: "select/cons_tres",
    SelectTypeParameters: "CR_CPU",
    AccountingStorageType: "accounting_storage/none",
    JobAcctGatherType: "jobacct_gather/none",
  };
  await Deno.writeTextFile(
    conf,
    Object.entries(settings).map(([name, value]) => `${name}=${value}\n`).join("") +
      `NodeName=${host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN\n` +
      `PartitionName=main Nodes=${host} Default=YES MaxTime=INFINITE State=UP\n`,
  );
  const env = { SLURM_CONF: conf, MUNGE_SOCKET: `${folder}/munge.sock` };
  const close = async () => {
    for (const program of PROGRAMS.toReversed()) {
      const pid = await Deno.readTextFile(`${folder}/${program}.pid`).catch(() => undefined);
      if (pid) await runQuietly("kill", [pid.trim()]);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    await Deno.remove(folder, { recursive: true });
  };
  try {
    await must("munged", [
      `--key-file=${key}`,
      `--socket=${folder}/munge.sock`,
      `--pid-file=${folder}/munged.pid`,
      `--log-file=${folder}/munged.log`,
      `--seed-file=${folder}/munge.seed`,
      "--force", // the folder may be anybody's to write, as /tmp is
    ]);
    await must("slurmctld", ["-c", "-f", conf], env);
    await must("slurmd", ["-f", conf], env);
    for (let i = 0;; i++) {
      const nodes = await runQuietly("sinfo", ["-h", "-o", "%T"], env);
      if (nodes?.stdout.trim() === "idle") return { env, close };
      if (i === 100) throw new Error(`The node is not idle: ${nodes?.stdout}${nodes?.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  } catch (error) {
    await close();
    throw error;
  }
}
