import { describe, expect, test } from "vitest";
import { APIC_BASE, APIC_BASE_X2APIC } from "./machine.ts";
import { CARD, MESSAGES, MSI, MSIX, WINDOW, addCard, msi, msix, setMsi, setMsix } from "./message-card.ts";
import { config, configWrite } from "./pci-access.ts";
import { PciExpress } from "./pci-express.ts";
import { HYPERCALL, type Request, boot, load, mapKernel, outb, reaches, store } from "./scenario.ts";
import { IRE, type Interrupt, QIE, SIRTP, VTD, VTD_BASE, VtdUnit } from "./vtd.ts";
import { ANNEX, ANNEX_SIZE, OK, REGION, Vmm } from "./vmm.ts";

const NIC = 0x18;
/** APIC ids: in two of x2APIC mode's clusters. */
const IDS = [0, 1, 2, 0x11];
/** Where the first kernel has its queue and its table of interrupts. */
const QUEUE = 0x510_0000n, TABLE = 0x520_0000n;
const X2APIC = 0x800n;
const MASKED = 0x4000, ENABLED = 0x8000;

interface Made { vmm: Vmm; unit: VtdUnit; pci: PciExpress }
interface Mode { x2apic: boolean; ids?: number[]; before?(made: Made): void }

/** A machine whose kernel remaps interrupts, in one of the two modes; captured, and looked at once. */
function machine({ x2apic, ids = IDS, before }: Mode = { x2apic: true }): Made {
  const vmm = new Vmm({ apicIds: ids, acpi: { x2apic: ids.some((id) => id > 255), more: ["MCFG", "DMAR"] } });
  const pci = new PciExpress(vmm.machine);
  const unit = new VtdUnit(vmm.machine);
  const { memory } = vmm.machine;
  pci.add(0, 0x29c08086, 0x060000);
  pci.add(NIC, 0x10d38086, 0x020000);
  addCard(pci);
  memory.write(unit.base + BigInt(VTD.IQA), 8, QUEUE);
  memory.write(unit.base + BigInt(VTD.GCMD), 4, BigInt(QIE));
  memory.write(unit.base + BigInt(VTD.IRTA), 8, TABLE | (x2apic ? X2APIC : 0n) | 9n);
  for (const bits of [QIE | SIRTP, QIE | IRE]) memory.write(unit.base + BigInt(VTD.GCMD), 4, BigInt(bits));
  if (x2apic) for (const { msrs } of vmm.machine.processors) msrs.set(APIC_BASE, msrs.get(APIC_BASE)! | APIC_BASE_X2APIC);
  before?.({ vmm, unit, pci });
  for (const result of [vmm.prepare(), ...ids.map((_, cpu) => vmm.capture(cpu))]) expect(result).toBe(OK);
  mapKernel(vmm);
  look(vmm);
  return { vmm, unit, pci };
}

function look(vmm: Vmm, cpu = 0): void {
  const { size } = vmm.loaded.layout("Status");
  expect(vmm.hypercall(cpu, HYPERCALL.STATUS, { rdi: 0x2200_0000n, rsi: BigInt(size) })).toBe(OK);
}

/** An entry of the kernel's table. */
const entry = (vector: number, destination: number, requester: number, more: { logical?: boolean; mode?: number; posted?: boolean; x2apic?: boolean } = {}): [bigint, bigint] => [
  1n | (more.logical ? 4n : 0n) | (BigInt(more.mode ?? 0) << 5n) | (more.posted ? 0x8000n : 0n) | (BigInt(vector) << 16n) | (BigInt(destination) << (more.x2apic === false ? 40n : 32n)),
  BigInt(requester) | (1n << 18n),
];

/** The kernel changes entries of its table, without telling. */
function put({ vmm }: Made, index: number, [low, high]: [bigint, bigint]): void {
  vmm.machine.memory.write(TABLE + BigInt(index) * 16n, 8, low);
  vmm.machine.memory.write(TABLE + BigInt(index) * 16n + 8n, 8, high);
}

const register = (vmm: Vmm, offset: number): number => Number(load(vmm, 0, VTD_BASE + BigInt(offset)));
const setRegister = (vmm: Vmm, offset: number, value: number): void => store(vmm, 0, VTD_BASE + BigInt(offset), value >>> 0);

/** The kernel tells the unit by its queue; of so many entries as a power of two, or of all. */
function tell(made: Made, index?: number, mask = 0): void {
  const tail = BigInt(register(made.vmm, VTD.IQT));
  made.vmm.machine.memory.write(QUEUE + tail, 8, index === undefined ? 4n : 0x14n | (BigInt(mask) << 27n) | (BigInt(index) << 32n));
  made.vmm.machine.memory.write(QUEUE + tail + 8n, 8, 0n);
  setRegister(made.vmm, VTD.IQT, Number(tail) + 16);
}

/** What a function's message that names an entry becomes. */
const send = (unit: VtdUnit, bdf: number, index: number): Interrupt | null => unit.interrupt(bdf, 0xfee0_0010n | (BigInt(index & 0x7fff) << 5n) | (BigInt(index >> 15) << 2n), 0);

const to = (destination: number, vector: number, more: Partial<Interrupt> = {}): Interrupt => ({ vector, mode: 0, logical: false, destination, ...more });

function violations(vmm: Vmm, from: bigint, cpu = 0): object[] {
  look(vmm, cpu);
  return vmm.events(from).filter(({ type }) => type === "INTERRUPT_VIOLATION").map(({ instance, a, b }) => ({ instance, index: Number(a & 0xffffn), sent: a >> 32n === 1n, bdf: Number(b) }));
}

const nextEvent = (vmm: Vmm): bigint => vmm.call.nextSequence!() as unknown as bigint;
const withCard: Request = { cpuMask: 0b1010n, functionCount: 1, functions: [CARD] };
const isX2apic = ({ vmm }: Made): boolean[] => vmm.machine.processors.map(({ x2apic }) => x2apic);

describe("a kernel that remaps interrupts", () => {
  test("has its entries in the VMM's table, and what it changes when it says so", () => {
    const made = machine({ x2apic: true, before: (it) => put(it, 5, entry(0x41, 1, NIC)) });
    const { unit } = made;
    expect(unit.interrupts & ~0xfffn).not.toBe(TABLE);
    expect(unit.interrupts >= ANNEX && unit.interrupts < ANNEX + ANNEX_SIZE).toBe(true);
    expect(send(unit, NIC, 5)).toEqual(to(1, 0x41));
    put(made, 5, entry(0x42, 2, NIC));
    put(made, 6, entry(0x43, 0x10001, NIC, { logical: true }));
    put(made, 7, entry(0x44, 0, NIC, { mode: 4 }));
    expect(send(unit, NIC, 5)).toEqual(to(1, 0x41));
    tell(made, 5);
    expect([send(unit, NIC, 5), send(unit, NIC, 6)]).toEqual([to(2, 0x42), null]);
    tell(made, 6, 1);
    expect([send(unit, NIC, 6), send(unit, NIC, 7)]).toEqual([to(0x10001, 0x43, { logical: true }), to(0, 0x44, { mode: 4 })]);
    put(made, 5, [0n, 0n]);
    tell(made);
    expect(send(unit, NIC, 5)).toBeNull();
  });

  test("is not told whose table it is, and has its own back with a release", () => {
    const made = machine({ x2apic: true, before: (it) => put(it, 5, entry(0x41, 1, NIC)) });
    const { vmm, unit } = made;
    expect([register(vmm, VTD.IRTA), register(vmm, VTD.GSTS) >>> 0]).toEqual([Number(TABLE | X2APIC | 9n), QIE | IRE | SIRTP]);
    expect(vmm.hypercall(0, HYPERCALL.RELEASE_BEGIN, { rdx: 0xfn })).toBe(OK);
    expect([unit.interrupts, unit.get64(VTD.IRTA), unit.get(VTD.GSTS) & IRE]).toEqual([TABLE | X2APIC | 9n, TABLE | X2APIC | 9n, IRE]);
    expect(send(unit, NIC, 5)).toEqual(to(1, 0x41));
  });

  test.each<[string, ReturnType<typeof entry>]>([
    ["posts it to memory", entry(0x41, 0, NIC, { posted: true })],
    ["stops processors", entry(0x41, 1, NIC, { mode: 5 })],
    ["is the firmware's", entry(0x41, 1, NIC, { mode: 2 })],
  ])("has no entry that %s, also while it is alone, which is recorded once", (_what, value) => {
    const made = machine();
    const from = nextEvent(made.vmm);
    put(made, 9, value);
    tell(made, 9);
    tell(made);
    expect(send(made.unit, NIC, 9)).toBeNull();
    expect(violations(made.vmm, from)).toEqual([{ instance: 1, index: 9, sent: true, bdf: NIC }]);
  });

  test.each([[true], [false]])("interrupts only processors that it holds beside another instance, in x2APIC mode: %s", (x2apic) => {
    const made = machine({ x2apic });
    const { vmm, unit } = made;
    const all: [number, ReturnType<typeof entry>, Interrupt | null, Interrupt | null][] = [
      [1, entry(0x51, 2, NIC, { x2apic }), to(2, 0x51), to(2, 0x51)],
      [2, entry(0x52, 1, NIC, { x2apic }), to(1, 0x52), null],
      [3, entry(0x53, 0x11, NIC, { x2apic }), to(0x11, 0x53), null],
      [4, entry(0x54, x2apic ? 0xffff_ffff : 0xff, NIC, { x2apic }), to(x2apic ? 0xffff_ffff : 0xff, 0x54), null],
      [5, entry(0x55, 0x77, NIC, { x2apic }), to(0x77, 0x55), null],
      ...(x2apic ? [
        [6, entry(0x56, 0b111, NIC, { logical: true }), to(0b111, 0x56, { logical: true }), to(0b101, 0x56, { logical: true })],
        [7, entry(0x57, 0x1_0002, NIC, { logical: true }), to(0x1_0002, 0x57, { logical: true }), null],
      ] as [number, ReturnType<typeof entry>, Interrupt, Interrupt | null][] : []),
    ];
    for (const [index, value] of all) put(made, index, value);
    tell(made);
    expect(all.map(([index]) => send(unit, NIC, index))).toEqual(all.map(([, , alone]) => alone));
    const from = nextEvent(vmm);
    expect(boot(vmm, { cpuMask: 0b1010n })).toBe(OK);
    expect(all.map(([index]) => send(unit, NIC, index))).toEqual(all.map(([, , , beside]) => beside));
    expect(violations(vmm, from).map((event) => (event as { index: number }).index)).toEqual(all.filter(([, , , beside]) => beside === null).map(([index]) => index));
    expect([vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n }), vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })]).toEqual([OK, OK]);
    expect(all.map(([index]) => send(unit, NIC, index))).toEqual(all.map(([, , alone]) => alone));
  });

  test("has nothing copied from where it holds nothing, and none of its functions reaches the VMM's own entries", () => {
    const made = machine();
    const { vmm, unit } = made;
    put(made, 5, entry(0x41, 0, NIC));
    tell(made);
    expect(boot(vmm, withCard)).toBe(OK);
    setRegister(vmm, VTD.IRTA, Number(REGION | X2APIC | 9n));
    setRegister(vmm, VTD.GCMD, QIE | IRE | SIRTP);
    expect(send(unit, NIC, 5)).toBeNull();
    for (let index = 0; index < 2 << Number(unit.interrupts & 15n); index += 1) expect(send(unit, NIC, index)).toBeNull();
  });
});

describe("the unit's own interrupts", () => {
  const FAULTS = 0x38, WAITS = 0xa0;
  /** The kernel writes an event's registers: data, address, its high half, control. */
  const write = (vmm: Vmm, event: number, destination: number, { data = 0x31, address = 0xfee0_0000 } = {}): void => {
    const values = [data, address + ((destination & 0xff) << 12), destination & ~0xff];
    values.forEach((value, i) => setRegister(vmm, event + 4 + 4 * i, value));
    setRegister(vmm, event, 0);
  };
  /** What the unit would do: its message, null while it is masked. */
  const has = ({ unit }: Made, event: number): object | null =>
    unit.get(event) & 0x8000_0000 ? null : { data: unit.get(event + 4), address: unit.get(event + 8), high: unit.get(event + 12) };

  test("go to processors of its kernel's, and nowhere else", () => {
    const made = machine();
    const { vmm } = made;
    write(vmm, FAULTS, 1);
    write(vmm, WAITS, 2);
    expect([has(made, FAULTS), has(made, WAITS)]).toEqual([{ data: 0x31, address: 0xfee0_1000, high: 0 }, { data: 0x31, address: 0xfee0_2000, high: 0 }]);
    expect(boot(vmm, { cpuMask: 0b1010n })).toBe(OK);
    expect([has(made, FAULTS), has(made, WAITS)]).toEqual([null, { data: 0x31, address: 0xfee0_2000, high: 0 }]);
    expect([0, 4, 8, 12].map((offset) => register(vmm, FAULTS + offset) >>> 0)).toEqual([0, 0x31, 0xfee0_1000, 0]);
    for (const elsewhere of [1, 0x11, 0xffff_ffff]) {
      write(vmm, WAITS, elsewhere);
      expect(has(made, WAITS)).toBeNull();
    }
    write(vmm, WAITS, 0);
    expect(has(made, WAITS)).toEqual({ data: 0x31, address: 0xfee0_0000, high: 0 });
  });

  test.each([["memory", { address: Number(ANNEX) }], ["INIT", { data: 0x531 }]])("are no writes of %s", (_what, message) => {
    const made = machine();
    write(made.vmm, WAITS, 0, message);
    expect(has(made, WAITS)).toBeNull();
  });
});

describe("a second instance beside a kernel in x2APIC mode", () => {
  test("has its processors in xAPIC mode, and they are in the other again when they are given back", () => {
    const made = machine();
    expect(boot(made.vmm, { cpuMask: 0b1010n })).toBe(OK);
    expect(isX2apic(made)).toEqual([true, false, true, false]);
    expect([made.vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n }), made.vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })]).toEqual([OK, OK]);
    expect(isX2apic(made)).toEqual([true, true, true, true]);
  });

  test("has all of them in xAPIC mode after the hand-over, and no interrupt is remapped", () => {
    const made = machine();
    expect(boot(made.vmm, { cpuMask: 0b1010n })).toBe(OK);
    outb(made.vmm, 0, 0x604, 0x2000, 2);
    expect(made.vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect(isX2apic(made)).toEqual([false, false, false, false]);
    expect(made.unit.get(VTD.GSTS) & IRE).toBe(0);
  });

  test("is refused where firmware has locked the processors in x2APIC mode", () => {
    const { vmm } = machine();
    const [eax, ebx, ecx] = vmm.machine.cpuid.get("7:0") ?? [0, 0, 0];
    vmm.machine.cpuid.set("7:0", [eax, ebx, ecx, 0x2000_0000]);
    for (const { msrs } of vmm.machine.processors) msrs.set(0x10a, 0x20_0000n).set(0xbd, 1n);
    expect(boot(vmm, { cpuMask: 0b10n })).toBe(vmm.result.X2APIC);
    for (const { msrs } of vmm.machine.processors) msrs.set(0xbd, 0n);
    expect(boot(vmm, { cpuMask: 0b10n })).toBe(OK);
  });

  test("is refused where a processor's id does not fit into xAPIC mode's", () => {
    const { vmm } = machine({ x2apic: true, ids: [0, 1, 0xff] });
    expect(boot(vmm, { cpuMask: 0b10n })).toBe(vmm.result.X2APIC);
  });

  test("is refused a function whose messages nobody could route, since the unit is not the VMM's", () => {
    const { vmm } = machine({ x2apic: true, before: ({ unit }) => unit.registers.set(0xc, 0) });
    expect(boot(vmm, withCard)).toBe(vmm.result.X2APIC);
    expect(boot(vmm, { cpuMask: 0b1010n })).toBe(OK);
  });
});

/** The function sends the message that it has. */
function sendMsi({ unit, pci }: Made, number = 0): Interrupt | null {
  const { address, data } = msi(pci, number);
  return unit.interrupt(CARD, address, data);
}

function sendMsix({ vmm, unit }: Made, number: number, bdf = CARD): Interrupt | null {
  const { address, data } = msix(vmm.machine, number);
  return unit.interrupt(bdf, address, data);
}

describe.each([[true], [false]])("messages of a second instance's function, beside a kernel that remaps in x2APIC mode: %s", (x2apic) => {
  const started = (): Made => {
    const made = machine({ x2apic });
    expect(boot(made.vmm, withCard)).toBe(OK);
    configWrite(made.vmm, 1, CARD, 4, 2, 6);
    return made;
  };

  test("go where their kernel sends them, which reads what it has written", () => {
    const made = started();
    const { vmm } = made;
    setMsi(vmm, 0x11, 0x61);
    expect(sendMsi(made)).toEqual(to(0x11, 0x61));
    expect([config(vmm, 1, CARD, MSI + 4, 4), config(vmm, 1, CARD, MSI + 12, 2), config(vmm, 1, CARD, MSI + 2, 2)]).toEqual([0xfee1_1000, 0x61, 0x185]);
    setMsix(vmm, 3, 1, 0x62);
    setMsix(vmm, 7, 0x11, 0x63);
    expect([sendMsix(made, 3), sendMsix(made, 7), sendMsix(made, 0)]).toEqual([to(1, 0x62), to(0x11, 0x63), null]);
    expect([0n, 4n, 8n].map((word) => load(vmm, 1, MESSAGES + 0x30n + word))).toEqual([0xfee0_1000n, 0n, 0x62n]);
    setMsix(vmm, 3, 0x11, 0x64);
    expect(sendMsix(made, 3)).toEqual(to(0x11, 0x64));
  });

  test("of MSI that are several are told apart by their number", () => {
    const made = started();
    setMsi(made.vmm, 1, 0x60, 0x21);
    expect([0, 1, 2, 3].map((number) => sendMsi(made, number))).toEqual([0x60, 0x61, 0x62, 0x63].map((vector) => to(1, vector)));
  });

  test("reach no other processor, whatever it is that their kernel writes", () => {
    const made = started();
    const { vmm, unit } = made;
    const from = nextEvent(vmm);
    setMsix(vmm, 1, 2, 0x41);
    expect(sendMsix(made, 1)).toBeNull();
    // By itself, as an access to memory that is none.
    expect([unit.interrupt(CARD, 0xfee0_2000n, 0x41), unit.interrupt(CARD, 0xfee0_200cn, 0x41)]).toEqual([null, null]);
    expect(violations(vmm, from)).toContainEqual(expect.objectContaining({ instance: 2, bdf: CARD, sent: true }));
  });

  test("name no entry that is not the function's, and no other function names theirs", () => {
    const made = started();
    put(made, 5, entry(0x41, 0, NIC, { x2apic }));
    tell(made, 5);
    setMsix(made.vmm, 0, 1, 0x62);
    expect([send(made.unit, NIC, 5), send(made.unit, CARD, 5), sendMsix(made, 0), sendMsix(made, 0, NIC), sendMsix(made, 0, CARD + 1)]).toEqual([to(0, 0x41), null, to(1, 0x62), null, null]);
  });

  test("that are refused become events, and no fault of the first kernel's", () => {
    const { vmm, unit } = started();
    const from = nextEvent(vmm);
    send(unit, CARD, 5);
    expect(violations(vmm, from)).toEqual([{ instance: 2, index: 5, sent: false, bdf: CARD }]);
    expect(register(vmm, VTD.FSTS)).toBe(0);
    send(unit, NIC, 6);
    expect([register(vmm, VTD.FSTS), register(vmm, VTD.FRCD + 8)]).toEqual([2, NIC]);
  });

  test("leave other registers in the page of their table to the function", () => {
    const { vmm } = started();
    store(vmm, 1, MESSAGES + 0x800n, 0x1234);
    expect([vmm.machine.memory.read(MESSAGES + 0x800n, 4), load(vmm, 1, MESSAGES + 0x800n)]).toEqual([0x1234n, 0x1234n]);
    expect([WINDOW, MESSAGES, MESSAGES + 0x1000n].map((address) => reaches(vmm, 2, address)?.permissions ?? 0n)).toEqual([7n, 0n, 7n]);
  });

  test("are the function's again when its kernel has reset it, and writes them anew", () => {
    const made = started();
    const { vmm, pci } = made;
    setMsix(vmm, 3, 1, 0x62);
    setMsi(vmm, 1, 0x61);
    vmm.machine.memory.writeBytes(MESSAGES, new Uint8Array(0x80));
    for (let byte = 4; byte < 14; byte += 1) pci.functions.get(CARD)!.setUint8(MSI + byte, 0);
    setMsix(vmm, 3, 1, 0x62);
    setMsi(vmm, 1, 0x61);
    expect([sendMsix(made, 3), sendMsi(made)]).toEqual([to(1, 0x62), to(1, 0x61)]);
  });

  test("are looked at where their kernel has put the table, and nowhere that it does not reach", () => {
    const made = started();
    const { vmm } = made;
    const moveTo = (address: bigint): void => {
      configWrite(vmm, 1, CARD, 4, 2, 0);
      configWrite(vmm, 1, CARD, 0x10, 4, Number(address));
      configWrite(vmm, 1, CARD, 4, 2, 6);
    };
    moveTo(WINDOW + 0x10_0000n);
    expect([MESSAGES, MESSAGES + 0x10_0000n].map((address) => reaches(vmm, 2, address)?.permissions ?? 0n)).toEqual([7n, 0n]);
    for (const elsewhere of [REGION, 0x2300_0000n, 0xfec0_0000n, VTD_BASE]) {
      moveTo(elsewhere);
      const before = vmm.machine.memory.read(REGION + 0x2000n, 8);
      store(vmm, 1, elsewhere + 0x2000n, 0xfee0_1000);
      expect(vmm.machine.memory.read(REGION + 0x2000n, 8)).toBe(before);
      expect(reaches(vmm, 2, MESSAGES + 0x10_0000n)?.permissions).toBe(7n);
    }
  });

  test("are remapped whatever the first kernel does with the unit", () => {
    const made = started();
    const { vmm, unit } = made;
    setMsix(vmm, 0, 1, 0x62);
    setRegister(vmm, VTD.GCMD, QIE);
    expect([register(vmm, VTD.GSTS) & IRE, unit.get(VTD.GSTS) & IRE, sendMsix(made, 0)]).toEqual([0, IRE, to(1, 0x62)]);
    setRegister(vmm, VTD.IRTA, Number(TABLE | (x2apic ? 0n : X2APIC)));
    setRegister(vmm, VTD.GCMD, QIE | SIRTP);
    expect(sendMsix(made, 0)).toEqual(to(1, 0x62));
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect([unit.get(VTD.GSTS) & IRE, send(unit, CARD, Number(unit.interrupts & 15n))]).not.toContain(IRE);
  });

  test("go nowhere after a stop", () => {
    const made = started();
    setMsix(made.vmm, 0, 1, 0x62);
    setMsi(made.vmm, 1, 0x61);
    expect(made.vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect([sendMsix(made, 0), sendMsi(made)]).toEqual([null, null]);
  });

  test("are the kernel's own after a hand-over, and what is on is raised once, lest one be lost", () => {
    const made = started();
    const { vmm, unit, pci } = made;
    setMsi(vmm, 1, 0x61);
    setMsix(vmm, 2, 0x11, 0x62);
    setMsix(vmm, 4, 1, 0x63);
    store(vmm, 1, MESSAGES + 0x4cn, 1);
    configWrite(vmm, 1, CARD, MSIX + 2, 2, ENABLED);
    outb(vmm, 0, 0x604, 0x2000, 2);
    vmm.machine.ipis.length = 0;
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([sendMsi(made), sendMsix(made, 2), sendMsix(made, 4), unit.get(VTD.GSTS) & IRE]).toEqual([to(1, 0x61), to(0x11, 0x62), to(1, 0x63), 0]);
    expect(vmm.machine.ipis.filter(({ mode, vector }) => mode === 0 && vector > 0x60).map((ipi) => [ipi.to, ipi.vector])).toEqual([[1, 0x61], [3, 0x62]]);
    expect([pci.functions.get(CARD)!.getUint16(MSIX + 2, true) & (MASKED | ENABLED), reaches(vmm, 2, MESSAGES)?.permissions]).toEqual([ENABLED, 7n]);
  });
});
