import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { buildIso } from "../image/iso.ts";
import { projectDir } from "../image/paths.ts";
import { fail } from "../image/tools.ts";

/** Builds everything in a process of its own, so that progress can be shown meanwhile; returns the ISO's path. */
export function buildInBackground(): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", import.meta.filename], { cwd: projectDir, stdio: ["ignore", "pipe", "inherit"] });
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
