import { describe, expect, test } from "vitest";
import { seconds, useSystem } from "../hostile/system.ts";
import { startBochs } from "./bochs.ts";
import { startQemu } from "./qemu.ts";
import { type Target, bochs, qemu } from "./targets.ts";

const ofBochs = (model: string): Target => ({ ...bochs, start: (options) => startBochs({ ...options, config: [`cpu: model=${model}`] }) });
const ofQemu = (cpu: string): Target => ({ ...qemu, start: (options) => startQemu({ ...options, cpu: `max,-hypervisor,${cpu}` }) });

/** Processors, and by the words of the lines that must say so, what each lacks. */
const processors: { name: string; target: Target; missing: RegExp[] }[] = [
  // 2008: the first VT-x, without a second set of controls' later ones.
  { name: "core2_penryn_t9600", target: ofBochs("core2_penryn_t9600"), missing: [/\bEPT\b/, /unrestricted guest/, /1 GiB pages/] },
  // 2009: EPT, but real mode is not for guests.
  { name: "corei5_lynnfield_750", target: ofBochs("corei5_lynnfield_750"), missing: [/unrestricted guest/, /1 GiB pages/] },
  // No virtualization at all.
  { name: "athlon64_venice", target: ofBochs("athlon64_venice"), missing: [/no /] },
  { name: "amd-without-npt", target: ofQemu("-npt,-pdpe1gb"), missing: [/AMD-V without nested paging/, /no 1 GiB pages/] },
  { name: "amd-without-svm", target: ofQemu("-svm"), missing: [/no AMD-V/] },
];

describe.each(processors)("check on $name", ({ name, target, missing }) => {
  const system = useSystem({ name: `check-${name}`, cpus: 1 }, target);

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
