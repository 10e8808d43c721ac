/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The instructions on which a CPU goes beneath the VMM and comes back.
 *
 * They lie in the module's own text because every CR3 of the kernel maps that at the same address, and so do
 * the launch tables and the VMM's release tables, whose upper half is the kernel's: whichever of them a CPU
 * comes back on, the next instruction is there. The first thing that it does then is to load the kernel's
 * CR3, which waits in RBX: neither the processor nor the VMM changes RBX, RBP or R12-R15.
 */
#include <linux/linkage.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/ibt.h>
#include <asm/nospec-branch.h>

	.macro SAVE
	pushfq
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	.endm

	.macro RESTORE
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	popfq
	.endm

	.text

/*
 * u64 us_enter(u64 launch_cr3, u64 entry, u32 cpu), interrupts off
 *
 * The entry is at its physical address in the launch tables' identity map. It is "called", but goes on at the
 * landing with the stack as it was before the call: as a guest on the kernel's CR3 with RAX = 0, or, when
 * capture failed, natively and still on the launch tables with RAX = enum us_error.
 */
SYM_FUNC_START(us_enter)
	SAVE
	mov	%rsi, %rax
	mov	%rdi, %r8
	mov	%edx, %edi
	mov	%cr3, %rbx
	mov	%rbx, %rcx
	lea	.Llanding(%rip), %rsi
	mov	%rsp, %rdx
	mov	%r8, %cr3
	ANNOTATE_RETPOLINE_SAFE
	call	*%rax
.Llanding:
	ENDBR
	mov	%rbx, %cr3
	RESTORE
	RET
SYM_FUNC_END(us_enter)

/*
 * struct us_result us_leave(u64 number), interrupts off
 *
 * The hypercall returns to the instruction after it: bare, on tables of the VMM that are about to be freed;
 * or, when it was refused, beneath the VMM as before.
 */
SYM_FUNC_START(us_leave)
	SAVE
	mov	%rdi, %rax
	mov	%cr3, %rbx
	ALTERNATIVE "vmcall", "vmmcall", X86_FEATURE_VMMCALL
	mov	%rbx, %cr3
	RESTORE
	RET
SYM_FUNC_END(us_leave)
