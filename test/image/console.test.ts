import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";
import { Console } from "../machine/console.ts";

/** A machine of a few lines: what it is sent is given to `answer`, which may say something. */
class FakeMachine extends Duplex {
  constructor(private readonly answer: (line: string, say: (text: string) => void) => void) {
    super();
  }

  private line = "";

  override _read(): void {}

  override _write(data: Buffer, _encoding: string, done: () => void): void {
    for (const character of data.toString()) {
      this.push(character === "\n" ? "\r\n" : character);
      this.line += character;
      if (character !== "\n") continue;
      this.answer(this.line, (text) => this.push(text));
      this.line = "";
    }
    done();
  }
}

function consoleOf(answer: ConstructorParameters<typeof FakeMachine>[0]): { console: Console; machine: FakeMachine } {
  const machine = new FakeMachine(answer);
  const log = join(mkdtempSync(join(tmpdir(), "console-")), "log");
  return { console: new Console(machine, log, () => " (explained)"), machine };
}

/** What our shell would print for a command line of `sh`, given the command's output. */
const shell = (output: string, status = 0) => (line: string, say: (text: string) => void) => {
  const id = /"<"(\w+)">"/.exec(line)?.[1];
  if (id) say(`<${id}>\r\n${output}\r\n<${id} end ${status}>\r\n<${id} end ${status}>\r\nos1# `);
};

describe("a console", () => {
  test("gives a command's output and status, without its echo", async () => {
    const { console } = consoleOf(shell("one\r\ntwo\r\n", 3));
    expect(await console.sh("whatever")).toEqual({ status: 3, output: "one\ntwo" });
  });

  test("survives a kernel message in the first of the two end marks", async () => {
    const { console } = consoleOf((line, say) => {
      const id = /"<"(\w+)">"/.exec(line)![1];
      say(`<${id}>\r\nall\r\n\r\n<${id} e[ 1.0] oops\r\nnd 0>\r\n<${id} end 0>\r\n`);
    });
    const { status, output } = await console.sh("true");
    expect(status).toBe(0);
    expect(output.startsWith("all\n")).toBe(true);
  });

  test("does not take one command's second end mark for the next one's output", async () => {
    const { console } = consoleOf(shell("same\r\n"));
    await console.sh("a");
    expect((await console.sh("b")).output).toBe("same");
  });

  test("drops escape sequences, also those that arrive in pieces", async () => {
    const { console, machine } = consoleOf(() => {});
    for (const piece of ["os1# \x1b", "[", "6", "nready\x1b[0;1mgo", "\x1b[m\n"]) machine.push(piece);
    expect((await console.expect(/os1# (.*)\n/, 1000))[1]).toBe("readygo");
  });

  test("finds another system's shell", async () => {
    let typed = 0;
    const { console } = consoleOf((line, say) => {
      const mark = /echo "(.*?)""(.*?):/.exec(line);
      // The first attempt falls into the time when nobody listens.
      if (mark && ++typed > 1) say(`${mark[1]}${mark[2]}:os2\r\nos2# `);
    });
    expect(await console.sync(20_000)).toBe("os2");
  }, 30_000);

  test("says what it waited for, and what else is known, when time is up or the machine has gone", async () => {
    const { console, machine } = consoleOf(() => {});
    await expect(console.expect(/never/, 20)).rejects.toThrow("no /never/ on the console within 0.02 s (explained)");
    const waiting = console.expect(/never/, 10_000);
    machine.destroy();
    await expect(waiting).rejects.toThrow("the console was closed while waiting for /never/ (explained)");
  });

  test("logs all that it hears", async () => {
    const { console, machine } = consoleOf(() => {});
    machine.push("hello\r\n");
    await console.expect(/hello/, 1000);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(readFileSync(console.logFile, "utf8")).toBe("hello\r\n");
  });
});
