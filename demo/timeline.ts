import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** As `understudy events --json` prints it. */
export interface VmmEvent {
  sequence: number;
  tick: number;
  event: string;
  instance: number;
  cpu: number;
  /** Of a grant, which kind of resource. */
  a: string;
  text: string;
}

/** An entry of timeline.json. `ticks` is when: the TSC's value, which counts from the machine's start. */
interface Entry {
  event: string;
  instance: number;
  cpu: number;
  ticks: number;
  /** Of a capture or release: how long interrupts were off. */
  pause?: number;
  text?: string;
}

/** What happened, by the VMM's own record, and the pauses that the module has measured. */
export class Timeline {
  private readonly events = new Map<number, VmmEvent>();
  private readonly captures = new Map<number, number>();
  private readonly releases: Entry[] = [];

  add(events: VmmEvent[]): void {
    for (const event of events) this.events.set(event.sequence, event);
  }

  captured(cpu: number, pause: number): void {
    this.captures.set(cpu, pause);
  }

  /** The VMM is gone by then, and can't tell itself. */
  released(instance: number, cpu: number, ticks: number, pause: number): void {
    this.releases.push({ event: "released", instance, cpu, ticks, pause, text: "CPU released" });
  }

  /** The first event of a kind. */
  find(event: string, instance: number): VmmEvent {
    const found = [...this.events.values()].find((one) => one.event === event && one.instance === instance);
    if (!found) throw new Error(`the VMM has noted no event '${event}' of instance ${instance}`);
    return found;
  }

  all(event: string, instance: number): VmmEvent[] {
    return [...this.events.values()].filter((one) => one.event === event && one.instance === instance);
  }

  get entries(): Entry[] {
    const noted = [...this.events.values()].map(({ event, instance, cpu, tick, text }): Entry => {
      const pause = event === "captured" ? this.captures.get(cpu) : undefined;
      return { event, instance, cpu, ticks: tick, ...(pause && { pause }), text };
    });
    return [...noted, ...this.releases].sort((one, other) => one.ticks - other.ticks);
  }

  write(file: string): void {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `[\n${this.entries.map((entry) => `  ${JSON.stringify(entry)}`).join(",\n")}\n]\n`);
  }
}
