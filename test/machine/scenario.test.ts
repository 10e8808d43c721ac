import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildDir, projectDir } from "../../image/paths.ts";

const minutes = 60_000;

test("on UEFI, a disk that is plugged in is shielded from OS 1, OS 2's and then the survivor's; OS 1 ends by a reset", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "demo/demo.ts"], {
    cwd: projectDir,
    encoding: "utf8",
    timeout: 9 * minutes,
    env: { ...process.env, NO_COLOR: "1", TARGET: "qemu", SCENARIO: "add", FIRMWARE: "uefi", CPUS: "2" },
  });
  expect(status, `${stdout}${stderr}`).toBe(0);
  expect(stdout).toMatch(/yes +the disk that was added is the survivor's/);
  const events = (JSON.parse(readFileSync(join(buildDir, "demo/timeline.json"), "utf8")) as { event: string; text?: string }[]).map(({ event, text }) => `${event} ${text ?? ""}`);
  const at = (pattern: RegExp): number => events.findIndex((event) => pattern.test(event));
  const order = [/^captured/, /^discovered .*01:00\.0/, /^granted .*01:00\.0/, /^launched/, /^stopped .*reset/, /^released/].map(at);
  expect(order).not.toContain(-1);
  expect(order).toEqual([...order].sort((a, b) => a - b));
}, 10 * minutes);
