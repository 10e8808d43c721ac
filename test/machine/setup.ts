import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { buildInBackground } from "../../demo/build.ts";
import { projectDir } from "../../image/paths.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The product's ISO. */
    iso: string;
    /** The same with the hostile kernel and module on board. */
    hostileIso: string;
  }
}

/** Builds what the machines start from, once and before any of them, since several run at a time. */
export default async function setup(project: TestProject): Promise<void> {
  project.provide("iso", await buildInBackground());
  project.provide("hostileIso", await buildInBackground(join(projectDir, "test/hostile/build.ts")));
}
