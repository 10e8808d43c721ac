import { fileURLToPath } from "node:url";
import { join } from "node:path";

/** The project's folder. */
export const projectDir = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/** Everything we make; `make clean` removes it, except for the downloads in `cache`. */
export const buildDir = join(projectDir, "build");

/** What was downloaded, and what was unpacked from it: good until removed by hand. */
export const cacheDir = join(buildDir, "cache");
