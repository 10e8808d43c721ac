import { beforeEach, describe, expect, test } from "vitest";
import { APIC_HELPS } from "./apic-hardware.ts";
import type { Processor } from "./machine.ts";
import { BASE, BUFFER, HYPERCALL, SIZE, boot, load, mapKernel, outb, reachable, store } from "./scenario.ts";
import { OK, RAX, RCX, RDX, STATUS_SIZE, Reason, Vmm, compileVmm, type VmmOptions } from "./vmm.ts";

compileVmm(["entry/main.ts"]);

const APIC = 0xfee0_0000n;
const RUNNING = 1, WAITING = 2, PARKED = 3;
const STOPPED = 2;
const HALTED = 1n, ACTIVE = 0n;
/** What the second instance's tenants are given: memory map and MSRs. */
const VIEW = 4;
const IF = 0x202n;
const NMI = 0x80000202n, MACHINE_CHECK = 0x80000312n;
const external = (vector: number): bigint => 0x80000000n | BigInt(vector);
/** MSRs that are switched: PAT, STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE. */
const SWITCHED = [0x277, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102];
const PAT_RESET = 0x0007040600070406n;

/** A machine with one processor, which both instances share: the first one runs, and has asked for it. */
function shared(options: VmmOptions = {}): Vmm {
  const vmm = Vmm.captured({ apicIds: [0], ...options });
  for (const processor of vmm.machine.processors) SWITCHED.forEach((msr, i) => processor.msrs.set(msr, 0x1000n + BigInt(i)));
  mapKernel(vmm);
  expect(boot(vmm, { cpuMask: 0n, shareMask: 1n })).toBe(OK);
  vmm.write(0, "GUEST_RFLAGS", IF);
  return vmm;
}

const runs = (vmm: Vmm): number => vmm.vcpu(0).instance;
const halt = (vmm: Vmm): void => vmm.exit(0, Reason.HLT, { length: 1 });
const interrupt = (vmm: Vmm): void => vmm.exit(0, Reason.EXTERNAL_INTERRUPT, { length: 0 });
const exitsFor = (vmm: Vmm, msr: number, write: boolean): boolean => {
  const low = (write ? 2048 : 0) + (msr >= 0xc0000000 ? 1024 : 0) + ((msr & 0x1fff) >> 3);
  return ((vmm.machine.memory.read(vmm.call.msrBitmap!(VIEW) + BigInt(low), 1) >> BigInt(msr & 7)) & 1n) === 1n;
};
const timerTicks = (vmm: Vmm): bigint => vmm.read(0, "PREEMPTION_TIMER") << 7n;

describe("a share of a processor", () => {
  let vmm: Vmm;
  let processor: Processor;
  beforeEach(() => {
    vmm = shared();
    processor = vmm.machine.processors[0]!;
  });

  test("leaves the processor to its holder and says who has what", () => {
    expect([vmm.call.cpuOwner!(0), vmm.call.cpuTenant!(0), vmm.cpu(0).state, runs(vmm), vmm.call.memoryOf!(2)]).toEqual([1, 2, RUNNING, 1, SIZE]);
    expect(vmm.events().slice(-3).map(({ type, instance, a, b }) => [type, instance, a, b])).toEqual([
      ["GRANTED", 2, 2n, SIZE], ["LAUNCHED", 2, vmm.vcpu(0, 2).startRip, 0n], ["GRANTED", 2, 5n, 0n],
    ]);
    expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: STATUS_SIZE })).toBe(OK);
    const second = vmm.view("InstanceStatus", vmm.view("Status", BUFFER).instance + BigInt(vmm.loaded.layout("InstanceStatus").size));
    expect([second.cpuMask, second.shareMask, second.weight, second.paused]).toEqual([0n, 1n, 1, 0]);
  });

  test.each([
    ["no processor at all", { cpuMask: 0n, shareMask: 0n }, 8], ["a processor that does not exist", { cpuMask: 0n, shareMask: 4n }, 8],
    ["one that is to be whole, too", { cpuMask: 2n, shareMask: 3n }, 8], ["a device", { cpuMask: 0n, shareMask: 1n, functionCount: 1, functions: [0x100] }, 15], ["no weight", { cpuMask: 0n, shareMask: 1n, weight: 0 }, 8], ["too much weight", { cpuMask: 0n, shareMask: 1n, weight: 101 }, 8],
  ])("is refused with %s", (_what, changes, result) => {
    const two = Vmm.captured();
    expect(boot(two, changes)).toBe(result);
    expect([two.instance(2).state, reachable(two, 1, BASE)]).toEqual([0, ["same 7"]]);
  });

  test("leaves the holder its interrupts, its local APIC and its timer, without an exit", () => {
    expect(vmm.read(0, "PIN_BASED_CONTROLS") & 9n).toBe(0n);
    expect(reachable(vmm, 1, APIC)).toEqual(["same 7"]);
    expect(processor.apic.read(0x320)).toBe(0);
  });

  test("begins at the kernel's entry when the holder halts, which then waits in HLT behind it", () => {
    const rip = vmm.read(0, "GUEST_RIP");
    halt(vmm);
    expect([runs(vmm), vmm.read(0, "GUEST_RIP"), vmm.read(0, "VPID"), vmm.read(0, "EPT_POINTER")]).toEqual([2, vmm.vcpu(0, 2).startRip, 2n, vmm.call.mapPointer!(VIEW)]);
    interrupt(vmm);
    expect([runs(vmm), vmm.read(0, "GUEST_RIP"), vmm.read(0, "GUEST_ACTIVITY_STATE"), vmm.injected[0]]).toEqual([1, rip + 1n, HALTED, null]);
  });

  test("ends at once for the holder's interrupt, which nobody acknowledges", () => {
    halt(vmm);
    expect(vmm.read(0, "PIN_BASED_CONTROLS") & 9n).toBe(9n);
    expect(vmm.read(0, "VM_EXIT_CONTROLS") & 0x8000n).toBe(0n);
    processor.apic.request(0xec);
    interrupt(vmm);
    expect([runs(vmm), processor.apic.pending()]).toEqual([1, [0xec]]);
  });

  test("is timed: the turn's timer goes on over exits, and ends it when both want the processor", () => {
    expect(vmm.read(0, "PIN_BASED_CONTROLS") & 0x40n).toBe(0x40n);
    expect(vmm.read(0, "VM_EXIT_CONTROLS") & 0x400000n).toBe(0x400000n);
    vmm.machine.tsc += 100_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(runs(vmm)).toBe(2);
    expect(timerTicks(vmm)).toBeLessThanOrEqual(16_000_000n);
    vmm.machine.tsc += 100_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(runs(vmm)).toBe(1);
  });

  test("costs the holder an exit for HLT only while the tenant wants the turn", () => {
    const exits = (): boolean => (vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 0x480n) !== 0n;
    expect(exits()).toBe(true);
    halt(vmm);
    vmm.write(0, "GUEST_RFLAGS", IF);
    halt(vmm);
    expect([runs(vmm), exits(), vmm.read(0, "GUEST_ACTIVITY_STATE")]).toEqual([1, false, HALTED]);
  });

  test("is given away by MWAIT, which ends with the next turn", () => {
    vmm.exit(0, Reason.MWAIT, { length: 3 });
    expect(runs(vmm)).toBe(2);
    vmm.exit(0, Reason.MWAIT, { length: 3 });
    expect([runs(vmm), vmm.read(0, "GUEST_ACTIVITY_STATE")]).toEqual([1, ACTIVE]);
    expect(timerTicks(vmm)).toBeLessThanOrEqual(16_000_000n);
    vmm.machine.tsc += 20_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(runs(vmm)).toBe(2);
  });

  test("has vector, debug and system registers of its own, from their reset values on", () => {
    const set = (base: bigint): void => {
      Object.assign(processor, { xcr0: base === 0x100n ? 7n : 3n, cr2: base + 1n, dr6: 0xffff0ff0n | (base >> 8n), vectors: base + 2n });
      processor.breakpoints.forEach((_, i) => { processor.breakpoints[i] = base + BigInt(i); });
      SWITCHED.forEach((msr, i) => processor.msrs.set(msr, base + 0x40n + BigInt(i)));
    };
    const all = () => [processor.xcr0, processor.cr2, processor.dr6, processor.vectors, ...processor.breakpoints, ...SWITCHED.map((msr) => processor.msrs.get(msr))];
    set(0x100n);
    const first = all();
    halt(vmm);
    expect(all()).toEqual([1n, 0n, 0xffff0ff0n, 0n, 0n, 0n, 0n, 0n, PAT_RESET, 0n, 0n, 0n, 0n, 0n]);
    set(0x200n);
    const second = all();
    interrupt(vmm);
    expect(all()).toEqual(first);
    vmm.write(0, "GUEST_ACTIVITY_STATE", ACTIVE);
    halt(vmm);
    expect(all()).toEqual(second);
  });

  test("writes no MSR that is not its own: others stay as they are", () => {
    for (const msr of [...SWITCHED, 0x174, 0x175, 0x176, 0x1d9, 0xc0000080, 0xc0000100, 0xc0000101]) expect([msr, exitsFor(vmm, msr, true)]).toEqual([msr, false]);
    for (const msr of [0x10, 0x3b, 0x1b, 0x1a0, 0x38f, 0x186, 0x6e0, 0x808, 0x830]) expect([msr, exitsFor(vmm, msr, true)]).toEqual([msr, true]);
    for (const msr of [0x1b, 0x6e0, 0x802, 0x839]) expect([msr, exitsFor(vmm, msr, false)]).toEqual([msr, true]);
    halt(vmm);
    processor.msrs.set(0x3b, 5n);
    vmm.setRegister(0, RCX, 0x3bn);
    vmm.setRegister(0, RAX, 77n);
    vmm.setRegister(0, RDX, 0n);
    const rip = vmm.read(0, "GUEST_RIP");
    vmm.exit(0, Reason.WRMSR, { length: 2 });
    expect([processor.msrs.get(0x3b), vmm.read(0, "GUEST_RIP"), vmm.injected[0]]).toEqual([5n, rip + 2n, null]);
  });

  test("passes NMIs and machine checks on to the holder", () => {
    halt(vmm);
    vmm.exit(0, Reason.EXCEPTION_OR_NMI, { length: 0, interruption: NMI });
    expect([runs(vmm), vmm.injected[0], timerTicks(vmm)]).toEqual([1, NMI, 0n]);
    vmm.write(0, "GUEST_ACTIVITY_STATE", ACTIVE);
    halt(vmm);
    expect(vmm.read(0, "EXCEPTION_BITMAP")).toBe(1n << 18n);
    vmm.exit(0, Reason.EXCEPTION_OR_NMI, { length: 0, interruption: MACHINE_CHECK });
    expect([runs(vmm), vmm.injected[0]]).toEqual([1, MACHINE_CHECK]);
  });

  test("passes an NMI on that arrives in the VMM on the way into the tenant", () => {
    vmm.cpu(0).nmiCount = 1;
    halt(vmm);
    expect([runs(vmm), vmm.injected[0], vmm.cpu(0).nmiCount]).toEqual([1, NMI, 0]);
  });

  test("can be paused: the holder has the processor alone, HLT and all, until the tenant goes on", () => {
    expect(vmm.hypercall(0, HYPERCALL.PAUSE, { rdx: 2n | (1n << 32n) })).toBe(OK);
    expect(vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 0x480n).toBe(0n);
    vmm.machine.tsc += 100_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(runs(vmm)).toBe(1);
    vmm.hypercall(0, HYPERCALL.PAUSE, { rdx: 2n });
    expect([runs(vmm), vmm.machine.memory.read(vmm.vcpu(0, 1).registers, 8)]).toEqual([2, 0n]);
    expect(vmm.hypercall(0, HYPERCALL.PAUSE, { rdx: 1n | (1n << 32n) })).toBe(vmm.result.CPU);
  });

  test("has a weight that the holder of the platform changes, and nobody else", () => {
    expect([3, 0, 101].map((weight) => vmm.hypercall(0, HYPERCALL.WEIGHT, { rdx: 2n | (BigInt(weight) << 32n) }))).toEqual([OK, vmm.result.UNKNOWN, vmm.result.UNKNOWN]);
    expect(vmm.instance(2).weight).toBe(3);
    vmm.machine.tsc += 100_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    expect([runs(vmm), vmm.hypercall(0, HYPERCALL.WEIGHT, { rdx: 2n | (100n << 32n) }), vmm.instance(2).weight]).toEqual([2, vmm.result.INSTANCE, 3]);
  });
});

describe.each(APIC_HELPS)("the tenant's local APIC, of which the processor does %s", (help) => {
  let vmm: Vmm;
  /** On, with its timer's vector, and the kernel takes interrupts. */
  beforeEach(() => {
    vmm = shared({ apicHelp: help });
    halt(vmm);
    vmm.write(0, "GUEST_RFLAGS", IF);
    store(vmm, 0, APIC + 0xf0n, 0x1ff);
    store(vmm, 0, APIC + 0x3e0n, 0xb);
    store(vmm, 0, APIC + 0x320n, 0xec);
  });
  const tenantRuns = (): void => expect(runs(vmm)).toBe(2);

  test("is not the real one, of which it reaches nothing", () => {
    const [there, ...rest] = reachable(vmm, VIEW, APIC, BASE + 0x200_0000n, 0x7000n);
    expect([there, rest]).toEqual([help === "its registers" ? `${vmm.call.apicAccessPage!().toString(16)} 3` : null, reachable(vmm, 2, BASE + 0x200_0000n, 0x7000n)]);
    expect([load(vmm, 0, APIC + 0xf0n), vmm.machine.processors[0]!.apic.read(0xf0)]).toEqual([0x1ffn, 0]);
    expect(load(vmm, 0, APIC + 0x20n)).toBe(0n);
  });

  test("has a timer, whose interrupt is injected once it is due", () => {
    store(vmm, 0, APIC + 0x380n, 1_000_000);
    expect(timerTicks(vmm)).toBeGreaterThan(900_000n);
    expect(timerTicks(vmm)).toBeLessThanOrEqual(1_000_000n);
    vmm.machine.tsc += 1_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    tenantRuns();
    expect(vmm.injected[0]).toBe(external(0xec));
    store(vmm, 0, APIC + 0xb0n, 0);
    expect(vmm.injected[0]).toBe(null);
  });

  test("waits with an interrupt until the kernel takes it", () => {
    vmm.write(0, "GUEST_RFLAGS", 2n);
    store(vmm, 0, APIC + 0x300n, 0x40041);
    expect([vmm.injected[0], vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 4n]).toEqual([null, 4n]);
    vmm.write(0, "GUEST_RFLAGS", IF);
    vmm.exit(0, Reason.INTERRUPT_WINDOW, { length: 0 });
    expect([vmm.injected[0], vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 4n]).toEqual([external(0x41), 0n]);
  });

  test("delivers behind an event that an exit has interrupted", () => {
    store(vmm, 0, APIC + 0x380n, 1000);
    vmm.machine.tsc += 1000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0, vectoring: 0x80000b0en });
    expect([vmm.injected[0], vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 4n]).toEqual([0x80000b0en, 4n]);
    vmm.exit(0, Reason.INTERRUPT_WINDOW, { length: 0 });
    expect(vmm.injected[0]).toBe(external(0xec));
  });

  test("wakes its kernel from HLT at the timer's deadline, for which the holder's turn ends", () => {
    store(vmm, 0, APIC + 0x380n, 1_000_000);
    halt(vmm);
    expect([runs(vmm), vmm.read(0, "GUEST_ACTIVITY_STATE")]).toEqual([1, HALTED]);
    expect(timerTicks(vmm)).toBeLessThanOrEqual(1_000_000n);
    vmm.machine.tsc += 1_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    tenantRuns();
    expect(vmm.injected[0]).toBe(external(0xec));
  });

  test("does not wake it while interrupts are off", () => {
    store(vmm, 0, APIC + 0x380n, 1_000_000);
    vmm.write(0, "GUEST_RFLAGS", 2n);
    halt(vmm);
    vmm.machine.tsc += 2_000_000n;
    vmm.exit(0, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(runs(vmm)).toBe(1);
  });

  test("keeps what is below the task priority, by CR8 too", () => {
    const cr8 = (write: boolean, value: bigint): bigint => {
      if (help !== "nothing") {
        if (!write) return load(vmm, 0, APIC + 0x80n) >> 4n;
        vmm.writesApic(0, "CR8", Number(value));
        return 0n;
      }
      vmm.setRegister(0, RAX, value);
      vmm.exit(0, 28, { qualification: write ? 8n : 0x18n, length: 3 });
      return vmm.register(0, RAX);
    };
    cr8(true, 5n);
    store(vmm, 0, APIC + 0x300n, 0x40041);
    expect([vmm.injected[0], cr8(false, 0n), load(vmm, 0, APIC + 0x80n)]).toEqual([null, 5n, 0x50n]);
    cr8(true, 3n);
    expect(vmm.injected[0]).toBe(external(0x41));
    // Of a value that does not fit the processor itself makes a #GP.
    if (help !== "nothing") return;
    cr8(true, 16n);
    expect(vmm.injected[0]).toBe(0x80000b0dn);
  });

  test("sends interrupts and NMIs to itself, and to nobody else", () => {
    store(vmm, 0, APIC + 0x300n, 0x40051);
    expect(vmm.injected[0]).toBe(external(0x51));
    store(vmm, 0, APIC + 0xb0n, 0);
    store(vmm, 0, APIC + 0x300n, 0x4400);
    expect(vmm.injected[0]).toBe(NMI);
    const from = vmm.call.nextSequence!();
    store(vmm, 0, APIC + 0x310n, 1 << 24);
    store(vmm, 0, APIC + 0x300n, 0x4055);
    expect([vmm.machine.ipis, vmm.events(from).map(({ type, instance }) => [type, instance])]).toEqual([[], [["IPI_VIOLATION", 2]]]);
  });

  test.each([["takes", 0x34, external(0x34)], ["masks", 0x10034, null], ["refuses a vector below 16 as", 0x0f, null]])("%s the console's interrupt where the shadowed IOAPIC sends it", (_what, entry, injected) => {
    for (const [register, value] of [[0x18, entry], [0x19, 0]] as const) {
      store(vmm, 0, 0xfec0_0000n, register);
      store(vmm, 0, 0xfec0_0010n, value);
    }
    outb(vmm, 0, 0x3f9, 2);
    expect(vmm.injected[0]).toBe(injected);
  });
});

describe("a share of one of two processors", () => {
  const pair = (): Vmm => {
    const vmm = shared({ apicIds: [0, 1] });
    halt(vmm);
    vmm.write(0, "GUEST_RFLAGS", IF);
    store(vmm, 0, APIC + 0xf0n, 0x1ff);
    return vmm;
  };

  test("ends by order of the other one", () => {
    const vmm = pair();
    expect(vmm.hypercall(1, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect([runs(vmm), vmm.cpu(0).state, vmm.call.cpuTenant!(0), vmm.cpu(0).tenant, vmm.read(0, "PIN_BASED_CONTROLS")]).toEqual([1, RUNNING, 0, 0n, 0x16n]);
    expect(vmm.hypercall(1, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
  });

  test("becomes all of it when the first instance ends on the other one, which then waits", () => {
    const vmm = pair();
    outb(vmm, 1, 0x604, 0x3401, 2);
    expect([runs(vmm), vmm.cpu(0).state, vmm.cpu(1).state, vmm.call.cpuOwner!(0), vmm.cpu(0).tenant]).toEqual([2, RUNNING, PARKED, 2, 0n]);
    expect(vmm.hypercall(0, HYPERCALL.TAKE)).toBe(OK);
    expect([vmm.call.cpuOwner!(1), vmm.cpu(1).state]).toEqual([2, WAITING]);
  });

  test("is told of the console's input that is typed on the other one", () => {
    const vmm = pair();
    for (const [register, value] of [[0x18, 0x34], [0x19, 0]] as const) {
      store(vmm, 0, 0xfec0_0000n, register);
      store(vmm, 0, 0xfec0_0010n, value);
    }
    outb(vmm, 0, 0x3f9, 1);
    halt(vmm);
    expect(runs(vmm)).toBe(1);
    vmm.machine.memory.writeBytes(BUFFER, Uint8Array.from([1, 0, 0, 0, 0, 0, 0, 0, 65]));
    expect(vmm.hypercall(1, HYPERCALL.CONSOLE_WRITE, { rdi: BUFFER, rsi: 4096n, rdx: 2n })).toBe(OK);
    expect([runs(vmm), vmm.injected[0]]).toEqual([2, external(0x34)]);
  });
});

describe("sharing ends", () => {
  const alone = (vmm: Vmm): void => {
    expect([vmm.read(0, "PIN_BASED_CONTROLS"), vmm.read(0, "PROCESSOR_BASED_CONTROLS") & 0x180484n, vmm.read(0, "VM_EXIT_CONTROLS") & 0x400000n, vmm.read(0, "EXCEPTION_BITMAP")]).toEqual([0x16n, 0n, 0n, 0n]);
  };

  test("with the tenant: the holder is as before", () => {
    const vmm = shared();
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect([vmm.instance(2).state, vmm.call.cpuTenant!(0), runs(vmm)]).toEqual([STOPPED, 0, 1]);
    alone(vmm);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect(reachable(vmm, 1, BASE, APIC)).toEqual(["same 7", "same 7"]);
  });

  test.each([["powers off", (vmm: Vmm) => outb(vmm, 0, 0x604, 0x3401, 2)], ["cannot go on", (vmm: Vmm) => vmm.exit(0, Reason.TRIPLE_FAULT)]])("when the tenant %s", (_how, end) => {
    const vmm = shared();
    halt(vmm);
    end(vmm);
    expect([vmm.instance(2).state, runs(vmm), vmm.read(0, "GUEST_ACTIVITY_STATE"), vmm.cpu(0).state]).toEqual([STOPPED, 1, HALTED, RUNNING]);
    alone(vmm);
  });

  test("and can begin again, as often as one likes", () => {
    const vmm = shared();
    for (let i = 0; i < 40; i++) {
      expect([vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n }), vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n }), boot(vmm, { cpuMask: 0n, shareMask: 1n })]).toEqual([OK, OK, OK]);
    }
  });

  test("with the holder: the tenant has the real local APIC, with what was set in its own, and takes the machine", () => {
    const vmm = shared();
    halt(vmm);
    for (const [register, value] of [[0xf0n, 0x1ff], [0xd0n, 1 << 24], [0x3e0n, 0xb], [0x320n, 0xec], [0x380n, 1_000_000]] as const) store(vmm, 0, APIC + register, value >>> 0);
    interrupt(vmm);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([vmm.instance(1).state, vmm.call.cpuOwner!(0), runs(vmm), vmm.cpu(0).state]).toEqual([STOPPED, 2, 2, RUNNING]);
    alone(vmm);
    const { apic } = vmm.machine.processors[0]!;
    expect([0xf0, 0xd0, 0x3e0, 0x320].map((register) => apic.read(register))).toEqual([0x1ff, 1 << 24, 0xb, 0xec]);
    expect(apic.read(0x380)).toBeGreaterThan(900_000);
    expect([vmm.mapUnder(0), reachable(vmm, 2, APIC)]).toEqual([vmm.call.mapPointer!(2), ["same 5"]]);
    expect(vmm.hypercall(0, HYPERCALL.TAKE)).toBe(OK);
    expect([vmm.instance(2).holdsPlatform, reachable(vmm, 2, APIC)]).toEqual([1, ["same 7"]]);
  });

  test("with the holder while the tenant is in an interrupt handler: its end is waited for", () => {
    const vmm = shared();
    halt(vmm);
    vmm.write(0, "GUEST_RFLAGS", IF);
    store(vmm, 0, APIC + 0xf0n, 0x1ff);
    store(vmm, 0, APIC + 0x300n, 0x40051);
    interrupt(vmm);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([runs(vmm), vmm.mapUnder(0), vmm.hypercall(0, HYPERCALL.TAKE)]).toEqual([2, vmm.call.mapPointer!(VIEW), vmm.result.BUSY]);
    store(vmm, 0, APIC + 0xb0n, 0);
    alone(vmm);
    expect(vmm.hypercall(0, HYPERCALL.TAKE)).toBe(OK);
  });
});
