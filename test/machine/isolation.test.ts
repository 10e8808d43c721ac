import { beforeAll, describe, expect, test } from "vitest";
import { type Instance, type Status, seconds, useSystem } from "../hostile/system.ts";
import { targets } from "./targets.ts";

const ones = 0xffff_ffff_ffff_ffffn;
/** Vectors: invalid opcode, general protection. */
const [ud, gp] = [6n, 13n];

/** Values for a local APIC's ICR. */
const fixed = (vector: number) => 0x4000 | vector;
const lowest = (vector: number) => 0x4100 | vector;
const logical = (vector: number) => 0x4800 | vector;
const [smi, nmi, init, startup] = [0x4200, 0x4400, 0xc500, 0x4608];
const [toAll, toOthers] = [0x80000, 0xc0000];
const to = (destination: number) => destination * (1 << 24);

const hex = (value: bigint | number) => `0x${value.toString(16)}`;
const icr = (destination: number, command: number) => `icr ${hex(to(destination))} ${hex(command)}`;
const other = (instance: Instance) => (3 - instance) as Instance;

describe.each(targets)("two instances on one machine in $name", (target) => {
  const isIntel = target.name === "bochs";
  const system = useSystem({ name: `isolation-${target.name}`, cpus: 2 }, target);
  let status: Status;
  let region: bigint;
  let annex: bigint;
  /** Where each instance keeps a pattern. */
  const memory: Record<Instance, bigint> = { 1: 0n, 2: 0n };

  test("run, each with a pattern in its memory", async () => {
    await system.run("understudy start");
    await system.launchHostile();
    status = await system.status();
    region = BigInt(status.region_base);
    annex = BigInt(status.annex_base);
    expect([status.region_size, status.annex_size]).toEqual([4 << 20, 4 << 20]);
    expect(annex < region ? region - annex : annex - region).toBeGreaterThanOrEqual(BigInt(status.annex_size));
    for (const instance of [1, 2] as const) memory[instance] = (await system.try(instance, `fill ${instance}`)).at as bigint;
    const [range] = status.instances[1]!.ranges;
    expect(memory[2]).toBeGreaterThan(BigInt(range!.base));
    expect(memory[2]).toBeLessThan(BigInt(range!.base) + BigInt(range!.size));
    expect(await system.try(2, "counts")).toEqual({ text: "none" });
  });

  /** After an attack both instances still answer, their memory is as it was, and nobody complains. */
  async function expectUnharmed(): Promise<void> {
    for (const instance of [1, 2] as const) expect(await system.try(instance, `verify ${instance}`)).toMatchObject({ changed: 0n });
    expect(await system.complaints()).toEqual([]);
  }

  /** Tries everything that touches memory at an address that the instance does not hold, and looks for the events that name it. */
  async function expectKeptFrom(instance: Instance, address: bigint): Promise<void> {
    const from = await system.nextEvent();
    const sizes = [1, 2, 4, 8];
    const reads = await system.attack(instance, ...sizes.map((size) => `read ${size} ${hex(address)}`));
    expect(reads).toMatchObject(sizes.map((size) => ({ fault: 0n, value: ones >> BigInt(64 - 8 * size) })));
    const writes = await system.attack(instance, ...sizes.map((size) => `write ${size} ${hex(address)} 0x5a5a5a5a`));
    expect(writes).toMatchObject(sizes.map(() => ({ fault: 0n })));
    // What the VMM does not decode faults.
    const others = await system.attack(instance, `exchange 0 ${hex(address)} 0x5a5a`, `add 0 ${hex(address)} 1`, `copy 64 ${hex(address)}`);
    expect(others).toMatchObject([{ fault: 0n, value: ones }, { fault: gp }, { fault: gp }]);

    const events = (await system.events(from)).filter(({ event }) => event === "memory-violation");
    expect(events.map(({ instance, cpu, a, b }) => ({ instance, cpu, address: a, rip: b }))).toEqual(
      [...reads, ...writes, ...others].map(({ rip }) => ({ instance, cpu: instance - 1, address, rip })),
    );
    await expectUnharmed();
  }

  test("OS 2 can't touch OS 1's memory", () => expectKeptFrom(2, memory[1]));
  test("OS 2 can't touch the VMM's memory", () => expectKeptFrom(2, region + 0x2000n));
  test("OS 2 can't touch the VMM's other memory", () => expectKeptFrom(2, annex + 0x2000n));
  test("OS 1 can't touch OS 2's memory", () => expectKeptFrom(1, memory[2]));
  test("OS 1 can't touch the VMM's memory", () => expectKeptFrom(1, region + 0x2000n));
  test("OS 1 can't touch the VMM's other memory", () => expectKeptFrom(1, annex + 0x2000n));

  test("OS 2 reaches neither the first nor the last word of what is not its own", async () => {
    const [range] = status.instances[1]!.ranges;
    const end = BigInt(range!.base) + BigInt(range!.size);
    for (const address of [BigInt(range!.base) - 8n, end, region, region + BigInt(status.region_size) - 8n, annex, annex + BigInt(status.annex_size) - 8n]) {
      const [, read] = await system.attack(2, `write 8 ${hex(address)} 0`, `read 8 ${hex(address)}`);
      expect(read).toMatchObject({ fault: 0n, value: ones });
    }
    await expectUnharmed();
  });

  test("OS 2 has a first MiB of its own", async () => {
    const before = await system.try(1, "read 8 0x8000");
    const [, read] = await system.attack(2, "write 8 0x8000 0x1234567812345678", "read 8 0x8000");
    expect(read).toMatchObject({ value: 0x1234567812345678n });
    expect(await system.try(1, "read 8 0x8000")).toMatchObject({ value: before.value });
  });

  test("OS 2 can neither execute OS 1's memory nor walk page tables there", async () => {
    const from = await system.nextEvent();
    const [execute, walk] = await system.attack(2, `execute ${hex(memory[1])}`, `walk ${hex(memory[1])}`);
    expect(execute).toMatchObject({ fault: gp });
    expect(walk).toMatchObject({ fault: 0n, value: ones });
    const events = (await system.events(from)).filter(({ event }) => event === "memory-violation");
    expect(events).toMatchObject([{ instance: 2, cpu: 1, a: memory[1], b: memory[1] }, { instance: 2, cpu: 1, a: memory[1] }]);
    await expectUnharmed();
  });

  describe("interrupts", () => {
    const nmis = () => system.run("grep NMI: /proc/interrupts");

    beforeAll(async () => {
      // The faults of the attacks before.
      await system.try(2, "counts");
    });

    /** Sends as one instance, and expects that it was stopped and noted: the ICR's two halves, and where it was written. */
    async function expectStopped(instance: Instance, command: number): Promise<void> {
      const destination = 2 - instance;
      const from = await system.nextEvent();
      const { fault, rip } = await system.try(instance, icr(destination, command));
      expect(fault).toBe(0n);
      const events = (await system.events(from)).filter(({ event }) => event === "ipi-violation");
      expect(events).toMatchObject([{ instance, cpu: instance - 1, a: (BigInt(destination) << 32n) | BigInt(command), b: rip }]);
    }

    const modes = { "a fixed interrupt": fixed(0x44), "a lowest-priority interrupt": lowest(0x45), "an NMI": nmi, "an SMI": smi, "INIT": init, "SIPI": startup };

    for (const [name, command] of Object.entries(modes)) {
      test(`${name} reaches neither CPU from the other instance's`, async () => {
        const before = await nmis();
        await expectStopped(2, command);
        await expectStopped(1, command);
        expect(await system.try(2, "counts")).toEqual({ text: "none" });
        expect(await nmis()).toBe(before);
        await expectUnharmed();
      });
    }

    test("to all others reaches nobody", async () => {
      const before = await nmis();
      const commands = [fixed(0x46), nmi, init, startup].map((command) => icr(0, command | toOthers));
      await system.attack(1, ...commands);
      await system.attack(2, ...commands);
      expect(await system.try(2, "counts")).toEqual({ text: "none" });
      expect(await nmis()).toBe(before);
      await expectUnharmed();
    });

    test("to all CPUs reaches only the sender's own", async () => {
      const before = await nmis();
      const answers = await system.attack(2, icr(0, fixed(0x47) | toAll), icr(0xff, fixed(0x48)), icr(0xff, nmi), "counts");
      expect(answers.at(-1)).toEqual({ text: "v02=0x1 v47=0x1 v48=0x1", v02: 1n, v47: 1n, v48: 1n });
      expect(await nmis()).toBe(before);
      await expectUnharmed();
    });

    test("to a logical id that both have reaches only the sender's own CPU", async () => {
      const answers = await system.attack(2, icr(1, logical(0x49)), icr(0xff, logical(0x4a)), "counts");
      expect(answers.at(-1)).toEqual({ text: "v49=0x1 v4a=0x1", v49: 1n, v4a: 1n });
      // Linux' own rescheduling interrupt, so that it minds nothing.
      await system.attack(1, icr(1, logical(0xfd)), icr(0xff, logical(0xfd)));
      expect(await system.try(2, "counts")).toEqual({ text: "none" });
      await expectUnharmed();
    });

    test("from OS 1's devices do not reach OS 2's CPU, whatever the IOAPIC is told", async () => {
      const [vector, nonMaskable] = [0x4b, 0x400];
      await system.attack(1, `route ${hex(to(1))} ${hex(vector)}`, `route ${hex(to(1))} ${hex(nonMaskable)}`);
      expect(await system.try(2, "counts")).toEqual({ text: "none" });
      await expectUnharmed();
    });
  });

  describe("privileged instructions", () => {
    for (const instance of [1, 2] as const) {
      test.runIf(!isIntel)(`OS ${instance} can't use SVM`, async () => {
        const { text, ...faults } = await system.try(instance, "svm");
        expect(text).toBeTruthy();
        expect(Object.keys(faults)).toHaveLength(8);
        expect(new Set(Object.values(faults))).toEqual(new Set([ud]));
      });

      test.runIf(isIntel)(`OS ${instance} can't use VMX`, async () => {
        const { text, vmxon, ...rest } = await system.try(instance, "vmx");
        expect(text).toBeTruthy();
        expect(vmxon).toBe(gp);
        expect(Object.keys(rest)).toHaveLength(12);
        expect(new Set(Object.values(rest))).toEqual(new Set([ud]));
      });

      test(`OS ${instance} can't move its local APIC, nor turn virtualization on`, async () => {
        const from = await system.nextEvent();
        // IA32_FEATURE_CONTROL, or EFER: OS 1's module is there, so it sees SVME set and may write it.
        const [base, control] = [0x1bn, isIntel ? 0x3an : 0xc0000080n];
        const off = isIntel ? 0n : 1n << 63n;
        const on = isIntel ? 5n : instance === 1 ? 1n << 62n : 0x1d01n;
        const writes = [[base, 0xfee00000n], [base, 0x12345900n], [control, off], [control, on]] as const;
        const answers = await system.attack(instance, ...writes.map(([msr, value]) => `wrmsr ${hex(msr)} ${hex(value)}`));
        expect(answers).toMatchObject(writes.map(() => ({ fault: gp })));
        const events = (await system.events(from)).filter(({ event }) => event === "msr-violation");
        expect(events).toMatchObject(writes.map(([msr], i) => ({ instance, cpu: instance - 1, a: msr | (1n << 32n), b: answers[i]!.rip })));
        await expectUnharmed();
      });

      test(`OS ${instance}'s bad XSETBVs fault, its good ones do not`, async () => {
        // Where XSETBV does not exit, the emulator decides, and QEMU does not look at all that hardware looks at.
        const bad = isIntel ? ["0 0", "0 2", "0 5", "0 0x107", "0 0xffffffffffffffff", "0 0x8000000000000001", "1 7"] : ["0 0", "0 2", "0 0xffffffffffffffff", "1 7"];
        // OS 1 is a live kernel: it must not lose the state that its programs have saved.
        const good = instance === 1 ? (isIntel ? ["0 7"] : []) : ["0 1", "0 3", "0 7"];
        expect(await system.attack(instance, ...bad.map((one) => `xsetbv ${one}`))).toMatchObject(bad.map(() => ({ fault: gp })));
        if (good.length > 0) expect(await system.attack(instance, ...good.map((one) => `xsetbv ${one}`))).toMatchObject(good.map(() => ({ fault: 0n })));
      });

      test(`OS ${instance} changes no memory types, not even its own`, async () => {
        const [before, , after] = await system.attack(instance, "rdmsr 0x2ff", "wrmsr 0x2ff 0", "rdmsr 0x2ff");
        expect(after).toMatchObject({ value: before!.value });
        await expectUnharmed();
      });

      test(`OS ${instance}'s interrupts by x2APIC registers, which are not on, fault`, async () => {
        expect(await system.try(instance, `wrmsr 0x830 ${hex((BigInt(2 - instance) << 32n) | 0x44n)}`)).toMatchObject({ fault: gp });
        await system.try(2, "counts");
      });

      test(`300 wild hypercalls of OS ${instance} do no harm`, async () => {
        const answer = await system.try(instance, `fuzz 4711 300 ${hex(memory[other(instance)])} ${hex(region)} ${other(instance)}`);
        expect(answer).toMatchObject({ faults: 0n, odd: 0n });
        expect(Number(answer.refused)).toBeGreaterThan(150);
        const held = ({ instances }: Status) => instances.map(({ state, cpus, memory }) => ({ state, cpus, memory }));
        expect(held(await system.status())).toEqual(held(status));
        await expectUnharmed();
      });

      test(`OS ${instance} can't have the other's part of the machine by asking for it`, async () => {
        // Boot, take, begin a release, release.
        const answers = await system.attack(instance, ...[8, 10, 2, 3].map((call) => `call ${hex(0x55530000 + call)} 0 0 3`));
        for (const { value } of answers) expect(value).not.toBe(0n);
        await expectUnharmed();
      });
    }

    test("OS 2 can't stop OS 1, nor read or write its console", async () => {
      const { at } = await system.try(2, "page");
      const calls = ["0x55530009 0 0 1", `0x55530006 ${hex(at as bigint)} 4096 1`, `0x55530007 ${hex(at as bigint)} 4096 1`];
      const noSuchInstance = { value: 3n };
      expect(await system.attack(2, ...calls.map((call) => `call ${call}`))).toMatchObject(calls.map(() => noSuchInstance));
      await expectUnharmed();
    });

    test("a program without privileges gets a signal from each of them", async () => {
      const [counts] = await system.json<{ executed: number; illegal: number; other: number }>("ring3 || true");
      // QEMU executes one of VT-x's instructions as nothing, on a bare machine too.
      expect(counts).toMatchObject({ executed: isIntel ? 0 : 1, other: 0 });
      expect(counts!.illegal).toBeGreaterThanOrEqual(300);
    });
  });

  describe("devices", () => {
    test("OS 2 finds no PCI function but bridges, and can't configure any", async () => {
      const { card, cardId, bridgeId } = target;
      const before = await system.attack(1, `config ${hex(card)}`, `config ${hex(card + 4)}`, `config ${hex(card + 0x10)}`);
      expect(before[0]).toMatchObject({ value: BigInt(cardId) });
      expect(await system.attack(2, `config ${hex(card)}`, "config 0x80000000")).toMatchObject([{ value: 0xffffffffn }, { value: BigInt(bridgeId) }]);
      await system.attack(2, `configure ${hex(card + 4)} 0`, `configure ${hex(card + 0x10)} 0xffffffff`);
      const after = await system.attack(1, `config ${hex(card)}`, `config ${hex(card + 4)}`, `config ${hex(card + 0x10)}`);
      expect(after.map(({ value }) => value)).toEqual(before.map(({ value }) => value));
    });

    test("OS 2 does not disturb the configuration address that OS 1 has just written", async () => {
      await system.try(1, "out 4 0xcf8 0x80000008");
      await system.try(2, "config 0x80000010");
      expect(await system.try(1, "in 4 0xcf8")).toMatchObject({ value: 0x80000008n });
    });

    test("OS 2's port writes do not reach OS 1's devices", async () => {
      // Interrupt masks, port 61, the second serial port's settings, the disk.
      const ports = [0x21, 0xa1, 0x61, 0x2fb, 0x1f2];
      // Bit 4 of port 61 toggles by itself.
      const steady = ~0x10n;
      const look = async () => (await system.attack(1, ...ports.map((port) => `in 1 ${hex(port)}`))).map(({ value }) => (value as bigint) & steady);
      const before = await look();
      await system.attack(2, ...ports.map((port) => `out 1 ${hex(port)} 0x5a`));
      expect(await look()).toEqual(before);
      // The clock's alarm.
      const [, alarm] = await system.attack(1, "out 1 0x70 1", "in 1 0x71");
      await system.attack(2, "out 1 0x70 1", "out 1 0x71 0x77");
      const [, after] = await system.attack(1, "out 1 0x70 1", "in 1 0x71");
      expect(after).toMatchObject({ value: alarm!.value });
      // The SMI command.
      await system.attack(2, "out 1 0xb2 1");
      await expectUnharmed();
    });

    test("OS 2 reaches no device's memory, and its IOAPIC is its own", async () => {
      const bar = BigInt((await system.run(`head -n 1 /sys/bus/pci/devices/${target.cardResource}/resource`)).split(" ")[0]!);
      const deviceStatus = `read 4 ${hex(bar + 8n)}`;
      expect(await system.try(1, deviceStatus)).not.toMatchObject({ value: 0xffffffffn });
      expect(await system.try(2, deviceStatus)).toMatchObject({ fault: 0n, value: 0xffffffffn });
      await system.attack(2, "write 4 0xfec00000 0x14", "write 4 0xfec00010 0x77");
      await system.try(1, "write 4 0xfec00000 0x14");
      expect(await system.try(1, "read 4 0xfec00010")).not.toMatchObject({ value: 0x77n });
      await expectUnharmed();
    });
  });

  /** What must be so after OS 2 has gone, whatever way; and another one comes. */
  async function expectGone(): Promise<void> {
    await system.run("understudy stop 2", 60 * seconds);
    expect(await system.run("nproc")).toBe("2");
    expect(await system.try(1, "verify 1")).toMatchObject({ changed: 0n });
    expect(await system.complaints()).toEqual([]);
    await system.launchHostile();
    await system.try(2, "fill 2");
  }

  describe("OS 2 ends alone", () => {
    async function expectEnds(line: string, reason: string): Promise<void> {
      const from = await system.nextEvent();
      await system.sh(`ask 2 '${line}'`, 60 * seconds);
      await system.run("i=0; while understudy status | grep -q 'instance 2 running'; do i=$((i + 1)); [ $i -lt 100 ] || exit 1; usleep 50000; done", 60 * seconds);
      expect((await system.events(from)).filter(({ event }) => event === "stopped")).toMatchObject([{ instance: 2, text: `stopped: ${reason}` }]);
      await expectGone();
    }

    test("by ACPI sleep", () => expectEnds(`out 2 ${hex(target.pm1Control)} 0x2000`, "it powered off"));
    test("by the reset port", () => expectEnds("out 1 0xcf9 6", "it reset"));
    test("by fast reset", () => expectEnds("out 1 0x92 1", "it reset"));
    test("by the keyboard controller's reset", () => expectEnds("out 1 0x64 0xfe", "it reset"));
    test("by a triple fault", () => expectEnds("triple", "triple fault"));
    test("by an interrupt table in foreign memory", () => expectEnds(`idt ${hex(memory[1])}`, "triple fault"));
  });

  describe("stop ends an OS 2", () => {
    async function expectStops(line: string): Promise<void> {
      expect(await system.try(2, line)).toEqual({ text: "gone" });
      await expectGone();
    }

    test("that spins with its interrupts off", () => expectStops("spin"));
    test("that does nothing but hypercalls and breaches", () => expectStops(`storm ${hex(memory[1])}`));
    test("that has sent itself an INIT", async () => {
      await system.run(`ask 2 '${icr(1, init)}' >/dev/null & usleep 200000; kill $! 2>/dev/null; true`);
      await expectGone();
    });
  });

  describe("what the processor itself would refuse faults, and does not bring the VMM down", () => {
    test("in real mode", async () => {
      expect(await system.attack(2, "real 0x10", "real 0x1b")).toMatchObject([{ fault: 0n }, { fault: gp }]);
      await expectUnharmed();
    });

    // On AMD-V, control registers do not exit.
    for (const instance of isIntel ? ([2, 1] as const) : []) {
      test(`in OS ${instance}'s CR4`, async () => {
        // VMXE, which exits, with a reserved bit; without PAE; with VMXE alone.
        const [reserved, pae, alone] = await system.attack(instance, "cr4 0x80002000", "cr4 0x2020", "cr4 0x2000");
        expect([reserved!.fault, pae!.fault, alone!.fault]).toEqual([gp, gp, 0n]);
        await expectUnharmed();
      });

      test(`in OS ${instance}'s CR0`, async () => {
        // NE, which exits, with PE off; with NW on and CD off; in the upper half; alone.
        const answers = await system.attack(instance, "cr0 0x21", "cr0 0x20000020", "cr0 0x100000020", "cr0 0x20");
        expect(answers.map(({ fault }) => fault)).toEqual([gp, gp, gp, 0n]);
        await expectUnharmed();
      });
    }
  });
});
