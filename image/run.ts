import { startBochs } from "../test/machine/bochs.ts";
import { buildIso } from "./iso.ts";
import { UserError, fail } from "./tools.ts";

const quit = 0x1d; // Ctrl-]

/** Starts OS 1 and puts its console on the user's terminal. */
async function main(): Promise<void> {
  const cpus = Number(process.env.CPUS || 2);
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 8) throw new UserError(`CPUS=${process.env.CPUS}: give a number from 1 to 8`);
  const machine = await startBochs({ iso: buildIso(), cpus, memoryMiB: Number(process.env.MEMORY || 1024), name: "run" });
  console.log("Bochs is starting; the shell comes in half a minute. Ctrl-] quits.");

  const end = async (said: string, status: number) => {
    if (process.stdin.isTTY) process.stdin.setRawMode(false);
    await machine.stop();
    console.log(`\n${said}`);
    process.exit(status);
  };
  machine.socket.on("data", (data) => process.stdout.write(data));
  machine.socket.on("close", () => void end("Bochs ended; its log is in build/machines/run/bochs.log", 1));
  if (process.stdin.isTTY) process.stdin.setRawMode(true);
  process.stdin.on("data", (data: Buffer) => {
    if (data.includes(quit)) {
      machine.socket.removeAllListeners("close");
      void end("stopped", 0);
    } else {
      machine.send(data.toString()).catch(() => {});
    }
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void end("stopped", 1));
}

main().catch(fail);
