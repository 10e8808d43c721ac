import { beforeEach, describe, expect, test } from "vitest";
import { BASE, HYPERCALL, boot, load, mapKernel, outb, store } from "./scenario.ts";
import { SvmVmm } from "./svm.ts";
import { OK, Reason } from "./vmm.ts";

const APIC = 0xfee0_0000n;
const [INTR, HLT, MACHINE_CHECK, CR8_WRITE] = [0x60n, 0x78n, 0x52n, 0x18n];
const TURN_VECTOR = 0xff;
const IF = 0x202n;
const EVENT_NMI = 0x8000_0202n, EVENT_MACHINE_CHECK = 0x8000_0312n;
const external = (vector: number): bigint => 0x8000_0000n | BigInt(vector);
const TSC_AUX = 0xc000_0103;

/** A machine with one processor, which both instances share; the first one runs, with its timer going. */
function shared(): SvmVmm {
  const vmm = SvmVmm.captured({ apicIds: [0] });
  const processor = vmm.machine.processors[0]!;
  processor.msrs.set(TSC_AUX, 7n).set(0x48, 0n);
  // Its timer counts with the TSC.
  processor.apic.read = new Proxy(processor.apic.read, {
    apply: (read, apic, [register]: [number]) => register === 0x390 ? Number(BigInt.asUintN(32, BigInt(read.call(apic, 0x380)) - (vmm.machine.tsc - 1_000_000n))) : read.call(apic, register),
  });
  mapKernel(vmm);
  expect(boot(vmm, { cpuMask: 0n, shareMask: 1n })).toBe(OK);
  vmm.write(0, "GUEST_RFLAGS", IF);
  return vmm;
}

const runs = (vmm: SvmVmm): number => vmm.vcpu(0).instance;

describe("a share of a processor on AMD-V", () => {
  let vmm: SvmVmm;
  const apic = () => vmm.machine.processors[0]!.apic;
  const halt = (): void => vmm.exitByCode(0, HLT);
  /** A real interrupt makes the guest exit. */
  const interrupt = (vector: number): void => {
    apic().request(vector);
    vmm.exitByCode(0, INTR);
  };
  beforeEach(() => { vmm = shared(); });

  test("begins when the holder halts, which stands at its HLT until an interrupt of its own", () => {
    const rip = vmm.read(0, "GUEST_RIP");
    halt();
    expect(runs(vmm)).toBe(2);
    interrupt(0xec);
    expect([runs(vmm), vmm.read(0, "GUEST_RIP"), vmm.injected[0], apic().pending()]).toEqual([1, rip, null, [0xec]]);
    vmm.exitByCode(0, INTR);
    expect([runs(vmm), vmm.read(0, "GUEST_RIP"), vmm.injected[0]]).toEqual([1, rip + 1n, external(0xec)]);
  });

  test("ends by the local APIC's timer, whose interrupt nobody sees", () => {
    expect([apic().read(0x320), apic().read(0x3e0)]).toEqual([TURN_VECTOR, 0xb]);
    vmm.machine.tsc += 100_000_000n;
    interrupt(TURN_VECTOR);
    expect([runs(vmm), vmm.injected[0], apic().pending()]).toEqual([2, null, []]);
    vmm.machine.tsc += 100_000_000n;
    interrupt(TURN_VECTOR);
    expect([runs(vmm), vmm.injected[0], apic().pending()]).toEqual([1, null, []]);
  });

  test("gives the holder its interrupts at once, in service in the real APIC", () => {
    interrupt(0x41);
    expect([runs(vmm), vmm.injected[0], apic().pending()]).toEqual([1, external(0x41), [0x41]]);
    store(vmm, 0, APIC + 0xb0n, 0);
    expect(apic().pending()).toEqual([]);
  });

  test("gives them as virtual ones, which QEMU delivers once; one that an exit was before comes next, or behind one of a higher class", () => {
    interrupt(0x41);
    expect([vmm.byEvent[0], (vmm.read(0, "INTERRUPT_CONTROL") >> 32n) & 0xffn]).toEqual([null, 0x41n]);
    // Not taken: another real interrupt was there when the guest was entered.
    vmm.write(0, "INTERRUPT_CONTROL", vmm.read(0, "INTERRUPT_CONTROL") | 0x100n);
    vmm.exit(0, Reason.INVD);
    expect([vmm.byEvent[0], vmm.injected[0], vmm.read(0, "INTERRUPT_CONTROL") & 0x100n, apic().inService()]).toEqual([null, external(0x41), 0n, [0x41]]);
    // One of a higher class would be there again and again.
    vmm.write(0, "INTERRUPT_CONTROL", vmm.read(0, "INTERRUPT_CONTROL") | 0x100n);
    interrupt(0x51);
    expect([vmm.byEvent[0], vmm.injected[0], apic().inService(), apic().pending()]).toEqual([null, external(0x51), [0x51], [0x41, 0x51]]);
    store(vmm, 0, APIC + 0xb0n, 0);
    vmm.exitByCode(0, INTR);
    expect([vmm.injected[0], apic().pending()]).toEqual([external(0x41), [0x41]]);
  });

  test("is ended by the timer though another interrupt was there first, which comes next", () => {
    apic().request(0x41);
    interrupt(TURN_VECTOR);
    expect([runs(vmm), vmm.injected[0], apic().pending()]).toEqual([1, null, [0x41]]);
    vmm.exitByCode(0, INTR);
    expect([vmm.injected[0], apic().pending()]).toEqual([external(0x41), [0x41]]);
  });

  test("is not given while the holder handles what would keep the timer from ending it", () => {
    interrupt(0xf2);
    vmm.machine.tsc += 100_000_000n;
    vmm.exit(0, Reason.INVD);
    expect(runs(vmm)).toBe(1);
    store(vmm, 0, APIC + 0xb0n, 0);
    expect(runs(vmm)).toBe(2);
  });

  test("leaves the holder at its HLT, as often as it halts there", () => {
    const rip = vmm.read(0, "GUEST_RIP");
    interrupt(0xf2);
    halt();
    halt();
    expect([runs(vmm), vmm.read(0, "GUEST_RIP")]).toEqual([1, rip]);
  });

  test("models the holder's timer, and raises its interrupt in the real APIC", () => {
    for (const [register, value] of [[0x3e0n, 0xb], [0x320n, 0xec], [0x380n, 1_000_000]] as const) store(vmm, 0, APIC + register, value);
    expect([load(vmm, 0, APIC + 0x320n), load(vmm, 0, APIC + 0x380n), apic().read(0x320)]).toEqual([0xecn, 1_000_000n, TURN_VECTOR]);
    expect(load(vmm, 0, APIC + 0x390n)).toBeGreaterThan(900_000n);
    vmm.machine.tsc += 2_000_000n;
    interrupt(TURN_VECTOR);
    expect(apic().pending()).toEqual([0xec]);
  });

  test("passes NMIs and machine checks on to the holder", () => {
    halt();
    vmm.nmi(0);
    expect([runs(vmm), vmm.injected[0]]).toEqual([1, EVENT_NMI]);
    vmm.exitByCode(0, HLT);
    vmm.machine.tsc += 100_000_000n;
    halt();
    if (runs(vmm) === 1) interrupt(TURN_VECTOR);
    vmm.exitByCode(0, MACHINE_CHECK);
    expect([runs(vmm), vmm.injected[0]]).toEqual([1, EVENT_MACHINE_CHECK]);
  });

  test("keeps EFER and the turn's own settings from the tenant, who has TSC_AUX of its own", () => {
    halt();
    const { msrs } = vmm.machine.processors[0]!;
    expect(msrs.get(TSC_AUX)).toBe(0n);
    const writes = (msr: number): boolean => {
      const number = 2 * (msr & 0x1fff) + 1;
      const offset = msr >= 0xc0010000 ? 0x1000 : msr >= 0xc0000000 ? 0x800 : 0;
      return ((vmm.machine.memory.read(vmm.call.msrPermissionsOf!(4) + BigInt(offset + (number >> 3)), 1) >> BigInt(number & 7)) & 1n) === 0n;
    };
    for (const msr of [0xc0000081, 0xc0000082, 0xc0000084, 0xc0000102, 0xc0000100, TSC_AUX, 0x277, 0x48]) expect([msr, writes(msr)]).toEqual([msr, true]);
    for (const msr of [0xc0000080, 0x10, 0x3b, 0x1b, 0xc0010000, 0xc0010114]) expect([msr, writes(msr)]).toEqual([msr, false]);
    vmm.exitByCode(0, INTR);
    expect(msrs.get(TSC_AUX)).toBe(7n);
  });

  test("has no CR8 where the processor does not say which register moves", () => {
    halt();
    vmm.exitByCode(0, CR8_WRITE);
    expect(vmm.injected[0]).toBe(0x8000_0306n);
  });

  test("ends with the tenant: the holder has its timer back", () => {
    for (const [register, value] of [[0x3e0n, 0xb], [0x320n, 0x200ec], [0x380n, 5_000_000]] as const) store(vmm, 0, APIC + register, value);
    expect(vmm.hypercall(0, HYPERCALL.STOP, { rdx: 2n })).toBe(OK);
    expect([runs(vmm), apic().read(0x320), apic().read(0x380), apic().read(0x3e0)]).toEqual([1, 0x200ec, 5_000_000, 0xb]);
    expect([vmm.hypercall(0, HYPERCALL.GIVE_BACK, { rdx: 2n }), vmm.call.ownerOf!(BASE)]).toEqual([OK, 1]);
  });

  test("becomes all of it when the holder ends", () => {
    halt();
    for (const [register, value] of [[0xf0n, 0x1ff], [0x320n, 0xec], [0x3e0n, 0xb], [0x380n, 1_000_000]] as const) store(vmm, 0, APIC + register, value);
    vmm.exitByCode(0, INTR);
    expect(runs(vmm)).toBe(1);
    outb(vmm, 0, 0x604, 0x3401, 2);
    expect([runs(vmm), vmm.call.cpuOwner!(0), apic().read(0xf0), apic().read(0x320)]).toEqual([2, 2, 0x1ff, 0xec]);
    expect(vmm.hypercall(0, HYPERCALL.TAKE)).toBe(OK);
  });
});
