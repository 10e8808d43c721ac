import { beforeAll, describe, expect, test } from "vitest";
import { type Demo, type Entry, runDemo } from "./demo.ts";
import { targets } from "./targets.ts";

describe.each(targets)("the whole cycle, as make demo TARGET=$name runs it", ({ name: target, levels }) => {
  let demo: Demo;
  let timeline: Entry[];

  beforeAll(async () => {
    demo = await runDemo(`cycle-${target}`, { TARGET: target, CPUS: "2" });
    timeline = demo.timeline();
  });

  test("ends with a survivor that owns the bare machine", () => {
    expect(demo.status, demo.output).toBe(0);
    expect(demo.output).not.toMatch(/^ +NO +/m);
    expect(demo.output).toContain(`${levels} levels of page tables`);
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
    expect(demo.file("os1.log")).toContain("Power down");
    expect(demo.file("os2.log")).toMatch(/os2/);
  });
});
