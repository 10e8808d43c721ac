import { availableParallelism, totalmem } from "node:os";
import { defineConfig } from "vitest/config";
import { dialect } from "./compiler/vitest-plugin.ts";

const minutes = 60_000;

/** An emulator keeps a processor busy, and takes up to 2 GiB of memory. */
const emulators = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 31)));

/**
 * Two projects: first `unit`, which runs anywhere within a minute, then `machine`, which boots whole
 * machines in emulators, as many at a time as there are processors.
 */
export default defineConfig({
  test: {
    projects: [
      {
        plugins: [dialect(["vmm-src", "test/compiler/fixtures/modules", "test/compiler/fixtures/driver"])],
        test: {
          name: "unit",
          // Files that a worker runs one after the other share what it has loaded and compiled.
          isolate: false,
          maxWorkers: "100%",
          include: ["**/*.test.ts"],
          exclude: ["node_modules/**", "build/**", "test/machine/**"],
          // Many compile the dialect, some with gcc: seconds each on a busy machine.
          testTimeout: 2 * minutes,
          hookTimeout: 2 * minutes,
          sequence: { groupOrder: 0 },
        },
      },
      {
        plugins: [dialect(["vmm-src"])],
        test: {
          name: "machine",
          include: ["test/machine/**/*.test.ts"],
          globalSetup: "test/machine/setup.ts",
          maxWorkers: emulators,
          sequence: { groupOrder: 1 },
          // What waits for a machine has its own, shorter patience, and says what it waited for.
          testTimeout: 30 * minutes,
          hookTimeout: 30 * minutes,
        },
      },
    ],
  },
});
