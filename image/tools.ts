import { type SpawnSyncOptions, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** An error that the user can act on: its message is one line, and needs no stack trace. */
export class UserError extends Error {}

/** Prints a UserError's one line, or any other error whole, and ends with status 1. */
export function fail(error: unknown): never {
  console.error(error instanceof UserError ? `understudy: ${error.message}` : error);
  process.exit(1);
}

/** Runs a command and returns what it wrote to stdout; a failure becomes an error that quotes stderr. */
export function run(command: string, args: string[], options: SpawnSyncOptions = {}): Buffer {
  const result = spawnSync(command, args, {
    maxBuffer: 1 << 30,
    ...options,
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C", ...options.env },
  });
  if (result.error) {
    const missing = (result.error as NodeJS.ErrnoException).code === "ENOENT";
    throw new UserError(missing ? `'${command}' is not installed (make setup installs what is needed)` : `${command}: ${result.error.message}`);
  }
  if (result.status !== 0) {
    const said = String(result.stderr).trim() || String(result.stdout).trim();
    throw new UserError(`${command} ${args.join(" ")}: ${said.split("\n").slice(-5).join(" | ") || `status ${result.status}`}`);
  }
  return result.stdout as Buffer;
}

/** Like {@link run}, for commands whose output is text. */
export function runText(command: string, args: string[], options: SpawnSyncOptions = {}): string {
  return run(command, args, options).toString();
}

/**
 * Makes a file or folder whole or not at all: `make` fills a place beside it, which then takes its name.
 * So an interrupted run leaves nothing half done, and two runs at a time do no harm.
 */
export function atomically(path: string, make: (temporary: string) => void): void {
  const temporary = `${path}.part-${process.pid}`;
  mkdirSync(dirname(path), { recursive: true });
  try {
    make(temporary);
    try {
      renameSync(temporary, path);
    } catch (error) {
      // A folder can't replace a folder: another run was faster, and its result is as good.
      if (!existsSync(path)) throw error;
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** True if a file exists and is no older than those it is made from. */
export function isNewer(file: string, sources: string[]): boolean {
  return existsSync(file) && sources.every((source) => statSync(source).mtimeMs <= statSync(file).mtimeMs);
}
