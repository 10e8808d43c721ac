import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const project = fileURLToPath(new URL("../..", import.meta.url));
const output = join(project, "build/test-command");

/** Builds the command as it is shipped; one at a time, since test files run side by side. */
function build(): string {
  mkdirSync(output, { recursive: true });
  execFileSync("flock", [join(output, "lock"), "make", "-s", "-C", join(project, "linux"), "command", `OUT=${output}`]);
  return join(output, "understudy");
}

const binary = build();

export interface Run {
  exitCode: number | null;
  output: string;
  errors: string;
}

/** Runs `understudy` with these arguments on this machine. */
export function understudy(...args: string[]): Run {
  const { status, stdout, stderr } = spawnSync(binary, args, { encoding: "utf8", input: "" });
  return { exitCode: status, output: stdout, errors: stderr };
}

/** The whole of stderr as the command must write it: lines that begin with its name. */
export function complaints(run: Run): string[] {
  return run.errors.trimEnd().split("\n").map((line) => line.replace(/^understudy: /, ""));
}

const scratch = mkdtempSync(join(tmpdir(), "understudy-"));
// Not after a file's tests: several files share a worker.
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

let files = 0;

/** Writes a file for the command to read and returns its path. */
export function file(content: string | Uint8Array): string {
  const path = join(scratch, `file-${files++}`);
  writeFileSync(path, content);
  return path;
}
