import colors from "picocolors";
import { UserError } from "../image/tools.ts";

const isLive = process.stdout.isTTY === true;
/** Without a terminal to draw on, a line says now and then that a step still runs. */
const [firstWord, nextWord] = [2_000, 15_000];

const whoWidth = 6;
const ticksWidth = 15;

/** What a line of the timeline says besides its time. */
export interface Line {
  /** The system that it is about. */
  who?: string;
  what: string;
  /** What it cost, or what came of it. */
  detail?: string;
  /** When, in ticks of the TSC. */
  ticks?: number;
}

export function grouped(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** Prints a run as it goes: a line for each thing that happened, and beneath it what is being waited for. */
export class Screen {
  private readonly began = Date.now();
  private waiting: NodeJS.Timeout | undefined;

  title(text: string, ...rest: string[]): void {
    console.log(`${colors.bold(text)}${rest.map((line) => `\n${line}`).join("")}\n`);
  }

  heading(): void {
    console.log(colors.dim(`${"time".padStart(6)}  ${"TSC ticks".padStart(ticksWidth)}  ${"who".padEnd(whoWidth)}  what`));
  }

  /** Minutes and seconds since this began. */
  elapsed(): string {
    return clock(Date.now() - this.began);
  }

  line({ who = "", what, detail = "", ticks }: Line): void {
    this.clear();
    const time = this.elapsed().padStart(6);
    const at = (ticks === undefined ? "" : grouped(ticks)).padStart(ticksWidth);
    const name = who === "OS 1" ? colors.cyan(who.padEnd(whoWidth)) : who === "OS 2" ? colors.magenta(who.padEnd(whoWidth)) : who.padEnd(whoWidth);
    console.log(`${colors.dim(time)}  ${at}  ${name}  ${what}${detail && `: ${detail}`}`);
  }

  /** A line that belongs to the one above. */
  more(text: string): void {
    this.clear();
    console.log(`${" ".repeat(6 + 2 + ticksWidth + 2 + whoWidth + 2)}${colors.dim(text)}`);
  }

  /** Waits for something, and says meanwhile that it does; an error then tells in which step. */
  async step<T>(who: string, what: string, run: () => Promise<T>): Promise<T> {
    this.wait(who, what);
    try {
      return await run();
    } catch (error) {
      this.line({ who, what: colors.red(`failed: ${what}`) });
      throw new UserError(`in the step "${who && `${who}: `}${what}": ${(error as Error).message}`);
    } finally {
      this.clear();
      clearInterval(this.waiting);
    }
  }

  private wait(who: string, what: string): void {
    const start = Date.now();
    let due = firstWord;
    this.waiting = setInterval(() => {
      const passed = Date.now() - start;
      const text = `${this.elapsed().padStart(6)}  ${"...".padStart(ticksWidth)}  ${who.padEnd(whoWidth)}  ${what} (${Math.floor(passed / 1000)} s)`;
      if (isLive) process.stdout.write(`\r\x1b[K${colors.dim(text)}`);
      else if (passed >= due) {
        console.log(text);
        due += nextWord;
      }
    }, 500);
  }

  private clear(): void {
    if (isLive) process.stdout.write("\r\x1b[K");
  }
}

/** One thing that was looked at, whether it is as it should be, and what the machine said. */
export interface Check {
  name: string;
  good: boolean;
  said: string;
}

export function printChecks(title: string, checks: Check[]): void {
  const width = Math.max(...checks.map(({ name }) => name.length));
  console.log(`\n${colors.bold(title)}`);
  for (const { name, good, said } of checks) console.log(`  ${good ? colors.green("yes") : colors.red("NO ")}  ${name.padEnd(width)}  ${said}`);
}
