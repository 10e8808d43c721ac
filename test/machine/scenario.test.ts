import { expect, test } from "vitest";
import { runDemo } from "./demo.ts";

test("on UEFI, a disk that is plugged in is shielded from OS 1, OS 2's and then the survivor's; OS 1 ends by a reset", async () => {
  const demo = await runDemo("add-uefi", { TARGET: "qemu", SCENARIO: "add", FIRMWARE: "uefi", CPUS: "2" });
  expect(demo.status, demo.output).toBe(0);
  expect(demo.output).toMatch(/yes +the disk that was added is the survivor's/);
  const events = demo.timeline().map(({ event, text }) => `${event} ${text ?? ""}`);
  const at = (pattern: RegExp): number => events.findIndex((event) => pattern.test(event));
  const order = [/^captured/, /^discovered .*01:00\.0/, /^granted .*01:00\.0/, /^launched/, /^stopped .*reset/, /^released/].map(at);
  expect(order).not.toContain(-1);
  expect(order).toEqual([...order].sort((a, b) => a - b));
});
