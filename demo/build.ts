import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { buildIso } from "../image/iso.ts";
import { buildDir, projectDir } from "../image/paths.ts";
import { fail } from "../image/tools.ts";

/**
 * Builds an ISO and what goes on it in a process of its own, so that progress can be shown meanwhile, after whoever else
 * builds in this tree; returns the ISO's path.
 * @param script builds it, and prints its path last: {@link buildIso} unless told
 */
export function buildInBackground(script = import.meta.filename): Promise<string> {
  mkdirSync(buildDir, { recursive: true });
  return new Promise((resolve, reject) => {
    const command = [process.execPath, "--import", "tsx", script];
    const child = spawn("flock", [join(buildDir, "build.lock"), ...command], { cwd: projectDir, stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (data: string) => (text += data));
    child.on("error", reject);
    child.on("close", (status) => {
      const iso = text.trim().split("\n").at(-1) ?? "";
      if (status === 0 && existsSync(iso)) resolve(iso);
      else reject(new Error("it can't be built; why is told above"));
    });
  });
}

// That process: its last line is the path.
if (import.meta.filename === process.argv[1]) {
  try {
    console.log(buildIso());
  } catch (error) {
    fail(error);
  }
}
