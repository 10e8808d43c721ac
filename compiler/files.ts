/** Where the compiler's own files are. */
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const own = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** What every program of the dialect may use. */
export const CORE = own("./core/core.d.ts");
/** What Node refuses a module of the dialect by; this is what tsc sees of it. */
export const GUARD = own("./core/dialect.d.mts");
/** What the generated C includes. */
export const RUNTIME = own("./emit-c/runtime.h");
/** The simulated machine that modules run on in a test. */
export const SIMULATION = own("./emit-js/shared.ts");
/** How `test` runs vitest. */
export const TEST_CONFIG = own("./vitest-folder.ts");
export const VITEST = (): string => path.join(path.dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
export const REFERENCE = own("../docs/language.md");
