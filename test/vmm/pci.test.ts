import { beforeEach, describe, expect, test } from "vitest";
import { config, configWrite } from "./pci-access.ts";
import { ATTENTION, ECAM, LINK_ACTIVE, LINK_CHANGED, LINK_STATUS, POWER_OFF, PRESENCE_CHANGED, PRESENT, PciExpress, SLOT_CONTROL, SLOT_STATUS } from "./pci-express.ts";
import { BUFFER, HYPERCALL, boot, load, mapKernel, outb, reachable, store } from "./scenario.ts";
import { ANNEX, OK, REGION, STATUS_SIZE, Vmm } from "./vmm.ts";

const ONES = 0xffff_ffff;
const PORT = 0x10, CARD = 0x100, NIC = 0x18, LATE = 0x20;
const NVME = 0x00101b36, E1000E = 0x10d38086;
const SHIELDED = 254, HIDDEN = 253;

/** A captured machine with an empty slot and a network card, both known to the VMM. */
function machine(): { vmm: Vmm; pci: PciExpress } {
  const vmm = new Vmm({ acpi: { more: ["MCFG"] } });
  const pci = new PciExpress(vmm.machine);
  pci.add(0, 0x29c08086, 0x060000);
  pci.addPort(PORT, 1);
  pci.add(NIC, E1000E, 0x020000);
  for (const result of [vmm.prepare(), vmm.capture(0), vmm.capture(1)]) expect(result).toBe(OK);
  mapKernel(vmm);
  status(vmm);
  pci.writes.length = 0;
  return { vmm, pci };
}

function status(vmm: Vmm, cpu = 0): [bdf: number, owner: number][] {
  expect(vmm.hypercall(cpu, HYPERCALL.STATUS, { rdi: BUFFER, rsi: STATUS_SIZE })).toBe(OK);
  const { function: functions, functionCount } = vmm.view("Status", BUFFER);
  return Array.from({ length: functionCount }, (_, i) => vmm.element("FunctionStatus", functions, i)).map(({ bdf, instance }) => [bdf, instance]);
}

/** Through memory, as a kernel on processor 0 loads it. */
const ecam = (vmm: Vmm, bdf: number, offset: number): number => Number(load(vmm, 0, ECAM + BigInt(bdf << 12 | offset)));
const slot = (vmm: Vmm): number => config(vmm, 0, PORT, SLOT_STATUS, 2);

describe("PCI configuration space of a captured system", () => {
  const { vmm, pci } = machine();
  beforeEach(() => { pci.writes.length = 0; });

  test("shows the functions that were there, by ports and in memory", () => {
    expect([config(vmm, 0, NIC, 0, 4), config(vmm, 0, NIC, 2, 2), config(vmm, 0, NIC, 0xb, 1), ecam(vmm, NIC, 0), ecam(vmm, NIC, 0x100)]).toEqual([E1000E, 0x10d3, 2, E1000E, 0x0001_0001]);
    expect(config(vmm, 0, 0x28, 0, 4)).toBe(ONES);
  });

  test("is written through, in the size of the access", () => {
    configWrite(vmm, 0, NIC, 6, 2, 0x1234);
    store(vmm, 0, ECAM + BigInt(NIC << 12 | 0x104), 0xdead_beef);
    expect(pci.writes).toEqual([{ bdf: NIC, offset: 6, size: 2, value: 0x1234 }, { bdf: NIC, offset: 0x104, size: 4, value: 0xdead_beef }]);
  });

  test("leaves CF8 as the kernel wrote it", () => {
    config(vmm, 0, 0x30, 0, 4);
    expect(vmm.chipset.pci.address).toBe((0x8000_0000 | (0x30 << 8)) >>> 0);
  });

  test("is nothing for user space to see as an event", () => expect(vmm.events().some(({ type }) => type === "DISCOVERED")).toBe(false));
});

describe("a function that was plugged in", () => {
  test("reads as an empty slot, is written by nobody, and is listed as shielded", () => {
    const { vmm, pci } = machine();
    pci.add(LATE, NVME, 0x010802);
    expect([config(vmm, 0, LATE, 0, 4), ecam(vmm, LATE, 0), config(vmm, 0, LATE, 0, 2)]).toEqual([ONES, ONES, 0xffff]);
    configWrite(vmm, 0, LATE, 4, 2, 7);
    expect(pci.writes).toEqual([]);
    expect(status(vmm)).toEqual([[0, 1], [PORT, 1], [NIC, 1], [LATE, SHIELDED]]);
    expect(vmm.events().filter(({ type }) => type === "DISCOVERED").map(({ a, b }) => [a, b])).toEqual([[BigInt(LATE), BigInt(NVME)]]);
  });

  test("is found by the VMM itself where nobody has looked", () => {
    const { vmm, pci } = machine();
    pci.add(LATE, NVME, 0x010802);
    expect(status(vmm)).toContainEqual([LATE, SHIELDED]);
  });

  test("is the survivor's after the hand-over, and not the first system's when the second one is stopped", () => {
    const { vmm, pci } = machine();
    pci.add(LATE, NVME, 0x010802);
    expect(boot(vmm)).toBe(OK);
    expect(config(vmm, 1, LATE, 0, 4)).toBe(ONES);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect(status(vmm)).toContainEqual([LATE, SHIELDED]);
    expect(boot(vmm)).toBe(OK);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([config(vmm, 1, LATE, 0, 4), config(vmm, 1, NIC, 0, 4)]).toEqual([NVME, E1000E]);
  });
});

describe("a hot-plug slot", () => {
  test("stays empty, dark and without events to the kernel that holds its port, while the card in it gets power", () => {
    const { vmm, pci } = machine();
    const before = [slot(vmm), config(vmm, 0, PORT, SLOT_CONTROL, 2), config(vmm, 0, PORT, LINK_STATUS, 2)];
    pci.plug(PORT, NVME, 0x010802);
    expect(pci.read(PORT, SLOT_STATUS, 2)).toBe(PRESENT | PRESENCE_CHANGED | ATTENTION);
    expect(slot(vmm) & (PRESENT | PRESENCE_CHANGED | LINK_CHANGED | ATTENTION)).toBe(0);
    expect(pci.read(PORT, SLOT_CONTROL, 2) & POWER_OFF).toBe(0);
    // The link's coming up is one more event that the kernel's handler looks at.
    expect(slot(vmm) & (PRESENT | PRESENCE_CHANGED | LINK_CHANGED | ATTENTION)).toBe(0);
    expect(pci.read(PORT, SLOT_STATUS, 2) & (PRESENCE_CHANGED | LINK_CHANGED)).toBe(0);
    expect(before).toEqual([0, config(vmm, 0, PORT, SLOT_CONTROL, 2), config(vmm, 0, PORT, LINK_STATUS, 2)]);
    expect(pci.read(PORT, LINK_STATUS, 2)).toBe(LINK_ACTIVE);
    expect([config(vmm, 0, CARD, 0, 4), status(vmm).at(-1)]).toEqual([ONES, [CARD, SHIELDED]]);
  });

  test("whose kernel switches it off keeps its power while the card is not that kernel's", () => {
    const { vmm, pci } = machine();
    pci.plug(PORT, NVME, 0x010802);
    slot(vmm);
    configWrite(vmm, 0, PORT, SLOT_CONTROL, 2, 0x0600);
    expect([config(vmm, 0, PORT, SLOT_CONTROL, 2) & POWER_OFF, pci.read(PORT, SLOT_CONTROL, 2) & POWER_OFF]).toEqual([POWER_OFF, 0]);
    configWrite(vmm, 0, PORT, SLOT_CONTROL, 2, 0x0100);
    expect(config(vmm, 0, PORT, SLOT_CONTROL, 2) & POWER_OFF).toBe(0);
  });

  test("tells its kernel of completed commands, and lets it clear them", () => {
    const { vmm } = machine();
    configWrite(vmm, 0, PORT, SLOT_CONTROL, 2, 0x0720);
    expect(slot(vmm)).toBe(0x10);
    configWrite(vmm, 0, PORT, SLOT_STATUS, 2, 0x10);
    expect([slot(vmm), config(vmm, 0, PORT, SLOT_CONTROL, 2)]).toEqual([0, 0x0720]);
  });

  test("gets attention from the VMM too where no interrupt tells anybody", () => {
    const { vmm, pci } = machine();
    pci.plug(PORT, NVME, 0x010802);
    expect(status(vmm).at(-1)).toEqual([CARD, SHIELDED]);
    expect(pci.read(PORT, SLOT_CONTROL, 2) & POWER_OFF).toBe(0);
  });

  test("is the survivor's as it is", () => {
    const { vmm, pci } = machine();
    pci.plug(PORT, NVME, 0x010802);
    status(vmm);
    expect(boot(vmm)).toBe(OK);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([config(vmm, 1, PORT, SLOT_STATUS, 2) & PRESENT, config(vmm, 1, PORT, LINK_STATUS, 2), config(vmm, 1, CARD, 0, 4)]).toEqual([PRESENT, LINK_ACTIVE, NVME]);
  });
});

describe("a function that is to leave the machine", () => {
  const hide = (vmm: Vmm, cpu: number, bdf: number): number => vmm.hypercall(cpu, HYPERCALL.HIDE, { rdx: BigInt(bdf) });
  const eject = (vmm: Vmm, cpu: number, bdf: number): number => vmm.hypercall(cpu, HYPERCALL.EJECT, { rdx: BigInt(bdf) });
  const log = (vmm: Vmm): string[] => vmm.events().filter(({ type }) => ["HIDDEN", "REMOVED"].includes(type)).map(({ type, a }) => `${type} ${a}`);
  /** The first system had the card from the start, serves, and ends; the second one is there. */
  function serviced(): { vmm: Vmm; pci: PciExpress } {
    const vmm = new Vmm({ acpi: { more: ["MCFG"] } });
    const pci = new PciExpress(vmm.machine);
    pci.addPort(PORT, 1);
    pci.plug(PORT, NVME, 0x010802);
    pci.write(PORT, SLOT_CONTROL, 2, 0x100);
    for (const result of [vmm.prepare(), vmm.capture(0), vmm.capture(1)]) expect(result).toBe(OK);
    mapKernel(vmm);
    expect(status(vmm)).toEqual([[PORT, 1], [CARD, 1]]);
    expect(boot(vmm)).toBe(OK);
    return { vmm, pci };
  }

  test("is hidden while no instance holds it, silent, and not granted with the hand-over", () => {
    const { vmm, pci } = serviced();
    pci.write(CARD, 4, 2, 6);
    expect([hide(vmm, 0, CARD), hide(vmm, 1, CARD)]).toEqual([vmm.result.FUNCTION, vmm.result.BUSY]);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([hide(vmm, 1, PORT), hide(vmm, 1, NIC), hide(vmm, 1, 0x1_0000 + CARD)]).toEqual(Array(3).fill(vmm.result.FUNCTION));
    expect([hide(vmm, 1, CARD), hide(vmm, 1, CARD)]).toEqual([OK, OK]);
    expect(pci.read(CARD, 4, 2)).toBe(0);
    expect(eject(vmm, 1, CARD)).toBe(vmm.result.INSTANCE);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect([config(vmm, 1, CARD, 0, 4), config(vmm, 1, PORT, SLOT_STATUS, 2) & PRESENT]).toEqual([ONES, 0]);
    expect(vmm.view("PciFunction", vmm.call.functionAt!(1)).owner).toBe(HIDDEN);
    expect(log(vmm)).toEqual([`HIDDEN ${CARD}`]);
  });

  test("has its slot switched off beneath the survivor, which hears nothing of it, and is forgotten once it is out", () => {
    const { vmm, pci } = serviced();
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([hide(vmm, 1, CARD), vmm.hypercall(1, HYPERCALL.TAKE), eject(vmm, 1, CARD)]).toEqual([OK, OK, OK]);
    expect(pci.read(PORT, SLOT_CONTROL, 2) & 0x700).toBe(POWER_OFF | 0x300);
    const seen = (): number => config(vmm, 1, PORT, SLOT_STATUS, 2) & (PRESENT | PRESENCE_CHANGED | LINK_CHANGED | ATTENTION);
    // The card is still in its slot, which stays off.
    expect([seen(), pci.read(PORT, SLOT_CONTROL, 2) & POWER_OFF]).toEqual([0, POWER_OFF]);
    pci.unplug(PORT);
    expect([seen(), pci.read(PORT, SLOT_STATUS, 2) & PRESENCE_CHANGED]).toEqual([0, 0]);
    vmm.call.forgetRemoved!();
    expect([vmm.call.functionTotal!(), ...log(vmm)]).toEqual([1, `HIDDEN ${CARD}`, `REMOVED ${CARD}`]);
  });

  test("may be one that was plugged in; the next card in its slot is a new one", () => {
    const { vmm, pci } = machine();
    pci.plug(PORT, NVME, 0x010802);
    status(vmm);
    expect([eject(vmm, 0, NIC), eject(vmm, 0, CARD + 8), eject(vmm, 0, CARD)]).toEqual([vmm.result.FUNCTION, vmm.result.FUNCTION, OK]);
    expect(status(vmm).at(-1)).toEqual([CARD, HIDDEN]);
    pci.unplug(PORT);
    expect(status(vmm).at(-1)).toEqual([NIC, 1]);
    pci.plug(PORT, E1000E, 0x020000);
    expect([slot(vmm) & PRESENT, status(vmm).at(-1)]).toEqual([0, [CARD, SHIELDED]]);
  });

  test("is not switched off in a slot that knows nothing of it: the firmware has that", () => {
    const { vmm, pci } = machine();
    pci.plug(PORT, NVME, 0x010802);
    status(vmm);
    pci.functions.get(PORT)!.setUint16(SLOT_STATUS, 0, true);
    expect([eject(vmm, 0, CARD), pci.read(PORT, SLOT_CONTROL, 2) & POWER_OFF]).toEqual([vmm.result.SLOT, 0]);
  });

  test("is not switched off where the port cannot, and stays hidden", () => {
    const { vmm, pci } = machine();
    pci.plug(PORT, NVME, 0x010802);
    status(vmm);
    const port = vmm.view("PciFunction", vmm.call.functionAt!(1)).config;
    vmm.machine.memory.write(port + 0x68n, 4, 0x40n);
    expect(eject(vmm, 0, CARD)).toBe(vmm.result.SLOT);
    expect(status(vmm).at(-1)).toEqual([CARD, HIDDEN]);
  });

  test("is not one that an instance holds, nor part of a card of which it holds some", () => {
    const { vmm } = serviced();
    expect(eject(vmm, 0, CARD)).toBe(vmm.result.FUNCTION);
    expect(log(vmm)).toEqual([]);
  });
});

describe("a launch with devices", () => {
  const WINDOW = 0xfe80_0000n;
  /** With a card in the slot that the VMM has found; the port passes 2 MiB down. */
  function plugged(): { vmm: Vmm; pci: PciExpress } {
    const made = machine();
    made.pci.functions.get(PORT)!.setUint32(0x20, 0xfe90_fe80, true);
    made.pci.plug(PORT, NVME, 0x010802);
    expect(status(made.vmm).at(-1)).toEqual([CARD, SHIELDED]);
    return made;
  }
  const grants = (...bdf: number[]): object => ({ functionCount: bdf.length, functions: bdf });

  test("grants what was shielded: configuration, registers and all, to the second system alone", () => {
    const { vmm, pci } = plugged();
    expect(boot(vmm, grants(CARD))).toBe(OK);
    expect([config(vmm, 0, CARD, 0, 4), config(vmm, 1, CARD, 0, 4), config(vmm, 1, NIC, 0, 4)]).toEqual([ONES, NVME, ONES]);
    configWrite(vmm, 1, CARD, 0x10, 4, 0xfe80_0000);
    configWrite(vmm, 1, CARD, 4, 2, 6);
    expect([pci.read(CARD, 0x10, 4), pci.read(CARD, 4, 2)]).toEqual([0xfe80_0000, 6]);
    expect(reachable(vmm, 1, WINDOW - 1n, WINDOW, WINDOW + 0x1f_ffffn, WINDOW + 0x20_0000n)).toEqual(["same 7", null, null, "same 7"]);
    expect(reachable(vmm, 2, WINDOW - 1n, WINDOW, WINDOW + 0x1f_ffffn, WINDOW + 0x20_0000n)).toEqual([null, "same 7", "same 7", null]);
    expect(pci.read(PORT, 4, 2) & 6).toBe(6);
    expect(status(vmm)).toContainEqual([CARD, 2]);
  });

  test("shows the second system the card in its slot, which the first one still sees empty", () => {
    const { vmm } = plugged();
    expect(boot(vmm, grants(CARD))).toBe(OK);
    expect([config(vmm, 0, PORT, SLOT_STATUS, 2) & PRESENT, config(vmm, 1, PORT, SLOT_STATUS, 2) & PRESENT]).toEqual([0, PRESENT]);
  });

  test("lets nobody write the port above, which confines the device", () => {
    const { vmm, pci } = plugged();
    expect(boot(vmm, grants(CARD))).toBe(OK);
    for (const cpu of [0, 1]) {
      configWrite(vmm, cpu, PORT, 0x20, 4, 0xfff0_0000);
      configWrite(vmm, cpu, PORT, 4, 2, 0);
      configWrite(vmm, cpu, PORT, 0x18, 4, 0);
    }
    expect([pci.read(PORT, 0x20, 4), pci.read(PORT, 4, 2) & 6, pci.read(PORT, 0x19, 1)]).toEqual([0xfe90_fe80, 6, 1]);
  });

  test.each([
    ["the VMM's region", REGION], ["its annex", ANNEX], ["RAM of the first system", BUFFER], ["the local APICs", 0xfee0_0000n], ["configuration space", ECAM],
  ])("maps no window that the first system has laid over %s, neither for the second nor, after a stop, for itself", (_what, at) => {
    const { vmm, pci } = plugged();
    const before = reachable(vmm, 1, at);
    const unit = Number(at >> 20n) << 4;
    pci.functions.get(PORT)!.setUint32(0x20, ((unit << 16) | unit) >>> 0, true);
    expect(boot(vmm, grants(CARD))).toBe(OK);
    expect(reachable(vmm, 2, at)).toEqual(at === 0xfee0_0000n ? ["same 5"] : [null]);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect(reachable(vmm, 1, at)).toEqual(before);
  });

  test("maps no window without an end", () => {
    const { vmm, pci } = plugged();
    const port = pci.functions.get(PORT)!;
    port.setUint32(0x24, 0xfff1_0011, true);
    port.setUint32(0x28, 0x100, true);
    port.setUint32(0x2c, 0xffff_ffff, true);
    expect(boot(vmm, grants(CARD))).toBe(OK);
    expect(reachable(vmm, 2, 0x100_0010_0000n)).toEqual([null]);
  });

  test("is undone by a stop: the device is silent, shielded, and out of reach for nobody's map", () => {
    const { vmm, pci } = plugged();
    expect(boot(vmm, grants(CARD))).toBe(OK);
    configWrite(vmm, 1, CARD, 4, 2, 6);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect(pci.read(CARD, 4, 2)).toBe(0);
    expect(vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n })).toBe(OK);
    expect([status(vmm).at(-1), config(vmm, 0, CARD, 0, 4)]).toEqual([[CARD, SHIELDED], ONES]);
    expect(reachable(vmm, 1, WINDOW)).toEqual(["same 7"]);
  });

  test("takes a function of the first system's as well, and gives it back", () => {
    const { vmm } = plugged();
    expect(boot(vmm, grants(CARD))).toBe(OK);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect(vmm.hypercall(1, HYPERCALL.TAKE)).toBe(OK);
    expect(config(vmm, 1, CARD, 0, 4)).toBe(NVME);
    expect(vmm.hypercall(1, HYPERCALL.STATUS, { rdi: 0x3000n, rsi: STATUS_SIZE })).toBe(OK);
    // From here on it is like any other.
    expect(boot(vmm, { ...grants(CARD), memoryBase: 0x2000_0000n, cpuMask: 1n }, 1)).not.toBe(vmm.result.FUNCTION);
  });

  test.each([
    ["that nobody knows", 0x200], ["on bus 0, where no port confines it", NIC], ["that is a bridge", PORT],
  ])("refuses a function %s", (_what, bdf) => {
    const { vmm } = plugged();
    expect(boot(vmm, grants(bdf))).toBe(vmm.result.FUNCTION);
    expect(status(vmm)).toContainEqual([CARD, SHIELDED]);
  });

  test("refuses a part of what is below a port, and more functions than a request holds", () => {
    const { vmm, pci } = plugged();
    pci.add(CARD + 1, NVME, 0x010802);
    config(vmm, 0, CARD + 1, 0, 4);
    expect(boot(vmm, grants(CARD))).toBe(vmm.result.FUNCTION);
    expect(boot(vmm, { functionCount: 33, functions: [CARD] })).toBe(vmm.result.FUNCTION);
    expect(boot(vmm, grants(CARD, CARD + 1))).toBe(OK);
  });
});
