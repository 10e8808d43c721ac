import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type BackEnd, backEnds, programOf } from "./back-ends.ts";
import { GIB, MIB, bytes } from "./firmware.ts";
import { BASE, BUFFER, HYPERCALL, LOAD, type Request, SIZE, boot, booted, reaches, writeRequest } from "./scenario.ts";
import { ANNEX, ANNEX_SIZE, KERNEL_RIP, OK, RDI, RDX, REGION, REGION_SIZE, RSI, STATUS_SIZE, Reason, Vmm } from "./vmm.ts";


/** What a call may change that is refused: the caller's registers, counters, records of what was looked at. */
const VOLATILE = new Set(["vcpus", "ring", "next", "request", "lockOwner"]);

/** A digest of all that the VMM keeps but its large tables, and of what the instances reach by those. */
function digest(vmm: Vmm): string {
  const hash = createHash("sha1");
  const { statics } = programOf(vmm.constructor as BackEnd);
  statics.forEach((one, i) => {
    const at = vmm.loaded.addressOf(one.name);
    const next = statics[i + 1] ? vmm.loaded.addressOf(statics[i + 1]!.name) : at + 4096n;
    if (!VOLATILE.has(one.name) && next > at && next - at < 0x20000n) hash.update(vmm.machine.memory.readBytes(at, Number(next - at)));
  });
  for (const instance of [1, 2]) {
    for (const at of [0n, MIB, REGION - 1n, REGION, BASE - 1n, BASE, BASE + SIZE - 1n, BASE + SIZE, 0xfee00000n, 4n * GIB]) {
      const page = reaches(vmm, instance, at);
      hash.update(page ? `${page.host} ${page.permissions} ${page.type}` : "nothing");
    }
  }
  return hash.digest("hex");
}

/** Expects that a call is refused and that nothing has changed by it. */
function refused(vmm: Vmm, code: string, call: () => number): void {
  const before = digest(vmm);
  const events = vmm.events().length;
  expect(call()).toBe(vmm.result[code]);
  expect(digest(vmm)).toBe(before);
  expect(vmm.events()).toHaveLength(events);
}

describe.each(backEnds)("on %s", (_name, Kind) => {
  const alone = Kind.captured({ apicIds: [0, 1, 2] }, [0, 1]);
  const pair = booted({}, 0b10n, Kind);

  describe("a call", () => {
    test("of a user program is undefined, as on a machine without a VMM", () => {
      const vmm = Kind.captured();
      vmm.enterUserMode(0);
      const before = digest(vmm);
      for (const number of Object.values(HYPERCALL)) {
        expect(vmm.hypercall(0, number, { rdi: BUFFER, rsi: STATUS_SIZE, rdx: 1n })).toBe(number);
        expect([vmm.injected[0], vmm.read(0, "GUEST_RIP")]).toEqual([0x80000306n, KERNEL_RIP]);
      }
      expect(digest(vmm)).toBe(before);
    });

    test.each([0, 1, 0x55530000, 0x5553000f, 0x55540001, 0xffffffff])("with number %i is unknown", (number) => {
      refused(alone, "UNKNOWN", () => alone.hypercall(0, number));
    });

    test("is repeated by the guest when somebody else has the lock and wants this processor", () => {
      const vmm = Kind.captured();
      const lock = vmm.loaded.addressOf("lockHeld");
      const { LEAVE, NONE } = vmm.loaded.enums.Command as Record<string, number>;
      vmm.machine.memory.write(lock, 4, 1n);
      vmm.machine.onPause = () => { vmm.cpu(0).command = LEAVE; };
      expect(vmm.hypercall(0, HYPERCALL.ATTACH)).toBe(HYPERCALL.ATTACH);
      expect([vmm.read(0, "GUEST_RIP"), vmm.machine.memory.read(lock, 4), vmm.events().length]).toEqual([KERNEL_RIP, 1n, 2]);
      vmm.cpu(0).command = NONE;
      vmm.machine.memory.write(lock, 4, 0n);
      expect(vmm.hypercall(0, HYPERCALL.ATTACH)).toBe(OK);
      expect([vmm.read(0, "GUEST_RIP"), vmm.machine.memory.read(lock, 4), vmm.events().length]).toEqual([KERNEL_RIP + 3n, 0n, 3]);
    });

    test.runIf(Kind === Vmm)("that waits for the lock carries out orders meanwhile, and owes nobody the signal", () => {
      const vmm = Kind.captured();
      const lock = vmm.loaded.addressOf("lockHeld");
      const holding = vmm.loaded.addressOf("holding");
      const { memory } = vmm.machine;
      memory.write(lock, 4, 1n);
      memory.write(holding, 4, 1n);
      vmm.cpu(0).command = vmm.loaded.enums.Command!.HOLD!;
      let pauses = 0;
      vmm.machine.onPause = () => {
        if (++pauses === 3) memory.write(holding, 4, 0n);
        if (pauses === 6) memory.write(lock, 4, 0n);
      };
      expect(vmm.hypercall(0, HYPERCALL.ATTACH)).toBe(OK);
      expect(pauses).toBeGreaterThanOrEqual(6);
      const flushed = vmm.machine.processors[0]!.flushes.filter((one) => one.startsWith("ept")).length;
      expect([vmm.cpu(0).command, vmm.cpu(0).held, vmm.cpu(0).strayInits, flushed]).toEqual([0, 0, 1, 2]);
      vmm.exit(0, Reason.INIT);
      expect([vmm.cpu(0).strayInits, vmm.cpu(0).state]).toEqual([0, 1]);
    });
  });

  describe("a buffer", () => {
    const calls = [["STATUS", STATUS_SIZE], ["EVENTS", 16n], ["CONSOLE_READ", 8n], ["CONSOLE_WRITE", 8n], ["BOOT", 2184n]] as const;
    const bad: [string, bigint, bigint | null][] = [
      ["is not page aligned", BUFFER + 8n, null],
      ["is one byte too short", BUFFER, -1n],
      ["is empty", BUFFER, 0n],
      ["is longer than any needs to be", BUFFER, 0x10001n],
      ["is of a length that wraps", BUFFER, 2n ** 64n - 1n],
      ["lies in the VMM's region", REGION, null],
      ["runs into the VMM's region", REGION - 4096n, 0x2000n],
      ["runs out of the VMM's region", REGION + REGION_SIZE - 4096n, 0x2000n],
      ["lies in the VMM's annex", ANNEX, null],
      ["runs into the VMM's annex", ANNEX - 4096n, 0x2000n],
      ["lies where no memory is", 0xa0000n, null],
      ["runs from memory into none", 0x7fef_f000n, 0x2000n],
      ["lies in a device", 0xfee00000n, null],
      ["lies beyond all memory", 16n * GIB, null],
      ["lies at the end of the address space", 2n ** 64n - 4096n, null],
    ];
    test.each(calls)("of %s is refused if it", (name, needed) => {
      const { memory } = alone.machine;
      refused(alone, "BUFFER", () => {
        for (const [what, rdi, length] of bad) {
          const rsi = length === null ? needed : length === -1n ? needed - 1n : length;
          const before = [REGION, ANNEX].map((at) => memory.readBytes(at, 512));
          const result = alone.hypercall(0, HYPERCALL[name], { rdi, rsi, rdx: 2n });
          expect([what, result, [REGION, ANNEX].map((at) => memory.readBytes(at, 512))]).toEqual([what, alone.result.BUFFER, before]);
        }
        return alone.result.BUFFER!;
      });
    });

    test("of the other instance is refused, in both directions", () => {
      for (const [cpu, foreign] of [[0, BASE + 16n * MIB], [1, BUFFER], [0, BASE], [1, MIB], [0, BASE + SIZE - 4096n]] as const) {
        refused(pair, "BUFFER", () => pair.hypercall(cpu, HYPERCALL.STATUS, { rdi: foreign, rsi: STATUS_SIZE }));
      }
      refused(pair, "BUFFER", () => pair.hypercall(0, HYPERCALL.STATUS, { rdi: BASE - 4096n, rsi: 0x3000n }));
    });

    test("in the first MiB of the second instance is its own, not the machine's", () => {
      const { memory } = pair.machine;
      const real = memory.readBytes(0x3000n, 64);
      expect(pair.hypercall(1, HYPERCALL.STATUS, { rdi: 0x3000n, rsi: STATUS_SIZE })).toBe(OK);
      expect(pair.view("Status", BASE + 0x3000n).ownInstance).toBe(2);
      expect(memory.readBytes(0x3000n, 64)).toEqual(real);
      refused(pair, "BUFFER", () => pair.hypercall(1, HYPERCALL.STATUS, { rdi: 0xff000n, rsi: STATUS_SIZE }));
    });
  });

  describe("a boot is refused", () => {
    test.each([
      ["with a range that is not aligned", { memoryBase: BASE + 4096n }, "MEMORY"],
      ["with a size that is not aligned", { memorySize: SIZE - 4096n }, "MEMORY"],
      ["in the first MiB", { memoryBase: 0n }, "MEMORY"],
      ["over the VMM's region", { memoryBase: REGION - 64n * MIB }, "MEMORY"],
      ["in the VMM's region", { memoryBase: REGION, memorySize: REGION_SIZE }, "MEMORY"],
      ["in the VMM's annex", { memoryBase: ANNEX, memorySize: ANNEX_SIZE }, "MEMORY"],
      ["where no memory is", { memoryBase: 2n * GIB }, "MEMORY"],
      ["partly where no memory is", { memoryBase: 0x7000_0000n, memorySize: 512n * MIB }, "MEMORY"],
      ["with a range that wraps", { memorySize: 2n ** 64n - 2n * MIB }, "MEMORY"],
      ["with nothing", { memorySize: 0n }, "TOO_SMALL"],
      ["with too little to live on", { memorySize: 62n * MIB }, "TOO_SMALL"],
      ["without a processor", { cpuMask: 0n }, "CPU"],
      ["with the processor that asks", { cpuMask: 0b11n }, "CPU"],
      ["with a processor that is not captured", { cpuMask: 0b110n }, "CPU"],
      ["with a processor that does not exist", { cpuMask: 0b1010n }, "CPU"],
      ["with a processor beyond all", { cpuMask: 1n << 32n }, "CPU"],
      ["with a kernel outside its range", { kernelAddress: BUFFER }, "TOO_SMALL"],
      ["with no kernel at all", { kernelAddress: BASE + 4n * MIB }, "KERNEL"],
      ["with a command line that does not end", { commandLine: "x".repeat(2048) }, "COMMAND_LINE"],
    ] as [string, Request, string][])("%s", (_what, changes, code) => refused(alone, code, () => boot(alone, changes)));

    test("while a second instance runs, by either", () => {
      writeRequest(pair);
      refused(pair, "BUSY", () => pair.hypercall(0, HYPERCALL.BOOT, { rdi: BUFFER, rsi: 2184n }));
      writeRequest(pair, {}, BASE + 16n * MIB);
      refused(pair, "BUSY", () => pair.hypercall(1, HYPERCALL.BOOT, { rdi: BASE + 16n * MIB, rsi: 2184n }));
    });

    test("when the page-table pool could run out in the middle of it", () => {
      const vmm = Kind.captured();
      for (let at = 4n * GIB; vmm.call.mapTablesFree!(1) >= 24; at += 2n * MIB) vmm.call.unmapRange!(1, at, 4096n);
      refused(vmm, "TABLES", () => boot(vmm));
    });

    test("when the kernel's tables do not fit, with everything given back", () => {
      const vmm = Kind.captured();
      const dsdt = 0x7ff0_0000n;
      vmm.machine.memory.write(dsdt + 4n, 4, 0x90000n);
      vmm.call.knowFunctions!(vmm.cpu(0).vcpu);
      const pieces = (): string[] => Array.from({ length: vmm.call.pieceTotal!() }, (_, i) => vmm.view("Piece", vmm.call.pieceAt!(i))).map(({ base, size, owner }) => `${base} ${size} ${owner}`);
      const before = pieces();
      expect(boot(vmm)).toBe(vmm.result.ACPI);
      expect(pieces()).toEqual(before);
      expect([vmm.instance(2).state, vmm.instance(1).apicGuarded, vmm.call.cpusOf!(1), vmm.cpu(1).state]).toEqual([0, 0, 0b11n, 1]);
      for (const at of [BASE, BASE + SIZE / 2n, BASE + SIZE - 1n]) expect(reaches(vmm, 1, at)).toMatchObject({ host: at, permissions: 7n });
      expect(reaches(vmm, 1, 0xfee00000n)).toMatchObject({ host: 0xfee00000n, permissions: Kind === Vmm ? 7n : 5n });
      expect(vmm.msrExits(1, 0x2ff, true)).toBe(false);
      expect(vmm.events().map(({ type }) => type)).toEqual(["CAPTURED", "CAPTURED"]);
      vmm.machine.memory.write(dsdt + 4n, 4, 50n);
      expect(boot(vmm)).toBe(OK);
    });

    test("not by what the guest writes into its request after the check", () => {
      const vmm = booted({}, 0b10n, Kind);
      vmm.machine.memory.writeBytes(BUFFER, new Uint8Array(2184).fill(0xff));
      expect(vmm.call.memoryOf!(2)).toBe(SIZE);
      expect(vmm.vcpu(1, 2).startRip).toBe(LOAD + 0x200n);
    });
  });

  describe("verbs in the wrong place are refused", () => {
    test.each([
      ["STOP of nobody", 0, "STOP", 2n, "INSTANCE"], ["STOP of oneself", 0, "STOP", 1n, "INSTANCE"], ["STOP of number 0", 0, "STOP", 0n, "INSTANCE"], ["STOP of number 3", 0, "STOP", 3n, "INSTANCE"],
      ["GIVE_BACK of nobody", 0, "GIVE_BACK", 2n, "INSTANCE"], ["GIVE_BACK of oneself", 0, "GIVE_BACK", 1n, "INSTANCE"], ["GIVE_BACK of number 0", 0, "GIVE_BACK", 0n, "INSTANCE"],
      ["RELEASE unannounced", 0, "RELEASE", 0n, "UNKNOWN"], ["RELEASE_BEGIN without the caller", 0, "RELEASE_BEGIN", 0b10n, "CPU"],
    ] as const)("alone: %s", (_what, cpu, name, rdx, code) => refused(alone, code, () => alone.hypercall(cpu, HYPERCALL[name], { rdx })));

    test.each([
      ["STOP of the one with the devices", 1, "STOP", 1n, "INSTANCE"], ["STOP of oneself", 1, "STOP", 2n, "INSTANCE"], ["STOP of number 0xffffffff", 1, "STOP", 0xffffffffn, "INSTANCE"],
      ["GIVE_BACK of one that runs", 0, "GIVE_BACK", 2n, "INSTANCE"], ["GIVE_BACK by the second", 1, "GIVE_BACK", 1n, "INSTANCE"],
      ["TAKE while the first runs", 1, "TAKE", 0n, "BUSY"], ["TAKE by the first", 0, "TAKE", 0n, "BUSY"],
      ["RELEASE_BEGIN by the first", 0, "RELEASE_BEGIN", 0b01n, "BUSY"], ["RELEASE_BEGIN by the second", 1, "RELEASE_BEGIN", 0b10n, "BUSY"],
      ["RELEASE by the first", 0, "RELEASE", 0n, "UNKNOWN"], ["RELEASE by the second", 1, "RELEASE", 0n, "UNKNOWN"],
    ] as const)("beside another: %s", (_what, cpu, name, rdx, code) => refused(pair, code, () => pair.hypercall(cpu, HYPERCALL[name], { rdx })));

    test.each([
      ["alone, of a second that is not there", 0, 2n, "alone"], ["of its own", 0, 1n, "pair"], ["of number 0", 0, 0n, "pair"], ["of number 3", 0, 3n, "pair"], ["of the one that has a real one", 1, 1n, "pair"], ["of its own, by the second", 1, 2n, "pair"],
    ] as const)("a console %s", (_what, cpu, rdx, where) => {
      const vmm = where === "alone" ? alone : pair;
      const rdi = cpu === 0 ? BUFFER : BASE + 16n * MIB;
      for (const number of [HYPERCALL.CONSOLE_READ, HYPERCALL.CONSOLE_WRITE]) refused(vmm, "INSTANCE", () => vmm.hypercall(cpu, number, { rdi, rsi: 4096n, rdx }));
    });
  });

  describe("what the calls answer", () => {
    test("ATTACH is remembered", () => {
      const vmm = Kind.captured();
      expect(vmm.hypercall(1, HYPERCALL.ATTACH)).toBe(OK);
      expect(vmm.events().at(-1)).toMatchObject({ type: "USERSPACE", instance: 1, cpu: 1 });
    });

    test("STATUS shows instances, processors, memory and functions", () => {
      expect(pair.hypercall(0, HYPERCALL.STATUS, { rdi: BUFFER, rsi: STATUS_SIZE })).toBe(OK);
      const status = pair.view("Status", BUFFER);
      expect([status.abiVersion, status.ownInstance, status.cpuCount, status.functionCount, status.tscKhz, status.regionBase, status.regionSize, status.annexBase, status.annexSize]).toEqual(
        [1, 1, 2, 5, 2_000_000, REGION, REGION_SIZE, ANNEX, ANNEX_SIZE]);
      const instances = [0, 1].map((i) => pair.element("InstanceStatus", status.instance, i));
      expect(instances.map(({ state, cpuMask, rangeCount }) => [state, cpuMask, rangeCount])).toEqual([[1, 0b01n, 6], [1, 0b10n, 1]]);
      const own = pair.element("MemoryRange", instances[1]!.range, 0);
      expect([own.base, own.size, own.type]).toEqual([BASE, SIZE, 1]);
      const cpus = [0, 1].map((i) => pair.element("CpuStatus", status.cpu, i)).map(({ apicId, instance, state }) => [apicId, instance, state]);
      expect(cpus).toEqual([[0, 1, 1], [1, 2, 1]]);
      expect(pair.element("FunctionStatus", status.function, 4).id).toBe(0x10d38086);
      expect(status.stillTrapped).toBe(7);
    });

    const events = (vmm: Vmm, from: bigint, room: bigint): { next: bigint; count: number; cpus: number[] } => {
      expect(vmm.hypercall(0, HYPERCALL.EVENTS, { rdi: BUFFER, rsi: 16n + room, rdx: from })).toBe(OK);
      const { nextSequence, count } = vmm.view("EventsHeader", BUFFER);
      return { next: nextSequence, count, cpus: Array.from({ length: count }, (_, i) => Number(vmm.element("Event", BUFFER + 16n, i).b)) };
    };

    test("EVENTS come in order, as many as fit, from where the last ones ended", () => {
      const vmm = Kind.captured();
      for (let i = 0; i < 5; i++) vmm.call.record!(9, 1, 0, 0n, BigInt(i));
      expect(events(vmm, 2n, 32n * 3n)).toEqual({ next: 5n, count: 3, cpus: [0, 1, 2] });
      expect(events(vmm, 5n, 32n * 3n)).toEqual({ next: 7n, count: 2, cpus: [3, 4] });
      expect(events(vmm, 7n, 32n * 3n)).toEqual({ next: 7n, count: 0, cpus: [] });
      expect(events(vmm, 2n, 31n)).toEqual({ next: 2n, count: 0, cpus: [] });
      expect(events(vmm, 100n, 32n)).toMatchObject({ count: 0 });
    });

    test("EVENTS that were overwritten are skipped, the newest 512 are there", () => {
      const vmm = Kind.captured();
      for (let i = 2; i < 600; i++) vmm.call.record!(9, 1, 0, 0n, BigInt(i));
      const all = events(vmm, 0n, 32n * 600n);
      expect([all.next, all.count, all.cpus[0], all.cpus.at(-1)]).toEqual([600n, 512, 88, 599]);
    });

    test("the console goes through both ways, and no further than the buffer", () => {
      const vmm = booted({}, 0b10n, Kind);
      const { memory } = vmm.machine;
      for (const one of "hello from below") vmm.call.uartWrite!(0, one.charCodeAt(0));
      const read = (room: bigint): string => {
        expect(vmm.hypercall(0, HYPERCALL.CONSOLE_READ, { rdi: BUFFER, rsi: 8n + room, rdx: 2n })).toBe(OK);
        return Buffer.from(memory.readBytes(BUFFER + 8n, Number(memory.read(BUFFER, 4)))).toString("latin1");
      };
      memory.writeBytes(BUFFER + 8n, bytes("################"));
      expect([read(5n), Buffer.from(memory.readBytes(BUFFER + 13n, 3)).toString(), read(0n), read(100n), read(100n)]).toEqual(["hello", "###", "", " from below", ""]);
      const write = (text: string, count: number, room: bigint): bigint => {
        memory.write(BUFFER, 4, BigInt(count));
        memory.writeBytes(BUFFER + 8n, bytes(text));
        expect(vmm.hypercall(0, HYPERCALL.CONSOLE_WRITE, { rdi: BUFFER, rsi: 8n + room, rdx: 2n })).toBe(OK);
        return memory.read(BUFFER, 4);
      };
      expect([write("root\n", 5, 100n), write("and more", 0xffffffff, 3n)]).toEqual([5n, 3n]);
      expect(Array.from({ length: 9 }, () => String.fromCharCode(vmm.call.uartRead!(0))).join("")).toBe("root\nand\0");
      expect([write("x".repeat(400), 400, 4000n)]).toEqual([255n]);
    });

    test("registers that carry no answer stay as they were", () => {
      const vmm = Kind.captured();
      vmm.hypercall(0, HYPERCALL.ATTACH, { rdi: 1n, rsi: 2n, rdx: 3n });
      expect([RDI, RSI, RDX].map((register) => vmm.register(0, register))).toEqual([1n, 2n, 3n]);
    });
  });
});
