import { readFileSync } from "node:fs";

/** What we use of the JSON that vitest writes. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  testResults: { status: string; assertionResults: unknown[] }[];
}

/** Prints the last line of a CI run. Files that failed before their first test count as a failure each; no tests are a failure too. */
const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Report;
const brokenFiles = testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0).length;
const failed = numFailedTests + brokenFiles || (numPassedTests === 0 ? 1 : 0);
console.log(`${numPassedTests} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
