import { availableParallelism, totalmem } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { dialect } from "./compiler/vitest-plugin.ts";

const minutes = 60_000;

/** An emulator keeps a processor busy, and takes up to 2 GiB of memory. */
const emulators = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 31)));

/** What takes long though its file is short begins first, so that no processor is idle at the end: vitest judges by size. */
const longest = ["compiler/programs", "compiler/ill-typed", "machine/start-vanish", "machine/under-load", "machine/launch", "machine/cycle", "machine/scenario"];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => longest.some((name) => moduleId.endsWith(`test/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/**
 * Two projects: first `unit`, which runs anywhere within a minute, then `machine`, which boots whole
 * machines in emulators, as many at a time as there are processors.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        plugins: [dialect(["vmm-src", "test/compiler/fixtures/modules", "test/compiler/fixtures/driver"])],
        test: {
          name: "unit",
          // Files that a worker runs one after the other share what it has loaded and compiled.
          isolate: false,
          maxWorkers: "100%",
          include: ["**/*.test.ts"],
          setupFiles: "test/seed.ts",
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
