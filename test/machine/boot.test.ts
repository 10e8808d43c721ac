import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type BochsMachine, startBochs } from "./bochs.ts";
import { chosenKernels, getKernel } from "../../image/kernel.ts";

const seconds = 1000;

describe.each([
  { cpus: 2, memoryMiB: 1024 },
  { cpus: 1, memoryMiB: 1536 },
])("Debian's kernel in Bochs with $cpus CPUs and $memoryMiB MiB", ({ cpus, memoryMiB }) => {
  let machine: BochsMachine;
  beforeAll(async () => {
    machine = await startBochs({ iso: inject("iso"), cpus, memoryMiB, name: `boot-${cpus}` });
  });
  afterAll(() => machine?.stop());

  test("reaches a shell", async () => {
    await machine.expect(/os1# /, 240 * seconds);
  });

  test("is the kernel that was asked for, with all CPUs and the memory", async () => {
    const { release } = getKernel(chosenKernels().kernel1);
    expect(await machine.sh("uname -r; nproc")).toEqual({ status: 0, output: `${release}\n${cpus}` });
    const total = Number((await machine.sh("awk '/MemTotal/ { print $2 }' /proc/meminfo")).output);
    expect(total / 1024).toBeGreaterThan(memoryMiB * 0.9);
  });

  test("runs commands and says how they ended", async () => {
    expect(await machine.sh("cd /tmp; false")).toEqual({ status: 1, output: "" });
    expect(await machine.sh("pwd; (exit 7)")).toEqual({ status: 7, output: "/tmp" });
    expect((await machine.sh("sleep 1 &")).status).toBe(0);
    expect(await machine.sh("echo \"it's\"; # done")).toEqual({ status: 0, output: "it's" });
    expect(await machine.sh("printf 'no newline'")).toEqual({ status: 0, output: "no newline" });
  });

  test("takes scripts of many lines, and gives long output whole", async () => {
    const script = `for i in $(seq 1 1500)\ndo\n  echo "line $i"\ndone\n# ${"-".repeat(600)}`;
    const { status, output } = await machine.sh(script, 120 * seconds);
    expect(status).toBe(0);
    expect(output.split("\n")).toEqual(Array.from({ length: 1500 }, (_, i) => `line ${i + 1}`));
  });

  test("says so when a command is no shell syntax, and goes on", async () => {
    await expect(machine.sh("if then")).rejects.toThrow("the shell found a syntax error");
    expect(await machine.sh("echo on")).toEqual({ status: 0, output: "on" });
  });

  test("gives the console back after something that does not end", async () => {
    await machine.send("sleep 1000\n");
    expect(await machine.sync()).toBe("os1");
    expect((await machine.sh("echo back")).output).toBe("back");
  });

  test("has no failed VM entry and no panic in Bochs' log", () => {
    expect(machine.troubles).toEqual([]);
  });
});
