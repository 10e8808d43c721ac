import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { buildInBackground } from "../../demo/build.ts";
import { getBochs } from "../../image/bochs.ts";
import { projectDir } from "../../image/paths.ts";
import { getQemu } from "../../image/qemu.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The product's ISO. */
    iso: string;
    /** The same with the hostile kernel and module on board. */
    hostileIso: string;
  }
}

/** Fetches the emulators and builds what the machines start from, once and before any of them, since several run at a time. */
export default async function setup(project: TestProject): Promise<void> {
  getBochs();
  getQemu();
  project.provide("iso", await buildInBackground());
  project.provide("hostileIso", await buildInBackground(join(projectDir, "test/hostile/build.ts")));
}
