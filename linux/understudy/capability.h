/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a machine can do, as text: one `key value` a line, `#` begins a comment. `check --dump` prints it and
 * `check --from` reads it, so that a machine can be judged elsewhere and every refusal be tested.
 *
 *   cpuid.vendor GenuineIntel          cpuid.1.ecx 0x...         cpuid.7.ebx 0x...     cpuid.d.1.eax 0x...
 *   cpuid.80000001.edx 0x...           hypervisor KVMKVMKVM      (only beneath one)
 *   cpu.count 2                        kvm.users 0               (only with kvm_intel loaded)
 *   iommu vt-d                         iommu.limit scalable      (only where the VMM can't drive it)
 *   msr.source module
 *   cpu0.cr4 0x...                     cpu0.msr.3a 0x5           cpu0.msr.480 0x... up to 0x491
 */
#ifndef CAPABILITY_H
#define CAPABILITY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct capabilities;

/* `check` leaves no module loaded behind that was not before; `start` goes on to use it. */
struct capabilities *read_machine(bool keep_module);
struct capabilities *read_dump(const char *path);
void print_dump(const struct capabilities *capabilities);

/* NULL if the dump has no such key. */
const char *capability_text(const struct capabilities *capabilities, const char *key, ...) __attribute__((format(printf, 2, 3)));
/* 0 if the dump has no such key. */
uint64_t capability(const struct capabilities *capabilities, const char *key, ...) __attribute__((format(printf, 2, 3)));

#endif
