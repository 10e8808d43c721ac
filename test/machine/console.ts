import { randomBytes } from "node:crypto";
import { createWriteStream, type WriteStream } from "node:fs";
import type { Duplex } from "node:stream";

/** What a command run in a machine's shell gave. */
export interface ShellResult {
  status: number;
  output: string;
}

/** Times to wait are given for an emulator that has a processor to itself; several may share one. */
export const patience = 3;

/** How much is sent at a time: half of a UART's receive FIFO. */
const chunk = 8;
/** Longer commands go through a file: the shell's line editor takes about 1000 characters. */
const longestLine = 500;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * A machine's serial console: text in, text out, all of it logged to a file as it arrives.
 * What was received and not yet looked at waits in a buffer; `expect` and `sh` take from its front.
 */
export class Console {
  private unread = "";
  private partial = "";
  private readonly log: WriteStream;
  private wake: () => void = () => {};
  private end: string | undefined;
  private readonly decoder = new TextDecoder();

  /**
   * @param stream what the machine writes, and reads
   * @param logFile where everything that it writes goes
   * @param explain adds to an error's message what else is known of the machine
   * @param patience how many times as long as told is waited
   */
  constructor(private readonly stream: Duplex, readonly logFile: string, private readonly explain: () => string = () => "", private readonly patience = 1) {
    this.log = createWriteStream(logFile, { flags: "a" });
    stream.on("data", (data: Buffer) => {
      this.log.write(data);
      this.receive(this.decoder.decode(data, { stream: true }));
    });
    stream.on("error", () => this.ended("the console's connection broke"));
    stream.on("close", () => this.ended("the console was closed"));
  }

  /** Keeps text, without what is meant for a terminal: carriage returns, and the line editor's escape sequences. */
  private receive(text: string): void {
    const raw = this.partial + text;
    this.partial = /\x1b(\[[0-9;?]*)?$/.exec(raw)?.[0] ?? "";
    const whole = raw.slice(0, raw.length - this.partial.length);
    this.unread += whole.replace(/\x1b\[[0-9;?]*[A-Za-z]|\r/g, "");
    this.wake();
  }

  /** Tells those who wait that no more will come. */
  ended(reason: string): void {
    this.end ??= reason;
    this.wake();
  }

  /** Waits for text that matches, and takes everything up to its end. */
  async expect(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
    const deadline = Date.now() + timeoutMs * this.patience;
    for (;;) {
      const match = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, "")).exec(this.unread);
      if (match) {
        this.unread = this.unread.slice(match.index + match[0].length);
        return match;
      }
      const left = deadline - Date.now();
      if (this.end !== undefined) throw new Error(`${this.end} while waiting for ${pattern}${this.explain()}`);
      if (left <= 0) throw new Error(`no ${pattern} on the console within ${(timeoutMs * this.patience) / 1000} s${this.explain()}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => (clearTimeout(timer), resolve());
      });
    }
  }

  /** Writes text, at a pace that a 16-byte receive FIFO survives. */
  async send(text: string): Promise<void> {
    for (let at = 0; at < text.length; at += chunk) {
      if (this.end !== undefined) throw new Error(`${this.end}${this.explain()}`);
      const seen = this.unread.length;
      this.stream.write(text.slice(at, at + chunk));
      // An echo says that the other side keeps up. Where nothing is echoed, time must do.
      for (let waited = 0; waited < 40 && this.unread.length < seen + chunk; waited += 4) await sleep(4);
    }
  }

  /**
   * Finds a shell that waits for input, whichever it is: the same one after an interruption, or that of another
   * system which took over the port. Returns its prompt, as in `os1`.
   */
  async sync(timeoutMs = 60_000): Promise<string> {
    const deadline = Date.now() + timeoutMs * this.patience;
    for (;;) {
      const mark = `sync-${randomBytes(4).toString("hex")}`;
      // Quoted apart, so that the echo of what is typed doesn't look like the answer.
      await this.send(`\x03\necho "${mark.slice(0, 6)}""${mark.slice(6)}:$(hostname)"\n`);
      try {
        const match = await this.expect(new RegExp(`${mark}:(\\S*)\\s+\\S+# `), Math.min(5_000, Math.max((deadline - Date.now()) / this.patience, 1)));
        return match[1]!;
      } catch (error) {
        if (this.end !== undefined || Date.now() >= deadline) throw error;
      }
    }
  }

  /**
   * Runs a command in the shell, in the foreground: what it changes (folder, variables) stays.
   * A status other than 0 is the caller's to judge; a shell that doesn't answer in time is an error.
   */
  async sh(command: string, timeoutMs = 60_000): Promise<ShellResult> {
    const id = randomBytes(4).toString("hex");
    let line = command.trim();
    if (line.length > longestLine || line.includes("\n")) {
      await this.upload(command.trim() + "\n", `/tmp/sh-${id}`, timeoutMs);
      line = `. /tmp/sh-${id}`;
    }
    const quoted = `'${line.replaceAll("'", `'\\''`)}'`;
    // The end is printed twice, in case a kernel message falls into one of them.
    await this.send(`echo "<"${id}">"; eval ${quoted}; _s=$?; echo; for _i in 1 2; do echo "<"${id} end $_s">"; done\n`);
    // After a syntax error the shell forgets the rest of the line.
    const failed = "syntax error[^\\n]*\\n\\S+# $";
    const match = await this.expect(new RegExp(`(?:[^]*<${id}>\\n)?([^]*?)\\n<${id} end (\\d+)>\\n|${failed}`), timeoutMs);
    if (match[2] === undefined) throw new Error(`the shell found a syntax error in: ${command}`);
    return { status: Number(match[2]), output: match[1]!.replace(/\n$/, "") };
  }

  /** Writes text into a file of the machine, in lines short enough for the shell. */
  private async upload(text: string, file: string, timeoutMs: number): Promise<void> {
    const size = 240;
    const encoded = Buffer.from(text).toString("base64");
    for (let at = 0; at < encoded.length; at += size) {
      const { status } = await this.sh(`printf %s '${encoded.slice(at, at + size)}' >>${file}.b64`, timeoutMs);
      if (status !== 0) throw new Error(`can't write ${file} in the machine`);
    }
    await this.sh(`base64 -d ${file}.b64 >${file}; rm ${file}.b64`, timeoutMs);
  }
}
