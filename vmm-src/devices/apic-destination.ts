/** Which local APICs an interrupt's destination names (SDM Vol. 3A, 12.6.2 and 12.12.10): real and virtual ones alike. */
import "../../compiler/core/dialect.mjs";
import { DFR_RESET, ICR_LOGICAL, ICR_SHORTHAND, ICR_SHORTHAND_ALL, ICR_SHORTHAND_SELF } from '../machine/apic.ts';

/** What an APIC goes by. */
export type ApicName = {
  id: u32;
  x2apic: boolean;
  /** LDR and DFR; in x2APIC mode the logical id follows from the id. */
  logical: u32;
  model: u32;
};

const XAPIC_BROADCAST: u32 = 0xff;
const X2APIC_BROADCAST: u32 = 0xffffffff;
const LOGICAL_SHIFT: u32 = 24;
const CLUSTER_SHIFT: u32 = 4;
const CLUSTER_MEMBERS: u32 = 15;
const ALL_CLUSTERS: u32 = 15;

function isPhysical(name: ApicName, destination: u32): boolean {
  return destination === name.id || destination === X2APIC_BROADCAST || (!name.x2apic && destination === XAPIC_BROADCAST);
}

/** x2APIC: the cluster in the high half, one of 16 bits in the low one (12.12.10.2). */
function isInX2apicCluster(id: u32, destination: u32): boolean {
  if (destination === X2APIC_BROADCAST) return true;
  return destination >> 16 === id >> CLUSTER_SHIFT && ((destination >> (id & CLUSTER_MEMBERS)) & 1) !== 0;
}

/** Eight bits, one for each APIC; or a cluster and four of its members (12.6.2.2). */
function isLogical(name: ApicName, destination: u32): boolean {
  if (name.x2apic) return isInX2apicCluster(name.id, destination);
  const own: u32 = name.logical >> LOGICAL_SHIFT;
  const common: u32 = own & destination;
  if (name.model === DFR_RESET) return common !== 0;
  const cluster: u32 = (destination >> CLUSTER_SHIFT) & ALL_CLUSTERS;
  return (common & CLUSTER_MEMBERS) !== 0 && (cluster === ALL_CLUSTERS || cluster === own >> CLUSTER_SHIFT);
}

/** Whether a destination names an APIC; of a command or a redirection entry, which have "logical" at the same place. */
export function isNamed(name: ApicName, low: u32, destination: u32): boolean {
  return (low & ICR_LOGICAL) !== 0 ? isLogical(name, destination) : isPhysical(name, destination);
}

/** Whether an interrupt command names an APIC, the sender's own or another. */
export function isCommanded(name: ApicName, isSender: boolean, command: u32, destination: u32): boolean {
  const shorthand: u32 = command & ICR_SHORTHAND;
  if (shorthand === 0) return isNamed(name, command, destination);
  if (shorthand === ICR_SHORTHAND_SELF) return isSender;
  return shorthand === ICR_SHORTHAND_ALL || !isSender;
}
