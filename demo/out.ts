import { join } from "node:path";
import { buildDir } from "../image/paths.ts";

/** Names a run and its machine; two runs at a time need two names. */
export const runName = process.env.DEMO || "demo";

/** The folder of what it leaves. */
export const out = join(buildDir, runName);
