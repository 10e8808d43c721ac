/** Corners that reading for attacks has found. */
import { describe, expect, test } from "vitest";
import { GIB, MEMORY_MAP, MIB, RAM, writeKernel } from "./firmware.ts";
import { boot, booted, load, mapKernel, reachable, store } from "./scenario.ts";
import { OK, RAX, RCX, Reason, Vmm, compileVmm } from "./vmm.ts";

compileVmm(["entry/main.ts"]);
const IDS = [0, 1, 2, 3];

describe("an NMI that arrives in the VMM", () => {
  test.each([["STI", 1n], ["MOV SS", 2n]])("waits while %s blocks it, since VM entry refuses it there", (_what, blocking) => {
    const vmm = booted();
    vmm.write(1, "GUEST_RFLAGS", 0x202n);
    vmm.write(1, "GUEST_INTERRUPTIBILITY", blocking);
    vmm.cpu(1).nmiCount = 1;
    vmm.exit(1, Reason.PREEMPTION_TIMER, { length: 0 });
    vmm.write(1, "GUEST_INTERRUPTIBILITY", 0n);
    if (vmm.injected[1] === null) vmm.exit(1, Reason.MONITOR_TRAP_FLAG, { length: 0 });
    expect(vmm.injected[1]).toBe(0x80000202n);
  });

  test("during the very first exit, a CPUID, does not launch a VMCS that is launched", () => {
    const vmm = Vmm.captured();
    vmm.cpu(0).nmiCount = 1;
    vmm.exit(0, Reason.CPUID, { length: 2 });
    expect(vmm.injected[0]).toBe(0x80000202n);
  });
});

describe("a boot where the kernel's page tables and tables cannot reach", () => {
  test("above 4 GiB is refused, and the VMM goes on", () => {
    const vmm = Vmm.captured();
    const memoryBase = 5n * GIB;
    const kernelAddress = writeKernel(vmm.machine, memoryBase + 64n * MIB);
    expect(boot(vmm, { memoryBase, kernelAddress, initrdAddress: memoryBase + 200n * MIB })).toBe(vmm.result.MEMORY);
    expect([vmm.call.ownerOf!(memoryBase), vmm.instance(2).state, vmm.instance(1).apicGuarded]).toEqual([1, 0, 0]);
    expect(boot(vmm)).toBe(OK);
  });
});

describe("what another processor changes meanwhile", () => {
  test("is a second order to hold, before the first was seen to be over", () => {
    const vmm = Vmm.captured();
    const { memory } = vmm.machine;
    const holding = vmm.loaded.addressOf("holding");
    const { HOLD, NONE } = vmm.loaded.enums.Command as Record<string, number>;
    // Processor 0 holds 1, lets go, and holds again, faster than 1 looks.
    memory.write(holding, 4, 1n);
    vmm.cpu(1).command = HOLD;
    let polls = 0;
    vmm.machine.onPause = () => {
      polls++;
      if (polls === 1) vmm.cpu(1).command = HOLD;
      if (vmm.cpu(1).command === NONE && polls > 1) memory.write(holding, 4, 0n);
      if (polls > 1000) throw new Error("processor 1 never answers the second order");
    };
    vmm.machine.now = vmm.machine.processors[1]!;
    vmm.call.takeOrder!(vmm.cpu(1).vcpu);
    expect([vmm.cpu(1).command, vmm.cpu(1).held]).toEqual([NONE, 0]);
  });
});

describe("interrupts of a guarded instance", () => {
  const ASSERT = 0x4000;
  test("have the destination that was written before they were guarded", () => {
    const vmm = Vmm.captured({ apicIds: IDS });
    mapKernel(vmm);
    vmm.machine.processors[1]!.apic.write(0x310, 2 << 24);
    expect(boot(vmm, { cpuMask: 0b1000n })).toBe(OK);
    vmm.machine.ipis.length = 0;
    store(vmm, 1, 0xfee0_0300n, ASSERT | 0xfb);
    expect(vmm.machine.ipis.map(({ to, vector }) => [to, vector])).toEqual([[2, 0xfb]]);
  });
});

describe("memory above 512 GiB", () => {
  const HIGH = 513n * GIB;
  const map = [...MEMORY_MAP, { base: 512n * GIB, size: 4n * GIB, type: RAM }];
  test("is not given to the first instance by a touch, if it is somebody else's", () => {
    const vmm = booted({ apicIds: [0, 1], map });
    // As a boot there would leave it.
    expect(vmm.call.moveMemory!(HIGH, GIB, 1, 2)).toBe(OK);
    vmm.machine.memory.write(HIGH + 8n, 4, 0x5ec4e7n);
    expect(load(vmm, 0, HIGH + 8n)).toBe(0xffff_ffffn);
    expect(reachable(vmm, 1, HIGH)).toEqual([null]);
    expect(vmm.events().at(-1)).toMatchObject({ type: "MEMORY_VIOLATION", instance: 1, a: HIGH + 8n });
  });
});

test("CPUID leaf 7 is changed in its first subleaf alone", () => {
  const vmm = Vmm.captured();
  vmm.machine.cpuid.set("7:1", [1, 2, 0x10000, 4]);
  vmm.write(0, "GUEST_CR4", vmm.read(0, "GUEST_CR4") | 0x400000n);
  vmm.setRegister(0, RAX, 7n);
  vmm.setRegister(0, RCX, 1n);
  vmm.exit(0, Reason.CPUID, { length: 2 });
  expect(vmm.register(0, RCX)).toBe(0x10000n);
});
