import { beforeEach, describe, expect, test } from "vitest";
import { PCI_DEVICES, addChipset } from "./chipset.ts";
import { GPE0, PM1_CONTROL, PM1_EVENT, writeAcpi, writeBootInfo } from "./firmware.ts";
import { Machine } from "./machine.ts";
import { PLACE, REGION, loadModules } from "./vmm.ts";

const machine = new Machine();
const chipset = addChipset(machine);
const loaded = loadModules(machine, ["devices/legacy.ts", "devices/hpet.ts", "devices/ioapic.ts", "devices/pci-config.ts", "boot/acpi.ts"]);
const { call } = loaded;
writeBootInfo(machine, REGION + 256n, { ...PLACE, rsdp: writeAcpi(machine, { apicIds: [0, 1] }), apicIds: [0, 1] });
call.readPlatform!();

/** What the instance that holds no device reads and writes. */
const inb = (port: number): number => call.shadowIn!(port, 1);
const outb = (port: number, value: number): number => call.shadowOut!(port, 1, value);

beforeEach(() => {
  for (const reset of ["resetUart", "resetIoapic", "resetLegacy", "resetPciConfig", "resetHpet", "resetTick"]) call[reset]!();
  machine.portWrites.length = 0;
  chipset.hpet.writes.length = 0;
  chipset.ioapic.writes.length = 0;
  chipset.serial.text = "";
});

describe("the console's serial port", () => {
  const COM1 = 0x3f8;
  const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH] = [COM1, COM1 + 1, COM1 + 2, COM1 + 3, COM1 + 4, COM1 + 5, COM1 + 6, COM1 + 7];
  const INPUT = 0x5000_0000n;
  const OUTPUT = 0x5100_0000n;
  const type = (text: string): number => {
    machine.memory.writeBytes(INPUT, Buffer.from(text, "latin1"));
    return call.putInput!(INPUT, text.length);
  };
  const output = (room = 65536): string => Buffer.from(machine.memory.readBytes(OUTPUT, call.takeOutput!(OUTPUT, room))).toString("latin1");

  // The order in which Linux's 8250 driver looks (drivers/tty/serial/8250/8250_port.c, autoconfig).
  test("is found by Linux's driver as a 16550A with working FIFOs", () => {
    outb(IER!, 0);
    expect(inb(IER!) & 0x0f).toBe(0);
    outb(IER!, 0x0f);
    expect(inb(IER!) & 0x0f).toBe(0x0f);
    outb(IER!, 0);
    outb(MCR!, 0x1a);
    expect(inb(MSR!) & 0xf0).toBe(0x90);
    outb(MCR!, 0);
    outb(LCR!, 0xbf);
    outb(IIR!, 0);
    outb(LCR!, 0);
    outb(IIR!, 1);
    expect(inb(IIR!) >> 6).toBe(3);
    // Not a 16650 (its EFR reads as zero at offset 2), not a 16750 (64-byte FIFO), no XScale (IER bit 6).
    for (const mode of [0x80, 0xbf]) {
      outb(LCR!, mode);
      expect(inb(IIR!)).not.toBe(0);
    }
    outb(LCR!, 0);
    outb(IIR!, 0x21);
    expect(inb(IIR!) >> 5).toBe(6);
    outb(LCR!, 0x80);
    outb(IIR!, 0x21);
    expect(inb(IIR!) >> 5).toBe(6);
    outb(LCR!, 0);
    outb(IER!, 0x40);
    expect(inb(IER!) & 0x40).toBe(0);
  });

  test("has no FIFO bits before FIFOs are switched on", () => expect(inb(IIR!)).toBe(1));

  test.each([["DTR", 1, 0x20], ["RTS", 2, 0x10], ["OUT1", 4, 0x40], ["OUT2", 8, 0x80], ["all", 15, 0xf0], ["nothing", 0, 0]])("loops %s back as modem status", (_what, signals, status) => {
    const control = 0x10 | signals;
    outb(MCR!, control);
    expect(inb(MSR!) & 0xf0).toBe(status);
  });

  test("is connected: CTS, DSR and carrier, and always ready to send", () => {
    expect(inb(MSR!)).toBe(0xb0);
    expect(inb(LSR!)).toBe(0x60);
  });

  test("keeps scratch, line control, modem control and divisor apart", () => {
    outb(SCRATCH!, 0xa5);
    outb(LCR!, 0x83);
    outb(DATA!, 0x0c);
    outb(IER!, 0x01);
    expect([inb(DATA!), inb(IER!), inb(LCR!)]).toEqual([0x0c, 0x01, 0x83]);
    outb(LCR!, 0x03);
    outb(MCR!, 0xeb);
    outb(IER!, 5);
    expect([inb(SCRATCH!), inb(LCR!), inb(MCR!), inb(IER!), inb(DATA!)]).toEqual([0xa5, 0x03, 0x0b, 5, 0]);
    expect(output()).toBe("");
  });

  test("interrupts when the transmitter becomes empty, once for each time", () => {
    expect(call.uartInterrupt!()).toBe(false);
    outb(IER!, 2);
    expect([call.uartInterrupt!(), inb(IIR!) & 15, call.uartInterrupt!(), inb(IIR!) & 15]).toEqual([true, 2, false, 1]);
    outb(DATA!, 65);
    expect([call.uartInterrupt!(), inb(IIR!) & 15, call.uartInterrupt!()]).toEqual([true, 2, false]);
    // The driver's test for a lost THRE interrupt: off and on again raises it again.
    outb(IER!, 0);
    expect(call.uartInterrupt!()).toBe(false);
    outb(IER!, 2);
    expect([call.uartInterrupt!(), inb(IIR!) & 15]).toEqual([true, 2]);
  });

  test("interrupts for input before anything else, until all of it is read", () => {
    outb(IER!, 3);
    type("hi");
    expect([inb(LSR!), inb(IIR!) & 15, inb(IIR!) & 15]).toEqual([0x61, 4, 4]);
    expect([inb(DATA!), inb(DATA!)]).toEqual([..."hi"].map((one) => one.charCodeAt(0)));
    expect([inb(LSR!), inb(IIR!) & 15, inb(IIR!) & 15, inb(DATA!)]).toEqual([0x60, 2, 1, 0]);
  });

  test("is silent while its interrupts are off", () => {
    type("x");
    outb(DATA!, 65);
    expect([call.uartInterrupt!(), inb(IIR!)]).toEqual([false, 1]);
  });

  test("takes input as far as there is room, and loses none of it", () => {
    expect(type("a".repeat(200))).toBe(200);
    expect(type("b".repeat(200))).toBe(55);
    let read = "";
    while (inb(LSR!) & 1) read += String.fromCharCode(inb(DATA!));
    expect(read).toBe("a".repeat(200) + "b".repeat(55));
    expect(type("c".repeat(300))).toBe(255);
  });

  test("keeps output until it is taken, in pieces", () => {
    for (const one of "hello world") outb(DATA!, one.charCodeAt(0));
    expect([output(5), output(1), output(100), output()]).toEqual(["hello", " ", "world", ""]);
  });

  test("keeps the newest output when nobody takes it", () => {
    const text = Array.from({ length: 20_000 }, (_, i) => String.fromCharCode(33 + (i % 90))).join("");
    for (const one of text) outb(DATA!, one.charCodeAt(0));
    expect(output()).toBe(text.slice(-16383));
    outb(DATA!, 33);
    expect(output()).toBe("!");
  });

  test("is handed over with its settings and what is left of its output", () => {
    outb(LCR!, 0x80);
    outb(DATA!, 1);
    outb(IER!, 0);
    outb(LCR!, 3);
    outb(IIR!, 1);
    outb(MCR!, 0xb);
    outb(IER!, 5);
    outb(SCRATCH!, 0x77);
    for (const one of "seen, unseen") outb(DATA!, one.charCodeAt(0));
    output(6);
    call.handOverUart!();
    expect(chipset.serial.text).toBe("\x01unseen"); // the divisor goes to the same port
    const last = new Map(machine.portWrites.map(({ port, value }) => [port, value]));
    expect([IER, IIR, LCR, MCR, SCRATCH].map((port) => last.get(port!))).toEqual([5, 7, 3, 0xb, 0x77]);
    expect(output()).toBe("");
  });
});

describe("the interrupt controllers", () => {
  test("PIC masks are kept, and probed as a real PIC is", () => {
    expect([inb(0x21), inb(0xa1), inb(0x20), inb(0xa0)]).toEqual([0xff, 0xff, 0, 0]);
    outb(0x21, 0xfb);
    outb(0xa1, 0x7f);
    expect([inb(0x21), inb(0xa1)]).toEqual([0xfb, 0x7f]);
    outb(0x4d0, 0x20);
    outb(0x4d1, 0x0c);
    expect([inb(0x4d0), inb(0x4d1), call.shadowIn!(0x4d0, 2)]).toEqual([0x20, 0x0c, 0x0c20]);
  });

  const ioapic = {
    read: (register: number): number => { call.ioapicWrite!(0, register); return call.ioapicRead!(0x10); },
    write: (register: number, value: number): void => { call.ioapicWrite!(0, register); call.ioapicWrite!(0x10, value); },
  };

  test("the IOAPIC is of the real one's model, with every pin masked", () => {
    expect([ioapic.read(0), ioapic.read(1)]).toEqual([0x2000000, 0x170020]);
    expect(Array.from({ length: 24 }, (_, pin) => [ioapic.read(0x10 + 2 * pin), ioapic.read(0x11 + 2 * pin)])).toEqual(Array(24).fill([0x10000, 0]));
    expect([ioapic.read(0x0f), ioapic.read(0x40), call.ioapicRead!(0x20)]).toEqual([0, 0, 0]);
  });

  test("the IOAPIC's table keeps both halves of each entry, and the register that is selected", () => {
    ioapic.write(0x18, 0x0000_0931);
    ioapic.write(0x19, 0x0100_0000);
    ioapic.write(0x3e, 0x1_00ef);
    expect(call.ioapicEntry!(4)).toBe(0x0100_0000_0000_0931n);
    expect([ioapic.read(0x18), ioapic.read(0x19), ioapic.read(0x3e)]).toEqual([0x931, 0x0100_0000, 0x1_00ef]);
    call.ioapicWrite!(0, 0x19);
    expect(call.ioapicRead!(0)).toBe(0x19);
    ioapic.write(0x40, 5);
    ioapic.write(1, 5);
    expect(ioapic.read(1)).toBe(0x170020);
  });

  test("the real IOAPIC is read without a trace, and untouched until the hand-over", () => {
    chipset.ioapic.select = 0x2a;
    call.resetIoapic!();
    ioapic.write(0x18, 0x931);
    expect([chipset.ioapic.select, chipset.ioapic.writes]).toEqual([0x2a, []]);
  });

  test("the IOAPIC's hand-over sets no entry live before its destination", () => {
    ioapic.write(0x18, 0x0000_0931);
    ioapic.write(0x19, 0x0100_0000);
    call.handOverIoapic!();
    expect(chipset.ioapic.entry(4)).toBe(0x0100_0000_0000_0931n);
    expect(chipset.ioapic.entry(5)).toBe(0x10000n);
    expect(chipset.ioapic.writes.filter(({ register }) => (register & ~1) === 0x18)).toEqual([
      { register: 0x18, value: 0x10000 }, { register: 0x19, value: 0x0100_0000 }, { register: 0x18, value: 0x931 },
    ]);
    expect(chipset.ioapic.select).toBe(0x19);
  });
});

describe("the timers", () => {
  const period = (): bigint => machine.memory.read(loaded.addressOf("periodNs"), 8);

  test.each([
    ["low byte, high byte", [[0x43, 0x34], [0x40, 0x9c], [0x40, 0x2e]], 11932n],
    ["after half a count that a new command forgets", [[0x43, 0x34], [0x40, 0xff], [0x43, 0x34], [0x40, 0xa9], [0x40, 0x04]], 1193n],
    ["zero, which is 65536", [[0x43, 0x34], [0x40, 0], [0x40, 0]], 65536n],
  ] as const)("the PIT's count sets the period of the first tick: %s", (_how, writes, count) => {
    for (const [port, value] of writes) outb(port, value);
    expect(period()).toBe(count * 1_000_000_000n / 1_193_182n);
  });

  test("a period that no kernel wants is not taken", () => {
    const before = period();
    for (const value of [[0x10, 0], [1, 0]] as const) value.forEach((byte) => outb(0x40, byte));
    expect(period()).toBe(before);
  });

  test("PIT channel 2 has always counted down, so that nobody waits for it", () => {
    outb(0x61, 0x01);
    expect(inb(0x61)).toBe(0x21);
    outb(0x61, 0xfc);
    expect(inb(0x61)).toBe(0x2c);
  });

  test("the HPET is read for real; writes are kept until the hand-over", () => {
    chipset.hpet.registers.set(0xf0n, 0x1234_5678n).set(0xf4n, 0x9an);
    expect([call.hpetRead!(0, 4), call.hpetRead!(0xf0, 8), call.hpetRead!(4, 4)]).toEqual([0x8086a201n, 0x9a_1234_5678n, 69841279n]);
    call.hpetWrite!(0x10, 4, 3n);
    call.hpetWrite!(0x100, 4, 0x2cn);
    call.hpetWrite!(0x128, 8, 0x5_0000_0007n);
    expect(chipset.hpet.writes).toEqual([]);
    call.handOverHpet!();
    expect(chipset.hpet.writes).toEqual([{ offset: 0x100n, value: 0x2cn }, { offset: 0x128n, value: 7n }, { offset: 0x10n, value: 3n }]);
  });

  test("a periodic comparator of HPET timer 0 sets the period of the first tick", () => {
    call.hpetWrite!(0x108, 4, 14318n);
    const before = period();
    call.hpetWrite!(0x100, 4, 0x4cn);
    call.hpetWrite!(0x108, 4, 57272n);
    expect(before).toBe(4_000_000n);
    expect(period()).toBe(57272n * 69841279n / 1_000_000n);
  });

  test("only the counter itself is nobody's to set", () => {
    expect([0xf0, 0xf4, 0xec, 0xf8, 0x10].map((offset) => call.isCounter!(offset))).toEqual([true, true, false, false, false]);
  });
});

describe("the clock chip", () => {
  test("is a copy of the real one that is never in the middle of an update", () => {
    for (const [index, value] of [[0, 0], [9, 9], [0xa, 0x26], [0xb, 0xb], [0xc, 0], [0x32, 0x32], [0x7f, 0x7f]] as const) {
      outb(0x70, index);
      expect(inb(0x71)).toBe(value);
    }
  });

  test("keeps what is written, and the real one does not see it", () => {
    outb(0x70, 0x80 | 0x38);
    outb(0x71, 0x99);
    expect([inb(0x70), inb(0x71), chipset.rtc[0x38]]).toEqual([0x38, 0x99, 0x38]);
  });
});

describe("PCI configuration space", () => {
  /** By the instance that does not hold the platform, nor any function. */
  const read = (port: number, size: number): number => call.configIn!(2, false, port, size);
  const select = (address: number): number => call.configOut!(2, false, 0xcf8, 4, address);
  const dword = (bdf: number, offset: number, enable = 0x80000000): number => {
    select((enable | (bdf << 8) | offset) >>> 0);
    return read(0xcfc, 4);
  };
  const ONES = 0xffffffff;

  test("is scanned through the bridges, and every function found with its whole space", () => {
    chipset.pci.address = 0x80001234;
    call.scanPci!(1);
    const found = Array.from({ length: call.functionTotal!() }, (_, i) => Number(machine.memory.read(call.functionAt!(i), 2)));
    expect(found).toEqual([0x0000, 0x0008, 0x00f8, 0x00fa, 0x0118]);
    expect(chipset.pci.address).toBe(0x80001234);
    expect(machine.memory.read(call.functionAt!(3) + 8n + 0xfcn, 4)).toBe(BigInt(0x00fa_00fc));
  });

  test("shows bridges, and an empty slot where anything else is", () => {
    call.scanPci!(1);
    for (const { bdf, id, classCode } of PCI_DEVICES) {
      const bridge = classCode >> 16 === 6;
      expect([bdf, dword(bdf, 0), dword(bdf, 8)]).toEqual([bdf, bridge ? id : ONES, bridge ? ((classCode << 8) | 1) >>> 0 : ONES]);
    }
    expect([dword(0x10, 0), dword(0xff, 0), dword(0x208, 0)]).toEqual([ONES, ONES, ONES]);
  });

  test("is read in bytes and words too, and only while it is enabled", () => {
    call.scanPci!(1);
    select(0x80000800);
    expect([read(0xcfc, 1), read(0xcfd, 1), read(0xcfe, 2), read(0xcf8, 4)]).toEqual([0x86, 0x80, 0x244e, 0x80000800]);
    expect(dword(0x0008, 0, 0)).toBe(ONES);
  });

  test("is not written, and the real address register stays the other instance's", () => {
    call.scanPci!(1);
    machine.portWrites.length = 0;
    dword(0x0008, 4);
    call.configOut!(2, false, 0xcfc, 4, 7);
    expect(dword(0x0008, 4)).toBe(0x0008_0004);
    expect(machine.portWrites).toEqual([]);
  });

  test("needs the address register as a whole", () => {
    call.scanPci!(1);
    select(0x80000800);
    outb(0xcf8, 0);
    call.shadowOut!(0xcf8, 2, 0);
    expect(read(0xcf8, 4)).toBe(0x80000800);
  });
});

describe("ACPI registers", () => {
  test("have status zero and keep what is enabled", () => {
    expect([PM1_EVENT, PM1_EVENT + 1, GPE0, GPE0 + 7].map(inb)).toEqual([0, 0, 0, 0]);
    call.shadowOut!(PM1_EVENT, 2, 0xffff);
    call.shadowOut!(PM1_EVENT + 2, 2, 0x0120);
    for (let i = 0; i < 8; i++) outb(GPE0 + 8 + i, 0x10 + i);
    outb(GPE0, 0xff);
    expect([call.shadowIn!(PM1_EVENT, 2), call.shadowIn!(PM1_EVENT + 2, 2)]).toEqual([0, 0x0120]);
    expect([inb(GPE0), inb(GPE0 + 8), inb(GPE0 + 15), inb(GPE0 + 16)]).toEqual([0, 0x10, 0x17, 0xff]);
  });

  test("say that ACPI is on", () => expect(call.shadowIn!(PM1_CONTROL, 2)).toBe(1));

  test("are handed over with what is enabled, and the PIC's masks with them", () => {
    outb(0x21, 0xfb);
    outb(0x4d1, 0x0c);
    call.shadowOut!(PM1_EVENT + 2, 2, 0x0120);
    outb(GPE0 + 9, 0x42);
    call.configOut!(2, false, 0xcf8, 4, 0x80000800);
    call.handOverLegacy!();
    const last = new Map(machine.portWrites.map(({ port, value }) => [port, value]));
    expect([0x21, 0xa1, 0x4d0, 0x4d1, PM1_EVENT + 2, GPE0 + 9, 0xcf8].map((port) => last.get(port))).toEqual([0xfb, 0xff, 0, 0x0c, 0x0120, 0x42, 0x80000800]);
    expect([PM1_CONTROL, PM1_EVENT, GPE0].some((port) => last.has(port))).toBe(false);
  });
});

describe("a write that ends the instance", () => {
  const [NONE, POWEROFF, RESET] = [0, 1, 2];
  test.each([
    ["SLP_EN in PM1 control", PM1_CONTROL, 2, 0x3401, POWEROFF],
    ["SLP_EN in a 32-bit write", PM1_CONTROL, 4, 0x2000, POWEROFF],
    ["SLP_TYP alone", PM1_CONTROL, 2, 0x1c01, NONE],
    ["SLP_EN elsewhere", PM1_EVENT, 2, 0x2000, NONE],
    ["the keyboard controller's reset pulse", 0x64, 1, 0xfe, RESET],
    ["another keyboard command", 0x64, 1, 0xaa, NONE],
    ["the reset pulse's value as keyboard data", 0x60, 1, 0xfe, NONE],
    ["CF9, as PCI reset is written", 0xcf9, 1, 0x06, RESET],
    ["CF9, only preparing it", 0xcf9, 1, 0x02, NONE],
    ["a port that nobody has", 0x1234, 1, 0xff, NONE],
  ])("%s", (_what, port, size, value, event) => {
    expect(call.shadowOut!(port, size, value)).toBe(event);
    expect(machine.portWrites).toEqual([]);
  });

  test("reads of CF9 and of the keyboard give nothing that stops a kernel", () => {
    expect([inb(0xcf9), inb(0x1234), call.shadowIn!(0x1234, 4)]).toEqual([0, 0xff, 0xffffffff]);
  });
});
