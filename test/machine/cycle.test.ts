import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { buildDir, projectDir } from "../../image/paths.ts";
import { targets } from "./targets.ts";

const minutes = 60_000;

interface Entry {
  event: string;
  instance: number;
  cpu: number;
  ticks: number;
}

describe.each(targets)("the whole cycle, as make demo TARGET=$name runs it", ({ name: target }) => {
  let result: { status: number | null; output: string };
  let timeline: Entry[];

  beforeAll(() => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "demo/demo.ts"], {
      cwd: projectDir,
      encoding: "utf8",
      timeout: 9 * minutes,
      env: { ...process.env, TARGET: target, CPUS: "2" },
    });
    result = { status, output: `${stdout}${stderr}` };
    timeline = JSON.parse(readFileSync(join(buildDir, "demo/timeline.json"), "utf8")) as Entry[];
  }, 10 * minutes);

  test("ends with a survivor that owns the bare machine", () => {
    expect(result.status, result.output).toBe(0);
    expect(result.output).not.toMatch(/^ +no +/m);
  });

  test("leaves a timeline in which everything happened, in its order", () => {
    const first = (event: string) => timeline.findIndex((entry) => entry.event === event);
    const order = ["captured", "launched", "userspace", "stopped", "released"].map(first);
    expect(order).not.toContain(-1);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(first("granted")).not.toBe(-1);
    for (const event of ["captured", "released"]) {
      expect(timeline.filter((entry) => entry.event === event).map(({ cpu }) => cpu).sort()).toEqual([0, 1]);
    }
    for (const { ticks } of timeline) expect(ticks).toBeGreaterThan(0);
  });

  test("leaves both systems' serial logs", () => {
    expect(readFileSync(join(buildDir, "demo/os1.log"), "latin1")).toContain("Power down");
    expect(readFileSync(join(buildDir, "demo/os2.log"), "latin1")).toMatch(/os2/);
  });
});
