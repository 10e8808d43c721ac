/** Where the compiler's own files are. */
import { fileURLToPath } from "node:url";

const own = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** What every program of the dialect may use. */
export const CORE = own("./core/core.d.ts");
/** What the generated C includes. */
export const RUNTIME = own("./emit-c/runtime.h");
/** The simulated machine that modules run on in a test. */
export const SIMULATION = own("./emit-js/shared.ts");
export const REFERENCE = own("../docs/language.md");
