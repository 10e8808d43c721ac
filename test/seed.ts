/** Properties are tried with the same choices each time, so that a test that fails has something to do with a change; FUZZ_SEED makes others. */
import fc from "fast-check";

fc.configureGlobal({ seed: Number(process.env.FUZZ_SEED ?? 5000) });
