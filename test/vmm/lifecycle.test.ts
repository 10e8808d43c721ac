import { describe, expect, test } from "vitest";
import { type BackEnd, backEnds } from "./back-ends.ts";
import { GIB, MIB, bytes, writeKernel } from "./firmware.ts";
import { APIC_BASE, APIC_BASE_BSP } from "./machine.ts";
import { BASE, BUFFER, HYPERCALL, LOAD, SIZE, boot, bootBeside, inb, load, outb, reachable, sendIpi, store } from "./scenario.ts";
import { ANNEX, ANNEX_SIZE, OK, RAX, RCX, REGION, REGION_SIZE, RSI, STATUS_SIZE, Reason, Vmm, compileVmm } from "./vmm.ts";

const IDS = [0, 1, 2];
const IOAPIC = 0xfec0_0000n;
const HPET = 0xfed0_0000n;
const APIC = 0xfee0_0000n;
const RUNNING = 1, WAITING = 2, PARKED = 3;
const STOPPED = 2, NONE = 0;

const states = (vmm: Vmm): number[] => IDS.map((cpu) => vmm.cpu(cpu).state);
const owners = (vmm: Vmm): number[] => IDS.map((cpu) => vmm.call.cpuOwner!(cpu));
/** What an instance that is alone may do with its local APIC: on AMD-V its interrupt commands are always looked at. */
const apicAccess = (Kind: BackEnd): string => (Kind === Vmm ? "same 7" : "same 5");
const types = (vmm: Vmm, from: bigint): string[] => vmm.events(from).map(({ type }) => type);
compileVmm(["entry/main.ts"]);
compileVmm(["entry/main.ts"], "tsconfig.svm.json");

/** Two instances: the first on processor 0, the second on 1 and 2. */
const pairOn = (Kind: BackEnd): Vmm => bootBeside(Kind.captured({ apicIds: IDS }), 0b110n);

/** Which processors have forgotten what they knew of an instance's map by the end of a call that succeeds. */
function flushedBy(vmm: Vmm, cpus: number[], instance: number, call: () => number): boolean[] {
  const before = cpus.map((cpu) => vmm.mapFlushes(cpu, instance));
  expect(call()).toBe(OK);
  return cpus.map((cpu, i) => vmm.mapFlushes(cpu, instance) > before[i]!);
}

describe.each(backEnds)("a boot (%s)", (_name, Kind) => {
  const pair = (): Vmm => pairOn(Kind);
  test.runIf(Kind === Vmm)("starts the first processor at the kernel's 64-bit entry, with its boot parameters and nothing else", () => {
    const vmm = pair();
    const expected: Record<string, bigint> = {
      GUEST_RIP: LOAD + 0x200n, GUEST_RFLAGS: 2n, GUEST_CR0: 0x8000_0031n, GUEST_CR4: 0x2020n, CR4_SHADOW: 0x20n, GUEST_EFER: 0x500n, GUEST_ACTIVITY_STATE: 0n,
      GUEST_CS_SELECTOR: 0x10n, GUEST_SS_SELECTOR: 0x18n, GUEST_DS_SELECTOR: 0x18n, GUEST_CS_ACCESS_RIGHTS: 0xa09bn, GUEST_SS_ACCESS_RIGHTS: 0xc093n, GUEST_IDTR_LIMIT: 0n, VPID: 2n,
    };
    expect(Object.fromEntries(Object.keys(expected).map((field) => [field, vmm.read(1, field)]))).toEqual(expected);
    const params = vmm.register(1, RSI);
    expect(params >= BASE && params < BASE + SIZE).toBe(true);
    expect(Array.from({ length: 16 }, (_, i) => vmm.register(1, i)).filter((value, i) => i !== RSI && value !== 0n)).toEqual([]);
    expect(vmm.machine.memory.read(params + 0x202n, 4)).toBe(0x53726448n);
    for (const field of ["GUEST_CR3", "GUEST_GDTR_BASE"]) expect(vmm.read(1, field) >= BASE && vmm.read(1, field) < BASE + SIZE).toBe(true);
  });

  test("leaves its other processors waiting for SIPI, in the state after INIT", () => {
    const vmm = pair();
    expect([states(vmm), vmm.waitsForSipi(2)]).toEqual([[RUNNING, RUNNING, WAITING], true]);
    // On AMD-V it is the SIPI that puts it there.
    if (Kind === Vmm) expect(["GUEST_ACTIVITY_STATE", "GUEST_RIP", "GUEST_CS_BASE", "GUEST_CR0", "CR0_SHADOW", "GUEST_EFER", "GUEST_CR4"].map((field) => vmm.read(2, field))).toEqual([3n, 0xfff0n, 0xffff0000n, 0x30n, 0x6000_0030n, 0n, 0x2000n]);
  });

  test("moves memory and processors, and says so", () => {
    const vmm = pair();
    expect([vmm.call.memoryOf!(2), vmm.call.ownerOf!(BASE), vmm.call.ownerOf!(BASE + SIZE), owners(vmm)]).toEqual([SIZE, 2, 1, [1, 2, 2]]);
    expect(vmm.events(3n).map(({ type, instance, a, b }) => [type, instance, a, b])).toEqual([
      ["GRANTED", 2, 2n, SIZE], ["LAUNCHED", 2, LOAD + 0x200n, 0n], ["GRANTED", 2, 1n, 1n], ["GRANTED", 2, 1n, 2n],
    ]);
    expect([vmm.instance(1).holdsPlatform, vmm.instance(2).holdsPlatform, vmm.instance(1).apicGuarded, vmm.instance(2).apicGuarded]).toEqual([1, 0, 1, 1]);
  });

  test("gives the second instance its range at its own address, the first MiB of it as its low memory, and nothing of anybody else", () => {
    const vmm = pair();
    expect(reachable(vmm, 2, 0n, 0xf0000n, BASE + MIB, BASE + SIZE - 1n)).toEqual([`${BASE.toString(16)} 7`, `${(BASE + 0xf0000n).toString(16)} 7`, "same 7", "same 7"]);
    expect(reachable(vmm, 2, APIC, HPET)).toEqual(["same 5", "same 5"]);
    expect(reachable(vmm, 2, BASE - 1n, BASE, BASE + MIB - 1n, BASE + SIZE, MIB, REGION, REGION + REGION_SIZE - 1n, ANNEX, ANNEX + ANNEX_SIZE - 1n, 4n * GIB, IOAPIC, BUFFER)).toEqual(Array(12).fill(null));
  });

  test("takes the range from the first instance, and guards its APICs", () => {
    const vmm = pair();
    expect(reachable(vmm, 1, BASE, BASE + SIZE - 1n, REGION, ANNEX)).toEqual(Array(4).fill(null));
    expect(reachable(vmm, 1, BASE - 1n, BASE + SIZE, HPET, 0n)).toEqual(Array(4).fill("same 7"));
    expect(reachable(vmm, 1, APIC)).toEqual(["same 5"]);
  });

  test("makes every processor of the first instance forget the old map before it goes on", () => {
    const vmm = Kind.captured({ apicIds: IDS });
    expect(flushedBy(vmm, [0, 1], 1, () => boot(vmm, { cpuMask: 0b100n }))).toEqual([true, true]);
    expect(states(vmm)).toEqual([RUNNING, RUNNING, RUNNING]);
  });

  test("hands a processor over with nothing of the first kernel's in it", () => {
    const vmm = Kind.captured({ apicIds: IDS });
    const processor = vmm.machine.processors[1]!;
    processor.apic.write(0x320, 0x200ec);
    processor.apic.write(0x350, 0x700);
    processor.apic.write(0x80, 0xf0);
    processor.apic.write(0xf0, 0x1ff);
    processor.apic.request(0x33);
    processor.apic.accept();
    for (const vector of [0x41, 0x42, 0xec]) processor.apic.request(vector);
    expect(boot(vmm, { cpuMask: 0b010n })).toBe(OK);
    expect([processor.apic.pending(), processor.vectorStateCleared]).toEqual([[], 1]);
    expect([0x320, 0x350, 0x80, 0xf0, 0xd0, 0xe0, 0x380].map((register) => processor.apic.read(register))).toEqual([0x10000, 0x10000, 0, 0xff, 0, 0xffffffff, 0]);
  });

  test("lets all ports of the second instance exit, but for the clock that only counts", () => {
    const vmm = pair();
    const exits = (port: number): boolean => vmm.portExits(2, port);
    expect([0, 0x20, 0x3f8, 0x604, 0x607, 0x60c, 0xcf8, 0xcf9, 0x8000, 0xffff].every(exits)).toBe(true);
    expect([0x608, 0x609, 0x60a, 0x60b].some(exits)).toBe(false);
  });

  test("makes its first processor the bootstrap processor, and no other one: a bare INIT would start firmware there", () => {
    const vmm = Kind.captured({ apicIds: IDS });
    const bootstrap = (): boolean[] => vmm.machine.processors.map(({ msrs }) => (msrs.get(APIC_BASE)! & APIC_BASE_BSP) !== 0n);
    expect(bootstrap()).toEqual([true, false, false]);
    expect(boot(vmm, { cpuMask: 0b110n }, 0)).toBe(OK);
    expect([bootstrap(), owners(vmm)]).toEqual([[true, true, false], [1, 2, 2]]);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([bootstrap(), owners(vmm)]).toEqual([[false, true, false], [2, 2, 2]]);
  });

  test("shows them that, whatever the processors make of it, until the machine is its own", () => {
    const vmm = pair();
    const marked = (cpu: number): boolean => {
      vmm.setRegister(cpu, RCX, BigInt(APIC_BASE));
      vmm.exit(cpu, Reason.RDMSR);
      return (vmm.register(cpu, RAX) & APIC_BASE_BSP) !== 0n;
    };
    const exits = (): boolean => vmm.msrExits(2, APIC_BASE, false);
    vmm.machine.processors[1]!.msrs.set(APIC_BASE, 0xfee0_0800n);
    expect([exits(), marked(1)]).toEqual([true, true]);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect(exits()).toBe(false);
  });

  test("undoes that when the processor comes back", () => {
    const vmm = pair();
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect(vmm.machine.processors.map(({ msrs }) => (msrs.get(APIC_BASE)! & APIC_BASE_BSP) !== 0n)).toEqual([true, false, false]);
  });
});

describe.each(backEnds)("the second instance (%s)", (_name, Kind) => {
  const pair = (): Vmm => pairOn(Kind);
  test("finds its own IOAPIC where the real one is, which stays untouched", () => {
    const vmm = pair();
    vmm.chipset.ioapic.writes.length = 0;
    store(vmm, 1, IOAPIC, 1);
    expect(load(vmm, 1, IOAPIC + 0x10n)).toBe(0x170020n);
    store(vmm, 1, IOAPIC, 0x18);
    store(vmm, 1, IOAPIC + 0x10n, 0x934);
    expect([load(vmm, 1, IOAPIC + 0x10n), load(vmm, 1, IOAPIC)]).toEqual([0x934n, 0x18n]);
    expect(vmm.chipset.ioapic.writes).toEqual([]);
    expect(vmm.events(7n)).toEqual([]);
  });

  test("reads the real HPET; what it writes there is kept, but for the counter, which is nobody's to set", () => {
    const vmm = pair();
    vmm.chipset.hpet.registers.set(0xf0n, 0x1234_5678n);
    store(vmm, 1, HPET + 0x100n, 0x2c);
    store(vmm, 1, HPET + 0xf0n, 0);
    expect([load(vmm, 1, HPET), load(vmm, 1, HPET + 0xf0n), load(vmm, 1, HPET + 0x100n)]).toEqual([0x8086a201n, 0x1234_5678n, 0n]);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.chipset.hpet.writes).toEqual([]);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect(vmm.chipset.hpet.writes).toEqual([{ offset: 0x100n, value: 0x2cn }]);
  });

  test.each([["RAM of the first instance", BUFFER], ["the VMM's region", REGION + 0x1000n], ["the VMM's annex", ANNEX + 0x1000n], ["the last byte before its range", BASE - 4n]])("reads ones from %s, writes nothing, and is recorded", (_what, address) => {
    const vmm = pair();
    const before = vmm.machine.memory.read(address, 4);
    expect(load(vmm, 1, address)).toBe(0xffff_ffffn);
    store(vmm, 1, address, 0x1234_5678);
    expect(vmm.machine.memory.read(address, 4)).toBe(before);
    expect(vmm.events(7n).map(({ type, instance, cpu, a, b }) => [type, instance, cpu, a, b])).toEqual(Array(2).fill(["MEMORY_VIOLATION", 2, 1, address, BASE + 32n * MIB]));
    expect(vmm.read(1, "GUEST_RIP")).toBe(BASE + 32n * MIB + 2n);
  });

  test.each([["a hole in the memory map", 0xd000_0000n], ["a device of the first instance", 0xfe00_0000n]])("reads ones from %s, which is no breach", (_what, address) => {
    const vmm = pair();
    expect(load(vmm, 1, address)).toBe(0xffff_ffffn);
    expect(vmm.events(7n)).toEqual([]);
  });

  test("gets #GP for an instruction on foreign memory that the VMM does not know", () => {
    const vmm = pair();
    vmm.machine.memory.writeBytes(BASE + 32n * MIB, bytes(0x0f, 0xae, 0x03));
    vmm.write(1, "GUEST_RIP", BASE + 32n * MIB);
    vmm.exit(1, Reason.EPT_VIOLATION, { physical: BUFFER });
    expect([vmm.injected[1], vmm.read(1, "GUEST_RIP")]).toEqual([0x80000b0dn, BASE + 32n * MIB]);
  });

  test("cannot make the VMM fetch its instruction from memory that is not its own", () => {
    const vmm = pair();
    vmm.machine.memory.writeBytes(BUFFER, bytes(0x89, 0x03));
    vmm.write(1, "GUEST_RIP", BUFFER);
    vmm.exit(1, Reason.EPT_VIOLATION, { physical: BUFFER });
    expect(vmm.injected[1]).toBe(0x80000b0dn);
    vmm.write(1, "GUEST_CR3", BUFFER);
    vmm.write(1, "GUEST_RIP", BASE + 32n * MIB);
    vmm.exit(1, Reason.EPT_VIOLATION, { physical: BUFFER });
    expect(vmm.injected[1]).toBe(0x80000b0dn);
  });

  test("has a console: what it writes the first instance reads, what that types raises its interrupt", () => {
    const vmm = pair();
    store(vmm, 1, IOAPIC, 0x18);
    store(vmm, 1, IOAPIC + 0x10n, 0x34);
    store(vmm, 1, IOAPIC, 0x19);
    store(vmm, 1, IOAPIC + 0x10n, 1 << 24);
    outb(vmm, 1, 0x3f9, 1);
    for (const one of "login: ") outb(vmm, 1, 0x3f8, one.charCodeAt(0));
    expect(vmm.hypercall(0, HYPERCALL.CONSOLE_READ, { rdi: BUFFER, rsi: 4096n, rdx: 2n })).toBe(OK);
    expect(Buffer.from(vmm.machine.memory.readBytes(BUFFER + 8n, 7)).toString()).toBe("login: ");
    vmm.machine.ipis.length = 0;
    vmm.machine.memory.writeBytes(BUFFER, bytes([1, 8], "r"));
    expect(vmm.hypercall(0, HYPERCALL.CONSOLE_WRITE, { rdi: BUFFER, rsi: 4096n, rdx: 2n })).toBe(OK);
    expect(vmm.machine.ipis).toEqual([{ from: 0, to: 1, mode: 0, vector: 0x34 }]);
    expect([inb(vmm, 1, 0x3fd), inb(vmm, 1, 0x3f8)]).toEqual([0x61, "r".charCodeAt(0)]);
    expect(vmm.chipset.serial.text).toBe("");
  });

  test.each([["masked", 0x10034, 1], ["below 16", 0x0f, 1], ["sent to the first instance", 0x34, 0]])("raises no console interrupt that is %s", (_what, entry, destination) => {
    const vmm = pair();
    for (const [register, value] of [[0x18, entry], [0x19, destination << 24]] as const) {
      store(vmm, 1, IOAPIC, register);
      store(vmm, 1, IOAPIC + 0x10n, value >>> 0);
    }
    vmm.machine.ipis.length = 0;
    outb(vmm, 1, 0x3f9, 2);
    expect(vmm.machine.ipis).toEqual([]);
  });

  test("gets its console interrupt on the processor that a logical destination names, by logical ids of its own", () => {
    const vmm = pair();
    store(vmm, 1, APIC + 0xd0n, 1 << 24);
    vmm.vcpu(2).ldr = 4 << 24;
    for (const [register, value] of [[0x18, 0x0822], [0x19, 4 << 24]] as const) {
      store(vmm, 1, IOAPIC, register);
      store(vmm, 1, IOAPIC + 0x10n, value);
    }
    vmm.machine.ipis.length = 0;
    outb(vmm, 1, 0x3f9, 2);
    expect(vmm.machine.ipis).toEqual([{ from: 1, to: 2, mode: 0, vector: 0x22 }]);
  });

  test.runIf(Kind === Vmm)("ticks by the preemption timer from its timer's pin, until its own timer goes", () => {
    const vmm = pair();
    const timer = (): boolean => (vmm.read(1, "PIN_BASED_CONTROLS") & 0x40n) !== 0n;
    for (const [port, value] of [[0x43, 0x34], [0x40, 0xa9], [0x40, 0x04]] as const) outb(vmm, 1, port, value); // 1 kHz
    store(vmm, 1, IOAPIC, 0x14);
    expect(timer()).toBe(false);
    store(vmm, 1, IOAPIC + 0x10n, 0x30);
    expect([timer(), vmm.read(1, "PREEMPTION_TIMER")]).toEqual([true, (999847n * 2000n / 1000n) >> 7n]);
    vmm.machine.ipis.length = 0;
    vmm.exit(1, Reason.PREEMPTION_TIMER, { length: 0 });
    vmm.exit(1, Reason.PREEMPTION_TIMER, { length: 0 });
    expect(vmm.machine.ipis).toEqual(Array(2).fill({ from: 1, to: 1, mode: 0, vector: 0x30 }));
    store(vmm, 1, APIC + 0x320n, 0x200ec);
    expect(timer()).toBe(false);
    store(vmm, 1, IOAPIC + 0x10n, 0x10030);
    store(vmm, 1, IOAPIC + 0x10n, 0x30);
    expect(timer()).toBe(false);
  });

  test("writes no MSR of the whole package, and neither does the first one while there are two", () => {
    const vmm = pair();
    const exits = (instance: number, msr: number): boolean => vmm.msrExits(instance, msr, true);
    for (const msr of [0x1b, ...(Kind === Vmm ? [0x3a] : []), 0x79, 0x2ff, 0x200, 0x21f, 0x250, 0x258, 0x259, 0x268, 0x26f]) expect([msr, exits(1, msr), exits(2, msr)]).toEqual([msr, true, true]);
    for (const msr of [0x10, 0x174, 0x277, 0x6e0, 0x260]) expect([msr, exits(1, msr), exits(2, msr)]).toEqual([msr, false, false]);
  });
});

describe.each(backEnds)("an instance ends (%s)", (_name, Kind) => {
  const pair = (): Vmm => pairOn(Kind);
  test.each([
    ["by powering off", (vmm: Vmm) => outb(vmm, 1, 0x604, 0x3401, 2), 1n],
    ["by CF9", (vmm: Vmm) => outb(vmm, 1, 0xcf9, 6), 2n],
    ["by the keyboard controller", (vmm: Vmm) => outb(vmm, 1, 0x64, 0xfe), 2n],
    ["by STOP of the other", (vmm: Vmm) => expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK), 3n],
    ["by a triple fault", (vmm: Vmm) => vmm.exit(1, Reason.TRIPLE_FAULT), 4n],
    ["by an exit that nobody knows", (vmm: Vmm) => vmm.exit(1, Reason.EPT_MISCONFIGURATION), 5n],
  ])("%s; its processors wait in the VMM, the node stays up", (_how, end, reason) => {
    const vmm = pair();
    end(vmm);
    expect([vmm.instance(2).state, states(vmm), owners(vmm), vmm.call.memoryOf!(2), vmm.call.memoryOf!(0)]).toEqual([STOPPED, [RUNNING, PARKED, PARKED], [1, 0, 0], 0n, SIZE]);
    expect([1, 2].map((cpu) => [vmm.waitsForSipi(cpu), vmm.machine.processors[cpu]!.apic.read(0xf0)])).toEqual(Array(2).fill([true, 0xff]));
    expect(vmm.events().at(-1)).toMatchObject({ type: "STOPPED", instance: 2, a: reason });
    expect(vmm.machine.portWrites.some(({ port }) => [0x604, 0x64].includes(port))).toBe(false);
    expect(vmm.hypercall(0, HYPERCALL.ATTACH)).toBe(OK);
  });

  test("and its memory cannot be reached until somebody is given it", () => {
    const vmm = pair();
    vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n });
    expect(reachable(vmm, 1, BASE, BASE + SIZE - 1n)).toEqual([null, null]);
    expect(load(vmm, 0, BASE + 4n)).toBe(0xffff_ffffn);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(vmm.result.INSTANCE);
  });

  test("a parked processor takes no SIPI of anybody's", () => {
    const vmm = pair();
    vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n });
    sendIpi(vmm, 0, 0x4600 | 0x9a, 1);
    expect([states(vmm), vmm.waitsForSipi(1)]).toEqual([[RUNNING, PARKED, PARKED], true]);
    if (Kind === Vmm) vmm.exit(1, Reason.SIPI, { qualification: 0x9an });
    expect(states(vmm)).toEqual([RUNNING, PARKED, PARKED]);
  });

  test("the one with the devices too, which leaves them as they are", () => {
    const vmm = pair();
    vmm.machine.portWrites.length = 0;
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([vmm.instance(1).state, states(vmm), vmm.machine.portWrites]).toEqual([STOPPED, [PARKED, RUNNING, WAITING], []]);
    expect(vmm.events().at(-1)).toMatchObject({ type: "STOPPED", instance: 1, a: 1n });
  });
});

describe.each(backEnds)("give-back (%s)", (_name, Kind) => {
  const pair = (): Vmm => pairOn(Kind);
  const stopped = (): Vmm => {
    const vmm = pair();
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    return vmm;
  };

  test("returns memory, processors and freedom to the first instance", () => {
    const vmm = stopped();
    const from = vmm.call.nextSequence!();
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect([vmm.instance(2).state, vmm.call.memoryOf!(0), vmm.call.ownerOf!(BASE), owners(vmm), states(vmm)]).toEqual([NONE, 0n, 1, [1, 1, 1], [RUNNING, WAITING, WAITING]]);
    expect(reachable(vmm, 1, BASE, BASE + SIZE - 1n, APIC)).toEqual(["same 7", "same 7", apicAccess(Kind)]);
    expect(vmm.instance(1).apicGuarded).toBe(0);
    expect(types(vmm, from)).toEqual(["GRANTED", "GRANTED", "GRANTED"]);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(vmm.result.INSTANCE);
  });

  test("makes every processor of the first instance forget the old map", () => {
    const vmm = bootBeside(Kind.captured({ apicIds: IDS }), 0b100n);
    vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n });
    expect(flushedBy(vmm, [0, 1], 1, () => vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n }))).toEqual([true, true]);
  });

  test("lets the first kernel start the processors again by SIPI", () => {
    const vmm = stopped();
    vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n });
    vmm.sendStartup(0, 0x4600 | 0x9a, 2);
    vmm.hypercall(0, HYPERCALL.ATTACH);
    expect([states(vmm), vmm.read(2, "GUEST_CS_BASE"), vmm.vcpu(2).instance, vmm.mapUnder(2)]).toEqual([[RUNNING, WAITING, RUNNING], 0x9a000n, 1, vmm.call.mapPointer!(1)]);
  });

  test("and boot again, as often as one likes, uses nothing up", () => {
    const vmm = pair();
    const cycle = (): number => {
      expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
      expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
      expect(boot(vmm, { cpuMask: 0b110n })).toBe(OK);
      return vmm.call.mapTablesFree!(1);
    };
    const free = cycle();
    const pieces = vmm.call.pieceTotal!();
    for (let i = 0; i < 5; i++) expect(cycle()).toBe(free);
    expect([vmm.call.pieceTotal!(), states(vmm), vmm.register(1, RSI) !== 0n]).toEqual([pieces, [RUNNING, RUNNING, WAITING], true]);
  });
});

describe.each(backEnds)("take-over (%s)", (_name, Kind) => {
  const pair = (): Vmm => pairOn(Kind);
  /** The second instance alone: it has set its devices up, and the first one has powered off. */
  const alone = (): Vmm => {
    const vmm = pair();
    for (const [port, value] of [[0x21, 0xfb], [0xa1, 0xff], [0x3fb, 0x80], [0x3f8, 1], [0x3f9, 0], [0x3fb, 3], [0x3fc, 0xb], [0x3f9, 5]] as const) outb(vmm, 1, port, value);
    for (const [register, value] of [[0x18, 0x34], [0x19, 1 << 24]] as const) {
      store(vmm, 1, IOAPIC, register);
      store(vmm, 1, IOAPIC + 0x10n, value);
    }
    store(vmm, 1, APIC + 0xd0n, 2 << 24);
    vmm.machine.memory.writeBytes(BASE + 0x8000n, bytes("trampoline of the second kernel"));
    vmm.machine.memory.writeBytes(0x9f000n, bytes("EBDA"));
    outb(vmm, 0, 0x604, 0x3401, 2);
    return vmm;
  };

  test("gives the second instance the whole machine", () => {
    const vmm = alone();
    const from = vmm.call.nextSequence!();
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([vmm.instance(1).state, vmm.instance(2).holdsPlatform, vmm.instance(2).apicGuarded, owners(vmm), states(vmm)]).toEqual([NONE, 1, 0, [2, 2, 2], [WAITING, RUNNING, WAITING]]);
    expect(vmm.call.memoryOf!(2)).toBe(0x9f000n + 0x7fe0_0000n + 2n * GIB - REGION_SIZE - ANNEX_SIZE);
    expect(reachable(vmm, 2, 0n, MIB, BUFFER, BASE, BASE + SIZE - 1n, 4n * GIB, IOAPIC, HPET, APIC)).toEqual([...Array(8).fill("same 7"), apicAccess(Kind)]);
    expect(reachable(vmm, 2, REGION, REGION + REGION_SIZE - 1n, ANNEX, ANNEX + ANNEX_SIZE - 1n)).toEqual(Array(4).fill(null));
    expect(vmm.events(from).map(({ type, a }) => [type, a])).toEqual([["GRANTED", 2n], ["GRANTED", 4n], ...Array(5).fill(["GRANTED", 3n]), ["GRANTED", 1n]]);
  });

  test("makes every processor of the second instance forget the old map", () => {
    const vmm = alone();
    vmm.sendStartup(1, 0x4600 | 0x9a, 2);
    vmm.hypercall(1, HYPERCALL.ATTACH);
    expect(states(vmm)).toEqual([PARKED, RUNNING, RUNNING]);
    expect(flushedBy(vmm, [1, 2], 2, () => vmm.hypercall(1, HYPERCALL.TAKE))).toEqual([true, true]);
  });

  test("writes what the second kernel has set into the real devices", () => {
    const vmm = alone();
    vmm.machine.portWrites.length = 0;
    vmm.hypercall(1, HYPERCALL.TAKE);
    const last = new Map(vmm.machine.portWrites.map(({ port, value }) => [port, value]));
    expect([0x21, 0xa1, 0x3fb, 0x3fc, 0x3f9].map((port) => last.get(port))).toEqual([0xfb, 0xff, 3, 0xb, 5]);
    expect([vmm.chipset.ioapic.entry(4), vmm.chipset.ioapic.entry(9)]).toEqual([0x0100_0000_0000_0034n, 0x10000n]);
    expect(vmm.machine.processors[1]!.apic.read(0xd0)).toBe(2 << 24);
  });

  test("gives every processor the logical id that its kernel chose, before the first interrupt that may need it", () => {
    const vmm = alone();
    vmm.sendStartup(1, 0x4600 | 0x9a, 2);
    vmm.hypercall(1, HYPERCALL.ATTACH);
    vmm.vcpu(2).ldr = 4 << 24;
    const logicalIds = (): number[] => [1, 2].map((cpu) => vmm.machine.processors[cpu]!.apic.read(0xd0));
    expect(logicalIds()).toEqual([0, 0]);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect(logicalIds()).toEqual([2 << 24, 4 << 24]);
  });

  test("moves the private low memory to its real place, up to the firmware's", () => {
    const vmm = alone();
    vmm.hypercall(1, HYPERCALL.TAKE);
    expect(Buffer.from(vmm.machine.memory.readBytes(0x8000n, 31)).toString()).toBe("trampoline of the second kernel");
    expect(Buffer.from(vmm.machine.memory.readBytes(0x9f000n, 4)).toString()).toBe("EBDA");
    expect(vmm.hypercall(1, HYPERCALL.STATUS, { rdi: 0x3000n, rsi: STATUS_SIZE })).toBe(OK);
    expect(vmm.view("Status", 0x3000n).ownInstance).toBe(2);
  });

  test("lets only sleep, reset and PCI configuration exit, which now reach the machine", () => {
    const vmm = alone();
    vmm.hypercall(1, HYPERCALL.TAKE);
    vmm.machine.portWrites.length = 0;
    outb(vmm, 1, 0x604, 0x3401, 2);
    expect(vmm.machine.portWrites).toEqual([{ port: 0x604, size: 2, value: 0x3401 }]);
    const exits = (port: number): boolean => vmm.portExits(2, port);
    expect([0x64, 0x604, 0x605, 0xcf9, 0xcfc].filter((port) => !exits(port))).toEqual([]);
    expect([0x20, 0x40, 0x70, 0x3f8, 0x600, 0x608, 0xcf8].filter(exits)).toEqual([]);
  });

  test("may be asked for again", () => {
    const vmm = alone();
    expect([vmm.hypercall(1, HYPERCALL.TAKE), vmm.hypercall(1, HYPERCALL.TAKE)]).toEqual([OK, OK]);
    expect(vmm.hypercall(1, HYPERCALL.STATUS, { rdi: BUFFER, rsi: STATUS_SIZE })).toBe(OK);
    expect(vmm.view("Status", BUFFER).stillTrapped).toBe(7);
  });

  test("starts the first instance's processor for the second, and is followed by a release of all", () => {
    const vmm = alone();
    vmm.hypercall(1, HYPERCALL.TAKE);
    vmm.sendStartup(1, 0x4600 | 0x9a, 0);
    vmm.hypercall(1, HYPERCALL.ATTACH);
    expect([states(vmm), vmm.read(0, "GUEST_CS_BASE"), vmm.vcpu(0).instance]).toEqual([[RUNNING, RUNNING, WAITING], 0x9a000n, 2]);
    expect(vmm.hypercall(1, HYPERCALL.RELEASE_BEGIN, { rdx: 0b011n })).toBe(OK);
    expect([vmm.hypercall(1, HYPERCALL.RELEASE), vmm.hypercall(0, HYPERCALL.RELEASE)]).toEqual([-1, -1]);
    expect(IDS.map((cpu) => vmm.gone.get(cpu)?.how)).toEqual(["released", "released", "halted"]);
    expect(vmm.machine.processors.map(({ vmxRegion, reset }) => [vmxRegion, reset])).toEqual([[null, null], [null, null], [null, "waits"]]);
    expect(types(vmm, 0n).filter((type) => type === "RELEASED")).toHaveLength(3);
  });

  test("and another instance boots on what the first one had", () => {
    const vmm = alone();
    vmm.hypercall(1, HYPERCALL.TAKE);
    const other = { memoryBase: 4n * GIB - 3n * GIB, memorySize: 128n * MIB };
    const kernelAddress = writeKernel(vmm.machine, other.memoryBase + 16n * MIB);
    expect(boot(vmm, { ...other, kernelAddress, initrdSize: 0n, initrdAddress: other.memoryBase + 2n * MIB, cpuMask: 0b101n }, 1)).toBe(OK);
    expect([vmm.instance(1).state, vmm.instance(1).holdsPlatform, owners(vmm), vmm.call.ownerOf!(other.memoryBase)]).toEqual([1, 0, [1, 2, 1], 1]);
    expect([vmm.read(0, "GUEST_RIP"), states(vmm)]).toEqual([other.memoryBase + 16n * MIB + 0x200n, [RUNNING, RUNNING, WAITING]]);
    expect(reachable(vmm, 2, other.memoryBase, BASE)).toEqual([null, "same 7"]);
    expect(reachable(vmm, 1, other.memoryBase + MIB, BASE + MIB)).toEqual(["same 7", null]);
  });
});
