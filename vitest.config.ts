import { defineConfig } from "vitest/config";
import { dialect } from "./compiler/vitest-plugin.ts";

const minutes = 60_000;

/**
 * Two projects: first `unit`, which runs anywhere within a minute, then `machine`, which boots whole
 * machines in emulators, one at a time, because each keeps a core or two busy for minutes.
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
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: 10 * minutes,
          hookTimeout: 10 * minutes,
        },
      },
    ],
  },
});
