import { beforeEach, describe, expect, test } from "vitest";
import { APIC_BASE, APIC_BASE_X2APIC, type Ipi } from "./machine.ts";
import { BASE, BUFFER, HYPERCALL, SIZE, boot, mapKernel, outb, reachable, sendIpi, store } from "./scenario.ts";
import { SvmVmm } from "./svm.ts";
import { OK, RAX, RCX, RDX, Reason, Vmm, compileVmm } from "./vmm.ts";

compileVmm(["entry/main.ts"]);

const APIC = 0xfee0_0000n;
const RUNNING = 1, WAITING = 2, PARKED = 3;
const STOPPED = 2;
/** Vcpu.idle of a virtual CPU that waits for its SIPI. */
const STARTUP = 4;
const HALTED = 1n;
const IF = 0x202n;
const NMI = 0x80000202n;
const [SELF, ALL, OTHERS, LOGICAL, ASSERT, LEVEL] = [0x40000, 0x80000, 0xc0000, 0x800, 0x4000, 0x8000];
const [LOWEST, NMI_MODE, INIT, SIPI] = [0x100, 0x400, 0x500, 0x600];
const external = (vector: number): bigint => 0x80000000n | BigInt(vector);
/** What the second instance's whole processors are given, and its tenants. */
const WHOLE = 2, TENANT = 4;
const SWITCHED = [0x277, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102];

/** Four processors: 0 the first instance's alone, 1 the second's; 2 and 3 are shared. Processor 0 has asked. */
function mixed({ cpuMask = 0b0010n, shareMask = 0b1100n, x2apic = false } = {}): Vmm {
  const apicIds = [0, 1, 2, 3];
  const vmm = new Vmm({ apicIds, acpi: { x2apic } });
  for (const processor of vmm.machine.processors) {
    SWITCHED.forEach((msr) => processor.msrs.set(msr, 0n));
    if (x2apic) processor.msrs.set(APIC_BASE, processor.msrs.get(APIC_BASE)! | APIC_BASE_X2APIC);
  }
  expect([vmm.prepare(), ...apicIds.map((cpu) => vmm.capture(cpu))]).toEqual([OK, OK, OK, OK, OK]);
  mapKernel(vmm);
  expect(boot(vmm, { cpuMask, shareMask })).toBe(OK);
  vmm.machine.ipis.length = 0;
  return vmm;
}

const runs = (vmm: Vmm, cpu: number): number => vmm.vcpu(cpu).instance;
const halt = (vmm: Vmm, cpu: number): void => vmm.exit(cpu, Reason.HLT, { length: 1 });
const interrupt = (vmm: Vmm, cpu: number): void => vmm.exit(cpu, Reason.EXTERNAL_INTERRUPT, { length: 0 });
const sent = (vmm: Vmm): number[][] => vmm.machine.ipis.splice(0).map(({ to, mode, vector }: Ipi) => [to, mode, vector]);
/** Those but the VMM's own INITs, by which processors reach each other. */
const interrupts = (vmm: Vmm): number[][] => sent(vmm).filter(([, mode]) => mode !== 5);

/** The tenant of a processor is started by the whole one, as a kernel starts its processors, takes interrupts and is idle. */
function start(vmm: Vmm, cpu: number): void {
  sendIpi(vmm, 1, INIT | LEVEL | ASSERT, cpu);
  sendIpi(vmm, 1, SIPI | ASSERT | 0x9a, cpu);
  if (runs(vmm, cpu) === 1) halt(vmm, cpu);
  expect(runs(vmm, cpu)).toBe(2);
  // It is in 64-bit mode by now.
  for (const field of ["GUEST_CR0", "GUEST_CR3", "GUEST_CR4", "GUEST_EFER", "GUEST_CS_SELECTOR", "GUEST_CS_ACCESS_RIGHTS", "GUEST_CS_BASE", "GUEST_CS_LIMIT", "VM_ENTRY_CONTROLS",
    "GUEST_SS_ACCESS_RIGHTS", "GUEST_TR_ACCESS_RIGHTS"]) vmm.write(cpu, field, vmm.read(1, field));
  vmm.write(cpu, "GUEST_RFLAGS", IF);
  store(vmm, cpu, APIC + 0xf0n, 0x1ff);
}
const started = (): Vmm => {
  const vmm = mixed();
  for (const cpu of [2, 3]) start(vmm, cpu);
  sent(vmm);
  return vmm;
};

describe("shares of any processors", () => {
  test("of one that does not ask: it is the other instance's, too, and boots it", () => {
    const vmm = mixed({ cpuMask: 0n, shareMask: 0b0100n });
    expect([0, 1, 2, 3].map((cpu) => [vmm.call.cpuOwner!(cpu), vmm.call.cpuTenant!(cpu), runs(vmm, cpu)])).toEqual([[1, 0, 1], [1, 0, 1], [1, 2, 1], [1, 0, 1]]);
    halt(vmm, 2);
    expect([runs(vmm, 2), vmm.read(2, "GUEST_RIP"), vmm.mapUnder(2)]).toEqual([2, vmm.vcpu(2, 2).startRip, vmm.call.mapPointer!(TENANT)]);
    expect(vmm.read(0, "PIN_BASED_CONTROLS")).toBe(0x16n);
  });

  test("of several: the first boots, the others wait for its SIPI and leave the processor to their holders", () => {
    const vmm = mixed({ cpuMask: 0n, shareMask: 0b1101n });
    expect([0, 2, 3].map((cpu) => vmm.vcpu(cpu, 2).idle)).toEqual([0, STARTUP, STARTUP]);
    expect([0, 2, 3].map((cpu) => vmm.read(cpu, "PROCESSOR_BASED_CONTROLS") & 0x480n)).toEqual([0x480n, 0n, 0n]);
    halt(vmm, 0);
    sendIpi(vmm, 0, INIT | LEVEL | ASSERT, 3);
    sendIpi(vmm, 0, SIPI | ASSERT | 0x9a, 3);
    halt(vmm, 3);
    expect([runs(vmm, 3), vmm.read(3, "GUEST_CS_BASE"), vmm.read(3, "GUEST_RIP"), vmm.vcpu(2, 2).idle]).toEqual([2, 0x9a000n, 0n, STARTUP]);
  });

  test("beside whole ones: a whole one boots, and status tells them apart", () => {
    const vmm = mixed();
    expect([runs(vmm, 1), vmm.read(1, "GUEST_RIP"), vmm.cpu(1).state, vmm.vcpu(2, 2).idle, vmm.vcpu(3, 2).idle]).toEqual([2, vmm.vcpu(1, 2).startRip, RUNNING, STARTUP, STARTUP]);
    expect(vmm.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: BigInt(vmm.loaded.layout("Status").size) })).toBe(OK);
    const second = vmm.view("InstanceStatus", vmm.view("Status", BUFFER).instance + BigInt(vmm.loaded.layout("InstanceStatus").size));
    expect([second.cpuMask, second.shareMask]).toEqual([0b0010n, 0b1100n]);
  });

  test("have each their own weights' turns, and cannot be paused beside whole ones", () => {
    const vmm = mixed();
    expect(vmm.hypercall(0, HYPERCALL.WEIGHT, { rdx: 2n | (3n << 32n) })).toBe(OK);
    for (const cpu of [2, 3]) expect(vmm.view("Schedule", vmm.call.scheduleOf!(cpu)).accounts).toBeTruthy();
    expect(vmm.hypercall(0, HYPERCALL.PAUSE, { rdx: 2n | (1n << 32n) })).toBe(vmm.result.CPU);
  });
});

describe("what a virtual CPU is given", () => {
  const vmm = mixed();

  test("is by its processor: whole ones have the local APIC and its MSRs, tenants neither", () => {
    expect([vmm.mapUnder(1), vmm.read(1, "MSR_BITMAP")]).toEqual([vmm.call.mapPointer!(WHOLE), vmm.call.msrBitmap!(WHOLE)]);
    expect(reachable(vmm, WHOLE, APIC)).toEqual(["same 5"]);
    expect(reachable(vmm, TENANT, APIC)).toEqual([null]);
    expect([0x10, 0x808, 0x838, 0x830].map((msr) => [vmm.msrExits(WHOLE, msr, true), vmm.msrExits(TENANT, msr, true)])).toEqual([[false, true], [false, true], [false, true], [true, true]]);
  });

  test("is the same memory but for that page, also when it changes", () => {
    const addresses = [0n, 0x7000n, BASE + 0x200_0000n, BASE + SIZE - 1n, BASE - 1n, 0xfed0_0000n, APIC - 0x1000n, APIC + 0x1000n, 0xfec0_0000n, 0x10_0000_0000n, 0xc000_0000n];
    const same = (): void => expect(reachable(vmm, TENANT, ...addresses)).toEqual(reachable(vmm, WHOLE, ...addresses));
    same();
    for (const [address, size] of [[0xfea0_0000n, 0x1000n], [0xc000_0000n, 0x20_0000n], [0x10_0000_0000n, 0x4000_0000n], [APIC - 0x1000n, 0x1000n]] as const) {
      vmm.call.mapIdentical!(2, address, size, 7n);
      same();
      expect(reachable(vmm, TENANT, address, APIC)).toEqual(["same 7", null]);
      vmm.call.unmapRange!(2, address, size);
      same();
    }
  });
});

describe("a tenant's start", () => {
  let vmm: Vmm;
  beforeEach(() => { vmm = mixed(); });

  test("is by INIT and SIPI of the whole processor: it begins where the vector says", () => {
    sendIpi(vmm, 1, INIT | LEVEL | ASSERT, 2);
    expect(vmm.vcpu(2, 2).idle).toBe(STARTUP);
    const from = vmm.call.nextSequence!();
    sendIpi(vmm, 1, SIPI | ASSERT | 0x9a, 2);
    sendIpi(vmm, 1, SIPI | ASSERT | 0x9b, 2);
    expect(vmm.events(from).map(({ type, instance, cpu, a }) => [type, instance, cpu, a])).toEqual([["CPU_STARTED", 2, 2, 0x9an]]);
    halt(vmm, 2);
    expect([runs(vmm, 2), vmm.read(2, "GUEST_CS_BASE"), vmm.mapUnder(2), vmm.cpu(2).state]).toEqual([2, 0x9a000n, vmm.call.mapPointer!(TENANT), RUNNING]);
    expect(vmm.read(2, "PIN_BASED_CONTROLS") & 0x49n).toBe(0x49n);
  });

  test("comes again with INIT: its local APIC is as after one, and it waits", () => {
    start(vmm, 2);
    store(vmm, 2, APIC + 0x380n, 1_000_000);
    sendIpi(vmm, 1, INIT | LEVEL | ASSERT, 2);
    expect([runs(vmm, 2), vmm.vcpu(2, 2).idle]).toEqual([1, STARTUP]);
    vmm.machine.tsc += 100_000_000n;
    vmm.exit(2, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(runs(vmm, 2)).toBe(1);
    start(vmm, 2);
  });

  test("of a whole processor is by a tenant's INIT and SIPI", () => {
    const two = mixed({ cpuMask: 0b0011n << 1n, shareMask: 0b1000n });
    expect([two.cpu(1).state, two.cpu(2).state]).toEqual([RUNNING, WAITING]);
    sendIpi(two, 1, INIT | LEVEL | ASSERT, 3);
    sendIpi(two, 1, SIPI | ASSERT | 0x10, 3);
    start(two, 3);
    sendIpi(two, 3, INIT | LEVEL | ASSERT, 2);
    sendIpi(two, 3, SIPI | ASSERT | 0x9a, 2);
    expect([two.cpu(2).state, two.read(2, "GUEST_CS_BASE")]).toEqual([RUNNING, 0x9a000n]);
  });

  test("is none by an NMI, an interrupt or a SIPI that nobody's INIT precedes while it runs", () => {
    for (const command of [NMI_MODE, 0x55]) sendIpi(vmm, 1, command | ASSERT, 2);
    halt(vmm, 2);
    expect([runs(vmm, 2), vmm.vcpu(2, 2).idle]).toEqual([1, STARTUP]);
    start(vmm, 2);
    const rip = vmm.read(2, "GUEST_RIP");
    sendIpi(vmm, 1, SIPI | ASSERT | 0x9a, 2);
    expect([runs(vmm, 2), vmm.read(2, "GUEST_RIP")]).toEqual([2, rip]);
  });
});

describe("an interprocessor interrupt of an instance with whole processors and shares", () => {
  const vmm = started();
  let firstEvent = 0n;
  beforeEach(() => {
    firstEvent = vmm.call.nextSequence!();
    for (const cpu of [2, 3]) {
      if (runs(vmm, cpu) === 1) halt(vmm, cpu);
      vmm.write(cpu, "GUEST_RFLAGS", IF);
      vmm.injected[cpu] = null;
      sent(vmm);
    }
  });
  const done = (...cpus: number[]): void => cpus.forEach((cpu) => store(vmm, cpu, APIC + 0xb0n, 0));
  const injected = () => [2, 3].map((cpu) => vmm.injected[cpu]);
  const recorded = (): string[] => vmm.events(firstEvent).map(({ type }) => type);

  test.each([
    ["from a whole one to a tenant", 1, 0x40, 2, [external(0x40), null], []],
    ["from a tenant to a whole one", 2, 0x41, 1, [null, null], [[1, 0, 0x41]]],
    ["from one tenant to another", 2, 0x42, 3, [null, external(0x42)], []],
    ["from a whole one to all others", 1, OTHERS | 0x43, 0, [external(0x43), external(0x43)], []],
    ["from a tenant to all others", 3, OTHERS | 0x44, 0, [external(0x44), null], [[1, 0, 0x44]]],
    ["from a whole one to all", 1, ALL | 0x45, 0, [external(0x45), external(0x45)], [[1, 0, 0x45]]],
    ["from a whole one to itself", 1, SELF | 0x46, 0, [null, null], [[1, 0, 0x46]]],
    ["from a tenant to everybody, by destination", 2, 0x47, 0xff, [external(0x47), external(0x47)], [[1, 0, 0x47]]],
  ] as [string, number, number, number, (bigint | null)[], number[][]][])("goes %s", (_what, cpu, command, destination, tenants, real) => {
    sendIpi(vmm, cpu, command | ASSERT, destination);
    expect([injected(), interrupts(vmm), recorded()]).toEqual([tenants, real, []]);
    done(...[2, 3].filter((_, i) => tenants[i] !== null));
  });

  test.each([["tenant", 1, 3], ["whole processor", 3, 1]])("is an NMI to a %s", (_what, from, to) => {
    sendIpi(vmm, from, NMI_MODE | ASSERT, to);
    expect(to === 1 ? interrupts(vmm) : injected()).toEqual(to === 1 ? [[1, 4, 0]] : [null, NMI]);
    if (to !== 1) vmm.write(to, "GUEST_INTERRUPTIBILITY", 0n);
  });

  test("with a logical destination names whole ones and tenants by what each has written", () => {
    for (const [cpu, logical] of [[1, 1], [2, 2], [3, 4]] as const) store(vmm, cpu, APIC + 0xd0n, logical << 24);
    sendIpi(vmm, 1, LOGICAL | ASSERT | 0x50, 0b110);
    expect([injected(), interrupts(vmm)]).toEqual([[external(0x50), external(0x50)], []]);
    done(2, 3);
    sendIpi(vmm, 2, LOGICAL | ASSERT | 0x51, 0b101);
    expect([vmm.injected[3], interrupts(vmm)]).toEqual([external(0x51), [[1, 0, 0x51]]]);
    done(3);
    sendIpi(vmm, 3, LOGICAL | LOWEST | ASSERT | 0x52, 0b111);
    expect([vmm.injected[2], interrupts(vmm)]).toEqual([null, [[1, 1, 0x52]]]);
  });

  test("to a processor that its instance has nothing of is recorded", () => {
    for (const cpu of [1, 2]) sendIpi(vmm, cpu, 0x53 | ASSERT, 0);
    expect([interrupts(vmm), recorded()]).toEqual([[], ["IPI_VIOLATION", "IPI_VIOLATION"]]);
  });

  test("wakes a tenant that has halted on another processor, whose holder has halted too", () => {
    halt(vmm, 2);
    expect([runs(vmm, 2), vmm.read(2, "GUEST_ACTIVITY_STATE")]).toEqual([1, HALTED]);
    sendIpi(vmm, 1, 0x54 | ASSERT, 2);
    expect([runs(vmm, 2), vmm.injected[2]]).toEqual([2, external(0x54)]);
    done(2);
  });

  test("waits in the virtual APIC while the holder has its turn", () => {
    interrupt(vmm, 2);
    expect(runs(vmm, 2)).toBe(1);
    vmm.write(2, "GUEST_ACTIVITY_STATE", 0n);
    sendIpi(vmm, 1, 0x55 | ASSERT, 2);
    if (runs(vmm, 2) === 1) halt(vmm, 2);
    expect([runs(vmm, 2), vmm.injected[2]]).toEqual([2, external(0x55)]);
    done(2);
  });

  test("of the first instance reaches its own processors, shared ones too, as ever", () => {
    sendIpi(vmm, 0, OTHERS | ASSERT | 0x60);
    expect([interrupts(vmm), recorded()]).toEqual([[[2, 0, 0x60], [3, 0, 0x60]], []]);
  });

  test("that is the first instance's INIT leaves a shared processor as it is", () => {
    sendIpi(vmm, 0, INIT | LEVEL | ASSERT, 2);
    vmm.exit(2, Reason.INIT, { length: 0 });
    expect([vmm.cpu(2).state, vmm.machine.processors[2]!.initLatched]).toEqual([RUNNING, false]);
  });

  test("in x2APIC mode goes where its 32 bits say, both ways", () => {
    const two = mixed({ x2apic: true });
    const write = (cpu: number, msr: number, low: number, high = 0): void => {
      for (const [register, value] of [[RCX, msr], [RAX, low], [RDX, high]] as const) two.setRegister(cpu, register, BigInt(value));
      two.exit(cpu, Reason.WRMSR, { length: 2 });
    };
    write(1, 0x830, INIT | LEVEL | ASSERT, 2);
    write(1, 0x830, SIPI | ASSERT | 0x9a, 2);
    halt(two, 2);
    expect(runs(two, 2)).toBe(2);
    two.write(2, "GUEST_RFLAGS", IF);
    write(2, 0x80f, 0x1ff);
    write(1, 0x830, ASSERT | 0x40, 2);
    expect(two.injected[2]).toBe(external(0x40));
    write(2, 0x80b, 0);
    write(1, 0x830, LOGICAL | ASSERT | 0x41, 0b100);
    expect(two.injected[2]).toBe(external(0x41));
    write(2, 0x80b, 0);
    sent(two);
    write(2, 0x830, ASSERT | 0x42, 1);
    write(2, 0x830, LOGICAL | ASSERT | 0x43, 0b10);
    expect(interrupts(two)).toEqual([[1, 0, 0x42], [1, 0, 0x43]]);
  });
});

describe("a mixture ends", () => {
  test("with the second instance: the first has all of its processors, and may begin again", () => {
    const vmm = started();
    for (let i = 0; i < 3; i++) {
      expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
      expect([1, 2, 3].map((cpu) => [runs(vmm, cpu), vmm.cpu(cpu).state, vmm.call.cpuTenant!(cpu)])).toEqual([[2, PARKED, 0], [1, RUNNING, 0], [1, RUNNING, 0]]);
      expect([2, 3].map((cpu) => vmm.read(cpu, "PIN_BASED_CONTROLS"))).toEqual([0x16n, 0x16n]);
      expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
      expect([vmm.cpu(1).state, vmm.call.cpuOwner!(1), ...reachable(vmm, 1, BASE, APIC)]).toEqual([WAITING, 1, "same 7", "same 7"]);
      expect(boot(vmm, { cpuMask: 0b0010n, shareMask: 0b1100n })).toBe(OK);
      for (const cpu of [2, 3]) start(vmm, cpu);
    }
  });

  test.each([["its whole processor", 1], ["a tenant", 2]])("with the second instance by itself, on %s", (_what, cpu) => {
    const vmm = started();
    outb(vmm, cpu, 0x604, 0x3401, 2);
    expect([vmm.instance(2).state, ...[1, 2, 3].map((one) => vmm.cpu(one).state), ...[2, 3].map((one) => runs(vmm, one))]).toEqual([STOPPED, PARKED, RUNNING, RUNNING, 1, 1]);
  });

  test.each([["a processor that it shares", 2], ["one of its own", 0]])("with the first, on %s: tenants get their local APICs, and everything is the second's", (_what, cpu) => {
    const vmm = started();
    store(vmm, 3, APIC + 0x320n, 0xec);
    store(vmm, 3, APIC + 0xd0n, (8 << 24) >>> 0);
    if (cpu === 2) interrupt(vmm, 2);
    outb(vmm, cpu, 0x604, 0x3401, 2);
    expect([1, 2, 3].map((one) => [runs(vmm, one), vmm.cpu(one).state, vmm.call.cpuOwner!(one), vmm.cpu(one).tenant])).toEqual([[2, RUNNING, 2, 0n], [2, RUNNING, 2, 0n], [2, RUNNING, 2, 0n]]);
    expect([2, 3].map((one) => [vmm.mapUnder(one), vmm.read(one, "MSR_BITMAP")])).toEqual([2, 3].map(() => [vmm.call.mapPointer!(WHOLE), vmm.call.msrBitmap!(WHOLE)]));
    expect([0xf0, 0x320, 0xd0].map((register) => vmm.machine.processors[3]!.apic.read(register))).toEqual([0x1ff, 0xec, 8 << 24]);
    sent(vmm);
    sendIpi(vmm, 1, 0x40 | ASSERT, 3);
    sendIpi(vmm, 3, 0x41 | ASSERT, 1);
    expect(sent(vmm)).toEqual([[3, 0, 0x40], [1, 0, 0x41]]);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([vmm.cpu(0).state, vmm.call.cpuOwner!(0)]).toEqual([WAITING, 2]);
    expect(vmm.machine.processors.map(({ msrs }) => (msrs.get(APIC_BASE)! & 0x100n) !== 0n)).toEqual([false, true, false, false]);
  });

  test("with the first while a tenant has not been started: its processor waits for the SIPI", () => {
    const vmm = mixed();
    start(vmm, 2);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([vmm.cpu(3).state, vmm.waitsForSipi(3), vmm.call.cpuOwner!(3)]).toEqual([WAITING, true, 2]);
    sendIpi(vmm, 1, SIPI | ASSERT | 0x9a, 3);
    expect([vmm.cpu(3).state, vmm.read(3, "GUEST_CS_BASE"), vmm.mapUnder(3)]).toEqual([RUNNING, 0x9a000n, vmm.call.mapPointer!(WHOLE)]);
  });

  test("with the first while one tenant is in an interrupt handler: the machine is there to take when it has left it", () => {
    const vmm = started();
    sendIpi(vmm, 1, 0x40 | ASSERT, 3);
    expect(vmm.injected[3]).toBe(external(0x40));
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(vmm.result.BUSY);
    sendIpi(vmm, 1, 0x41 | ASSERT, 3);
    store(vmm, 3, APIC + 0xb0n, 0);
    expect([vmm.hypercall(1, HYPERCALL.TAKE), vmm.cpu(3).tenant]).toEqual([OK, 0n]);
    expect(vmm.injected[3] === external(0x41) || vmm.machine.processors[3]!.apic.pending().includes(0x41)).toBe(true);
  });
});

describe("a mixture on AMD-V", () => {
  const [INTR, HLT] = [0x60n, 0x78n];
  const mixedSvm = (): SvmVmm => {
    const vmm = SvmVmm.captured({ apicIds: [0, 1, 2] });
    for (const { msrs } of vmm.machine.processors) msrs.set(0xc000_0103, 7n).set(0x48, 0n);
    mapKernel(vmm);
    expect(boot(vmm, { cpuMask: 0b010n, shareMask: 0b101n })).toBe(OK);
    // The first instance's run takes interrupts.
    for (const cpu of [0, 2]) vmm.write(cpu, "GUEST_RFLAGS", IF);
    for (const cpu of [0, 2]) {
      sendIpi(vmm, 1, INIT | LEVEL | ASSERT, cpu);
      sendIpi(vmm, 1, SIPI | ASSERT | 0x9a, cpu);
      if (runs(vmm, cpu) === 1) vmm.exitByCode(cpu, HLT);
      expect([runs(vmm, cpu), vmm.read(cpu, "GUEST_CS_BASE")]).toEqual([2, 0x9a000n]);
      for (const field of ["GUEST_CR0", "GUEST_CR3", "GUEST_CR4", "GUEST_EFER", "GUEST_CS_SELECTOR", "GUEST_CS_ACCESS_RIGHTS", "GUEST_CS_BASE", "GUEST_CS_LIMIT"]) vmm.write(cpu, field, vmm.read(1, field));
      vmm.write(cpu, "GUEST_RFLAGS", IF);
      store(vmm, cpu, APIC + 0xf0n, 0x1ff);
    }
    return vmm;
  };

  test("interrupts go both ways, and between tenants", () => {
    const vmm = mixedSvm();
    sendIpi(vmm, 1, 0x40 | ASSERT, 0);
    expect(vmm.injected[0]).toBe(external(0x40));
    sendIpi(vmm, 0, 0x41 | ASSERT, 2);
    expect(vmm.injected[2]).toBe(external(0x41));
    vmm.machine.ipis.length = 0;
    sendIpi(vmm, 2, 0x42 | ASSERT, 1);
    expect(vmm.machine.ipis.map(({ to, mode, vector }) => [to, mode, vector])).toEqual([[1, 0, 0x42]]);
  });

  test("a tenant is called by an interrupt that no guest sees, from however many at a time; NMIs stay its holder's own", () => {
    const vmm = mixedSvm();
    const nmis = vmm.machine.processors.map((processor) => processor.nmis);
    vmm.write(0, "GUEST_RFLAGS", 2n);
    vmm.machine.ipis.length = 0;
    sendIpi(vmm, 1, 0x40 | ASSERT, 0);
    sendIpi(vmm, 2, 0x41 | ASSERT, 0);
    expect(sent(vmm)).toEqual([[0, 0, 0xff], [0, 0, 0xff]]);
    expect([vmm.machine.processors.map((processor) => processor.nmis), vmm.machine.processors[0]!.apic.pending()]).toEqual([nmis, []]);
  });

  test("a holder that takes no interrupts is not disturbed, and its tenant's wait until it does", () => {
    const vmm = mixedSvm();
    const { apic } = vmm.machine.processors[0]!;
    apic.request(0x41);
    vmm.exitByCode(0, INTR);
    expect(runs(vmm, 0)).toBe(1);
    vmm.write(0, "GUEST_RFLAGS", 2n);
    sendIpi(vmm, 1, 0x40 | ASSERT, 0);
    expect([runs(vmm, 0), apic.pending()]).toEqual([1, [0x41, 0xff]]);
    vmm.write(0, "GUEST_RFLAGS", IF);
    vmm.exitByCode(0, INTR);
    expect([vmm.injected[0], apic.pending()]).toEqual([external(0x40), [0x41]]);
  });

  test("an interrupt that was not taken yet when its tenant was called comes again, before any other, and not by VMRUN, which QEMU would repeat", () => {
    const vmm = mixedSvm();
    sendIpi(vmm, 1, 0x40 | ASSERT, 0);
    vmm.write(0, "INTERRUPT_CONTROL", vmm.read(0, "INTERRUPT_CONTROL") | 0x100n);
    sendIpi(vmm, 2, 0x51 | ASSERT, 0);
    expect([vmm.byEvent[0], vmm.injected[0]]).toEqual([null, external(0x40)]);
    store(vmm, 0, APIC + 0xb0n, 0);
    expect([vmm.byEvent[0], vmm.injected[0]]).toEqual([null, external(0x51)]);
  });

  test("a call that is still on its way when sharing ends reaches no kernel, which would not acknowledge it", () => {
    const vmm = mixedSvm();
    const { apic } = vmm.machine.processors[0]!;
    const exits = (): bigint => vmm.read(0, "INTERCEPT1") & 1n;
    // In a handler of the highest class the holder keeps it out.
    apic.request(0xfb);
    vmm.exitByCode(0, INTR);
    vmm.exitByCode(0, INTR);
    expect([runs(vmm, 0), apic.inService()]).toEqual([1, [0xfb]]);
    apic.request(0xff);
    outb(vmm, 1, 0x604, 0x3401, 2);
    expect(vmm.instance(2).state).toBe(STOPPED);
    expect([apic.pending(), exits()]).toEqual([[0xfb, 0xff], 1n]);
    apic.request(0xfc);
    store(vmm, 0, APIC + 0xb0n, 0);
    expect([apic.pending(), exits()]).toEqual([[0xfc], 0n]);
  });

  test("each holder has a timer of its own, modelled where it shares and nowhere else", () => {
    const vmm = mixedSvm();
    expect(vmm.mapUnder(1)).toBe(vmm.call.mapPointer!(WHOLE));
    for (const cpu of [0, 2]) {
      // Of a priority that keeps the tenant out until it is done.
      vmm.machine.processors[cpu]!.apic.request(0xf2);
      vmm.exitByCode(cpu, INTR);
      vmm.exitByCode(cpu, INTR);
      expect([runs(vmm, cpu), vmm.mapUnder(cpu)]).toEqual([1, vmm.call.mapPointer!(3)]);
      store(vmm, cpu, APIC + 0x320n, 0xe0 + cpu);
    }
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect([0, 2].map((cpu) => [vmm.machine.processors[cpu]!.apic.read(0x320), vmm.mapUnder(cpu)])).toEqual([[0xe0, vmm.call.mapPointer!(1)], [0xe2, vmm.call.mapPointer!(1)]]);
  });

  test("the second takes all over when the first ends", () => {
    const vmm = mixedSvm();
    vmm.machine.processors[0]!.apic.request(0x41);
    vmm.exitByCode(0, INTR);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([0, 1, 2].map((cpu) => [runs(vmm, cpu), vmm.call.cpuOwner!(cpu), vmm.cpu(cpu).tenant])).toEqual([[2, 2, 0n], [2, 2, 0n], [2, 2, 0n]]);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
  });
});
