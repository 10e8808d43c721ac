/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* /dev/understudy, and the kernel modules that verbs need. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

/* Loads a kernel module from the usual places; 0 (loaded, or there already) or an errno. */
int load_module(const char *name);
bool module_loaded(const char *name);

/* The device, after loading the module if need be; what fails ends the program. */
int open_device(void);
/* The device if there is one; otherwise -1. */
int try_device(void);
/* The VMM is beneath this kernel, whether CPUID shows it still or not. */
bool captured(void);
/* The device of a kernel that the VMM is beneath; a bare one ends the program. */
int open_captured(void);

/* A hypercall. The buffer is copied in and out. Ends the program if it can't be made at all. */
enum us_error call(int device, uint32_t number, uint64_t argument, void *buffer, size_t length);
const char *error_text(enum us_error error);

/* Ends the program on failure. */
struct us_pauses *get_pauses(int device);
struct us_status *get_status(int device);

#endif
