import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buildDir, projectDir } from "../../image/paths.ts";
import { patience } from "./console.ts";

const minutes = 60_000;

/** As `make demo` leaves it in timeline.json. */
export interface Entry {
  event: string;
  instance: number;
  cpu: number;
  ticks: number;
  text?: string;
}

/** What a demonstration came to. */
export interface Demo {
  status: number | null;
  output: string;
  /** One of the files that it leaves. */
  file(name: string): string;
  timeline(): Entry[];
}

/** Runs what `make demo` runs, with these variables, into the folder build/NAME; two at a time need two names. */
export async function runDemo(name: string, variables: Record<string, string>): Promise<Demo> {
  const child = spawn(process.execPath, ["--import", "tsx", "demo/demo.ts"], {
    cwd: projectDir,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 9 * minutes * patience,
    env: { ...process.env, NO_COLOR: "1", DEMO: name, ...variables },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const status = await new Promise<number | null>((resolve, reject) => child.once("close", resolve).once("error", reject));
  const file = (one: string) => readFileSync(join(buildDir, name, one), "latin1");
  return { status, output, file, timeline: () => JSON.parse(file("timeline.json")) as Entry[] };
}
