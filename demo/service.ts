import { grouped } from "./screen.ts";
import { type Machine, runJson } from "./machine.ts";

const port = 80;
const log = "/run/answers";
/** Between an answer and the next question. */
export const intervalMs = 100;

/** The shell commands that start a system's service, a small web server, and its client, which notes every answer. */
export function startService(name: string): string {
  return [
    "ip link set lo up",
    "mkdir -p /srv",
    `echo "${name}, Linux $(uname -r)" >/srv/index.html`,
    `httpd -p 127.0.0.1:${port} -h /srv`,
    `(ask-service ${port} ${intervalMs} ${log} &)`,
  ].join("; ");
}

/** How a service answered between two ticks. */
export interface Service {
  answers: number;
  failures: number;
  longestGap: number;
  ticks: number;
}

export async function reportService(machine: Machine, from: number, to: number): Promise<Service> {
  return (await runJson<Service>(machine, `ask-service --report ${log} ${from} ${to}`))[0]!;
}

export function serviceText({ answers, failures, longestGap }: Service, tscKhz: number): string {
  const failed = failures ? `, ${failures} questions failed` : "";
  return `${grouped(answers)} answers${failed}, the longest time without one ${grouped(longestGap)} ticks (${grouped(longestGap / tscKhz)} ms)`;
}
