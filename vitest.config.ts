import { defineConfig } from "vitest/config";
import { dialect } from "./compiler/vitest-plugin.ts";

const minutes = 60_000;

/**
 * Two projects: `unit` runs anywhere in seconds; `machine` boots whole machines in emulators,
 * one at a time, because each keeps a core or two busy for minutes.
 */
export default defineConfig({
  test: {
    projects: [
      {
        plugins: [dialect(["vmm-src", "test/compiler/fixtures/modules"])],
        test: {
          name: "unit",
          include: ["**/*.test.ts"],
          exclude: ["node_modules/**", "build/**", "test/machine/**"],
        },
      },
      {
        test: {
          name: "machine",
          include: ["test/machine/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 10 * minutes,
          hookTimeout: 10 * minutes,
        },
      },
    ],
  },
});
