import { describe, expect, test } from "vitest";
import { seconds, useSystem } from "../hostile/system.ts";
import { targets } from "./targets.ts";

/** What a program said at its end that looked after a processor's registers or traps. */
interface Watch {
  cpu: number;
  rounds: number;
  wrong: number;
  first?: string;
}

const cpu1 = "/sys/devices/system/cpu/cpu1/online";
const offline = `echo 0 > ${cpu1}`;
const online = `echo 1 > ${cpu1}`;

describe.each(targets)("start and vanish on two CPUs that are busy in $name", (target) => {
  const system = useSystem({ name: `under-load-${target.name}`, cpus: 2 }, target);
  // On AMD-V the VMM's own signals are NMIs, and one that arrives with a device's is taken for that one: so the device's go to
  // the CPU that `start` runs on, which signals the other.
  const [nmiTo, nmiCpus] = target.signalsByNmi ? [0, 1] : [0xff, 2];
  const turn = (shift: string) => (target.signalsByNmi ? "taskset 1" : `taskset $((1 + ${shift} % 2))`);
  const cpuStates = async () => (await system.status()).cpus.map(({ state }) => state);

  /** Sends NMIs while `body` runs, to an APIC id (0xff: all CPUs), and expects that each has come to each of that many CPUs. */
  async function withNmis<T>(destination: number, cpus: number, body: () => Promise<T>): Promise<T> {
    await system.try(1, `start-nmis ${destination} ${cpus}`);
    const result = await body();
    const { alive, sent, came } = await system.try(1, "stop-nmis");
    expect(alive, "the last NMI has come").toBe(1n);
    expect(Number(sent)).toBeGreaterThan(100);
    expect(came).toBe(sent);
    return result;
  }

  /** On each CPU, whenever nothing else runs there: the same sum over and over, and programs that look after its registers and traps. Ends with what was wrong. */
  async function withLoad<T>(body: () => Promise<T>): Promise<T> {
    await system.run(`md5sum /bin/busybox > /tmp/sum; rm -f /tmp/stop /tmp/wrong /tmp/rounds*
for cpu in 0 1; do
  (while [ ! -e /tmp/stop ]; do taskset $((1 << cpu)) md5sum -c -s /tmp/sum || echo >> /tmp/wrong; echo >> /tmp/rounds$cpu; done) >/dev/null 2>&1 &
  renice -n 19 $!
  registers $cpu > /tmp/registers$cpu &
  renice -n 19 $!
  traps $cpu > /tmp/traps$cpu &
  renice -n 19 $!
done`);
    const result = await body();
    await system.run("touch /tmp/stop; killall registers traps; wait; [ ! -e /tmp/wrong ]", 120 * seconds);
    const watches = await system.json<Watch>("cat /tmp/registers? /tmp/traps?");
    expect(watches).toMatchObject([0, 1, 0, 1].map((cpu) => ({ cpu, wrong: 0 })));
    for (const { rounds } of watches) expect(rounds).toBeGreaterThan(10);
    for (const cpu of [0, 1]) expect(Number(await system.run(`wc -l < /tmp/rounds${cpu}`))).toBeGreaterThan(2);
    return result;
  }

  test("a hundred times in a row, with load on every CPU and NMIs arriving, lose nothing that is in a register, no trap and no NMI", async () => {
    const cycles = () =>
      system.run(
        `n=0; while [ $n -lt 100 ]; do ${turn("n")} understudy start >/dev/null && ${turn("n / 2")} understudy vanish >/dev/null || break; n=$((n + 1)); done; echo $n`,
        400 * seconds,
      );
    expect(await withLoad(() => withNmis(nmiTo, nmiCpus, cycles))).toBe("100");
    expect(await system.complaints()).toEqual([]);
  });

  test("let a CPU go offline and come online in between, at any time, with load and NMIs", async () => {
    const cycles = () =>
      system.run(
        `n=0; while [ $n -lt 6 ]; do
  taskset 1 understudy start && ${offline} && ${online} && understudy vanish || break
  taskset 1 understudy start && ${offline} && understudy vanish && ${online} || break
  ${offline} && understudy start && ${online} && understudy vanish || break
  n=$((n + 1)); done >/dev/null; echo $n`,
        300 * seconds,
      );
    expect(await withNmis(0, 1, cycles)).toBe("6");
    expect(await system.run("nproc; understudy status")).toMatch(/^2\nbare/);
    expect(await system.complaints()).toEqual([]);
  });

  test("keep a CPU that goes offline and online beneath the VMM, even if it gets NMIs meanwhile", async () => {
    await system.run(`understudy start; ${offline}`);
    await withNmis(0xff, 1, () => system.run("sleep 1"));
    await system.run(online);
    expect(await cpuStates()).toEqual(["running", "running"]);
    await withNmis(0xff, 2, () => system.run("sleep 1"));
    await system.run("understudy vanish");
  });

  test("leave a program its traps that steps up to the release and on behind it", async () => {
    await system.run("understudy start");
    const [vanished] = await system.json<{ result: number; traps: number; wrong: number }>("traps vanish");
    expect(vanished).toEqual({ result: 0, traps: 11, wrong: 0 });
    expect(await system.run("understudy status")).toMatch(/^bare/);
  });

  test("refuse to start while KVM runs a guest, and do it no harm", async () => {
    await system.run(`modprobe ${target.kvm}`);
    const endless = 100_000_000;
    await system.run(`kvm-guest ${endless} > /tmp/guest & while ! ls -l /proc/$!/fd | grep -q kvm-vcpu; do usleep 10000; done`);
    for (const verb of ["check", "start"]) {
      expect(await system.refused(`understudy ${verb}`)).toMatch(target.inUse);
    }
    await system.run("kill -0 $!; kill $!; ! wait $!");
    // KVM that is loaded and idle is no hindrance.
    await system.run("understudy check && understudy start && understudy vanish");
  });

  test("leave virtualization to KVM, whose guest runs", async () => {
    expect(await system.run("kvm-guest")).toMatch(/\{.*\}/);
  });

  test("end with nothing in the logs", async () => {
    expect(await system.complaints()).toEqual([]);
  });
});
