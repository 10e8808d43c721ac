import { expect, test } from "vitest";
import { type Demo, runDemo } from "./demo.ts";

/** These events are in the timeline, one after the other. */
function expectOrder(demo: Demo, patterns: RegExp[]): void {
  const events = demo.timeline().map(({ event, text }) => `${event} ${text ?? ""}`);
  const order = patterns.map((pattern) => events.findIndex((event) => pattern.test(event)));
  expect(order).not.toContain(-1);
  expect(order).toEqual([...order].sort((a, b) => a - b));
}

test("on UEFI, beneath an IOMMU, a disk that is plugged in is shielded from OS 1, OS 2's and then the survivor's; OS 1 ends by a reset", async () => {
  const demo = await runDemo("add-uefi", { TARGET: "qemu", SCENARIO: "add", FIRMWARE: "uefi", IOMMU: "intel", CPUS: "2" });
  expect(demo.status, demo.output).toBe(0);
  expect(demo.output).toMatch(/yes +the disk that was added is the survivor's/);
  expectOrder(demo, [/^captured/, /^discovered .*01:00\.0/, /^granted .*01:00\.0/, /^launched/, /^stopped .*reset/, /^released/]);
});

test("a disk that OS 1 has used is unplugged while OS 2 serves in its place, and is gone for the survivor", async () => {
  const demo = await runDemo("service", { TARGET: "qemu", SCENARIO: "service", CPUS: "2" });
  expect(demo.status, demo.output).toBe(0);
  expect(demo.output).toMatch(/yes +the disk that was taken out is gone/);
  expect(demo.output).toMatch(/yes +OS 2's service had no gap meanwhile/);
  expectOrder(demo, [/^captured/, /^launched/, /^stopped /, /^hidden .*01:00\.0/, /^removed .*01:00\.0/, /^released/]);
});
