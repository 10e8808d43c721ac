/** What `understudy-compiler test` runs vitest with: in the working directory all but the tests is of the dialect. */
import { dialect } from "./vitest-plugin.ts";

export default { plugins: [dialect(["."])], test: { include: ["**/*.test.ts"] } };
