import type { Socket } from "node:net";

/** What QEMU answers to a command, or says by itself (QEMU Machine Protocol). */
interface Message {
  return?: unknown;
  error?: { desc: string };
  event?: string;
  data?: unknown;
}

/** QEMU's monitor: commands in their order, events as they come. */
export class Monitor {
  readonly events: { event: string; data: unknown }[] = [];
  private rest = "";
  private readonly waiting: ((message: Message) => void)[] = [];

  constructor(private readonly socket: Socket) {
    socket.setEncoding("utf8").on("data", (text: string) => {
      const lines = (this.rest + text).split("\n");
      this.rest = lines.pop()!;
      for (const line of lines.filter((one) => one.trim() !== "")) this.receive(JSON.parse(line) as Message);
    });
    socket.on("error", () => {});
  }

  /** To be called once, before any command. */
  async ready(): Promise<void> {
    await this.execute("qmp_capabilities");
  }

  async execute(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const answer = new Promise<Message>((resolve) => this.waiting.push(resolve));
    this.socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    const { error, return: value } = await answer;
    if (error) throw new Error(`QEMU refused ${command}: ${error.desc}`);
    return value;
  }

  /** What the human monitor prints for a line. */
  async say(line: string): Promise<string> {
    return (await this.execute("human-monitor-command", { "command-line": line })) as string;
  }

  private receive(message: Message): void {
    if (message.event) this.events.push({ event: message.event, data: message.data });
    else if ("return" in message || message.error) this.waiting.shift()?.(message);
  }
}
