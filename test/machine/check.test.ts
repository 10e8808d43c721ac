import { describe, expect, test } from "vitest";
import { seconds, useSystem } from "../hostile/system.ts";
import { startBochs } from "./bochs.ts";
import { type Target, bochs } from "./targets.ts";

/** What each processor of Bochs' collection lacks, by the words of the lines that must say so. */
const processors = {
  // 2008: the first VT-x, without a second set of controls' later ones.
  core2_penryn_t9600: [/\bEPT\b/, /unrestricted guest/, /1 GiB pages/],
  // 2009: EPT, but real mode is not for guests.
  corei5_lynnfield_750: [/unrestricted guest/, /1 GiB pages/],
  // No virtualization at all.
  athlon64_venice: [/no /],
};

describe.each(Object.entries(processors))("check on %s", (model, missing) => {
  const target: Target = { ...bochs, start: (options) => startBochs({ ...options, config: [`cpu: model=${model}`] }) };
  const system = useSystem({ name: `check-${model}`, cpus: 1 }, target);

  test("says in a line each what is missing, and start refuses in the same words and leaves all as it was", async () => {
    const checked = (await system.refused("understudy check")).trim().split("\n");
    for (const words of missing) expect(checked.filter((line) => words.test(line)), String(words)).not.toEqual([]);
    expect(checked.filter((line) => !line.startsWith("understudy: "))).toEqual([]);
    expect(new Set(checked).size).toBe(checked.length);
    const modules = await system.run("cut -d' ' -f1 /proc/modules");
    expect((await system.refused("understudy start", 60 * seconds)).trim().split("\n")).toEqual(checked);
    expect(await system.run("understudy status")).toMatch(/^bare/);
    expect((await system.run("cut -d' ' -f1 /proc/modules")).split("\n").filter((name) => name !== "understudy").join("\n")).toBe(modules);
    expect(await system.complaints()).toEqual([]);
  });
});
